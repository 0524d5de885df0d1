//! The REST API.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Request, State, WebSocketUpgrade},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, patch, post, put},
};
use serde_json::{Value, json};

use crate::{APPLICATION, Answer, Interaction, Shared, gateway, lock, payload};

/// The flag of a message that only one user sees.
const EPHEMERAL: u64 = 1 << 6;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let bots = Router::new()
        .route("/gateway/bot", get(gateway_of_bot))
        .route("/users/@me", get(async || Json(payload::bot())))
        .route("/oauth2/applications/@me", get(async || Json(payload::application())))
        .route("/applications/{id}/commands", put(set_commands))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), authorized));
    // The gateway is public; the interaction's token authorizes the others.
    let open = Router::new()
        .route("/gateway", get(gateway_url))
        .route("/interactions/{id}/{token}/callback", post(respond))
        .route("/webhooks/{application}/{token}", post(follow_up))
        .route("/webhooks/{application}/{token}/messages/@original", patch(edit_original).get(original));
    Router::new()
        .nest("/api/v10", bots.merge(open))
        .route("/socket", get(socket))
        .fallback(unknown)
        .with_state(shared)
}

impl Shared {
    pub(crate) fn is_token(&self, token: &str) -> bool {
        token.strip_prefix("Bot ").unwrap_or(token) == self.token
    }

    pub(crate) fn gateway_url(&self) -> String {
        format!("ws://{}/socket", self.address)
    }
}

/// An error in Discord's form.
fn refused(status: StatusCode, code: u32, message: &str) -> Response {
    (status, Json(json!({"message": message, "code": code}))).into_response()
}

async fn authorized(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    let token = headers.get(AUTHORIZATION).and_then(|token| token.to_str().ok());
    if token.is_some_and(|token| shared.is_token(token)) {
        next.run(request).await
    } else {
        refused(StatusCode::UNAUTHORIZED, 0, "401: Unauthorized")
    }
}

async fn unknown(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    lock(&shared.unknown).push(format!("{} {}", request.method(), request.uri().path()));
    refused(StatusCode::NOT_FOUND, 0, "404: Not Found")
}

async fn socket(State(shared): State<Arc<Shared>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|socket| gateway::connection(shared, socket))
}

async fn gateway_url(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({"url": shared.gateway_url()}))
}

async fn gateway_of_bot(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let limit = json!({"total": 1000, "remaining": 999, "reset_after": 14_400_000, "max_concurrency": 1});
    Json(json!({"url": shared.gateway_url(), "shards": 1, "session_start_limit": limit}))
}

/// Replaces all commands of the application.
async fn set_commands(
    State(shared): State<Arc<Shared>>,
    Path(application): Path<String>,
    Json(mut commands): Json<Vec<Value>>,
) -> Response {
    if application != APPLICATION {
        return refused(StatusCode::NOT_FOUND, 10_002, "Unknown Application");
    }
    let names = commands.iter().filter_map(|command| command["name"].as_str()).map(str::to_owned);
    *lock(&shared.commands) = names.collect();
    for command in &mut commands {
        for (name, value) in [("id", shared.new_id()), ("version", shared.new_id())] {
            command[name] = json!(value);
        }
        command["application_id"] = json!(APPLICATION);
        // The default type is a slash command.
        if command["type"].is_null() {
            command["type"] = json!(1);
        }
    }
    Json(commands).into_response()
}

/// The first response to an interaction.
async fn respond(
    State(shared): State<Arc<Shared>>,
    Path((id, token)): Path<(String, String)>,
    Json(response): Json<Value>,
) -> Response {
    let mut interactions = lock(&shared.interactions);
    let Some(interaction) = interactions.get_mut(&token).filter(|interaction| interaction.id == id) else {
        return refused(StatusCode::NOT_FOUND, 10_062, "Unknown interaction");
    };
    if interaction.acknowledged {
        let message = "Interaction has already been acknowledged.";
        return refused(StatusCode::BAD_REQUEST, 40_060, message);
    }
    interaction.acknowledged = true;
    match response["type"].as_u64() {
        // A message, or an update of the message with the button.
        Some(4 | 7) => interaction.answer(&shared, &response["data"]),
        // Deferred: the answer comes later.
        Some(5 | 6) => {}
        _ => return refused(StatusCode::BAD_REQUEST, 50_035, "Invalid Form Body"),
    }
    StatusCode::NO_CONTENT.into_response()
}

async fn follow_up(
    State(shared): State<Arc<Shared>>,
    Path((_, token)): Path<(String, String)>,
    Json(message): Json<Value>,
) -> Response {
    answered(&shared, &token, |interaction| interaction.answer(&shared, &message))
}

async fn edit_original(
    State(shared): State<Arc<Shared>>,
    Path((_, token)): Path<(String, String)>,
    Json(message): Json<Value>,
) -> Response {
    answered(&shared, &token, |interaction| interaction.answer(&shared, &message))
}

async fn original(State(shared): State<Arc<Shared>>, Path((_, token)): Path<(String, String)>) -> Response {
    answered(&shared, &token, |_| {})
}

/// Applies `change` to an acknowledged interaction and returns its message.
fn answered(shared: &Shared, token: &str, change: impl FnOnce(&mut Interaction)) -> Response {
    match lock(&shared.interactions).get_mut(token).filter(|interaction| interaction.acknowledged) {
        Some(interaction) => {
            change(interaction);
            Json(interaction.message.clone()).into_response()
        }
        None => refused(StatusCode::NOT_FOUND, 10_015, "Unknown Webhook"),
    }
}

impl Interaction {
    fn answer(&mut self, shared: &Shared, message: &Value) {
        let content = message["content"].as_str().unwrap_or_default().to_owned();
        let rows = message["components"].as_array().into_iter().flatten();
        let buttons = rows.filter_map(|row| row["components"].as_array()).flatten();
        let answer = Answer {
            ephemeral: message["flags"].as_u64().unwrap_or_default() & EPHEMERAL != 0,
            buttons: buttons.filter_map(|button| button["custom_id"].as_str()).map(str::to_owned).collect(),
            content,
        };
        self.message = payload::response(&shared.new_id(), &self.channel, &answer.content);
        // The test may have stopped waiting.
        let _ = self.answers.send(answer);
    }
}
