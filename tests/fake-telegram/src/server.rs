//! The server: `/bot<token>/<method>` in, `{"ok":…}` out.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use crate::{Failure, TOKEN, methods, shared::Shared};

pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = Router::new().fallback(answer).with_state(shared);
    // axum never returns an error here.
    let _ = axum::serve(listener, router).await;
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri, body: Bytes) -> Response {
    match call(&shared, uri.path(), &body).await {
        Ok(result) => Json(json!({ "ok": true, "result": result })).into_response(),
        Err(failure) => {
            let code = StatusCode::from_u16(failure.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (code, Json(failure.body())).into_response()
        }
    }
}

async fn call(shared: &Shared, path: &str, body: &[u8]) -> Result<Value, Failure> {
    let not_found = || Failure::new(404, "Not Found");
    let (token, method) =
        path.strip_prefix("/bot").and_then(|rest| rest.split_once('/')).ok_or_else(not_found)?;
    if token != TOKEN {
        return Err(Failure::new(401, "Unauthorized"));
    }
    if let Some(failure) = shared.change(|state| state.failure_of(method)) {
        return Err(failure);
    }
    let parameters = parameters(body)?;
    match method.to_ascii_lowercase().as_str() {
        "getme" => Ok(methods::get_me()),
        "getwebhookinfo" => Ok(methods::get_webhook_info(shared)),
        "deletewebhook" => Ok(methods::delete_webhook(shared, &parameters)),
        "getupdates" => methods::get_updates(shared, &parameters).await,
        "sendmessage" => methods::send_message(shared, &parameters),
        "sendchataction" => methods::send_chat_action(shared, &parameters),
        "answercallbackquery" => methods::answer_callback_query(shared, &parameters),
        _ => Err(not_found()),
    }
}

/// The parameters of a call, as JSON: teloxide sends a form only for a method that uploads a file.
fn parameters(body: &[u8]) -> Result<Map<String, Value>, Failure> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(body)
        .map_err(|_| Failure::bad_request("can't parse request: JSON object expected"))
}
