//! The messages of the protocol.

use http::{HeaderValue, Response, StatusCode, header};
use larder_core::{Error, clock};
use serde_json::{Value, json};

use crate::{
    body::SessionBody,
    login::Admitted,
    names,
    protocol::Protocol,
    refusal::{Refusal, STORE, store_status},
};

type Reply<B> = Response<SessionBody<B>>;

/// The response to a successful login.
pub(crate) fn logged_in<B>(protocol: Protocol, admitted: &Admitted) -> Reply<B> {
    let message = match protocol {
        Protocol::Wafer => {
            json!({ (names::MAGIC): 1, "session": { "id": admitted.place.id, "skey": admitted.skey } })
        }
        Protocol::Wafer2 => json!({
            "code": 0,
            "data": {
                "skey": admitted.skey,
                "userinfo": admitted.user_info,
                "time": clock::unix_millis() / 1000,
            },
        }),
    };
    reply(StatusCode::OK, &message)
}

/// The response to a login with a session that is still valid.
pub(crate) fn already<B>() -> Reply<B> {
    reply(StatusCode::OK, &json!({ "code": 0, "message": "the session is valid already" }))
}

/// The response to a refused login.
pub(crate) fn refused<B>(protocol: Protocol, refusal: &Refusal) -> Reply<B> {
    let message = refusal.to_string();
    let message = match protocol {
        Protocol::Wafer => {
            json!({ (names::MAGIC): 1, "error": names::LOGIN_FAILED, "message": message })
        }
        Protocol::Wafer2 => json!({ "code": -1, "error": refusal.name(), "message": message }),
    };
    reply(refusal.status(), &message)
}

/// The response to an invalid session: the client logs in and retries once.
pub(crate) fn invalid<B>(protocol: Protocol) -> Reply<B> {
    let message = "the session has expired or is not valid; log in again";
    match protocol {
        Protocol::Wafer => reply(
            StatusCode::OK,
            &json!({ (names::MAGIC): 1, "error": names::INVALID_SESSION, "message": message }),
        ),
        Protocol::Wafer2 => reply(
            StatusCode::UNAUTHORIZED,
            &json!({ "code": -1, "error": names::SKEY_INVALID, "message": message }),
        ),
    }
}

/// The response if the session could not be read or saved. Version 1's client ignores the status, and would
/// take a body without the magic for a response of the service. Version 2's client takes a code of -1 for an
/// invalid session, deletes it and logs in again. With any other code it keeps the session until the store
/// works again, and passes the response and its status to the mini-program.
pub(crate) fn unavailable<B>(protocol: Protocol, error: &Error) -> Reply<B> {
    let message = match protocol {
        Protocol::Wafer => json!({ (names::MAGIC): 1, "error": names::CHECK_LOGIN_FAILED, "message": STORE }),
        Protocol::Wafer2 => json!({ "code": 1, "error": names::CHECK_LOGIN_FAILED, "message": STORE }),
    };
    reply(store_status(error), &message)
}

fn reply<B>(status: StatusCode, message: &Value) -> Reply<B> {
    let mut response = Response::new(SessionBody::message(message.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    // The body may contain credentials.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
