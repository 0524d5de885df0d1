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

/// The login worked.
pub(crate) fn logged_in<B>(protocol: Protocol, admitted: &Admitted) -> Reply<B> {
    let message = match protocol {
        Protocol::Wafer => {
            json!({ (names::MAGIC): 1, "session": { "id": admitted.id, "skey": admitted.skey } })
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

/// A login with a session that is valid already.
pub(crate) fn already<B>() -> Reply<B> {
    reply(StatusCode::OK, &json!({ "code": 0, "message": "the session is valid already" }))
}

/// The login did not work.
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

/// There is no such session: the client logs in and tries once more.
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

/// The session could not be read or saved. Version 1's client ignores the status, so that a body
/// without the magic would look to the mini-program like an answer of the service. Version 2's takes
/// a code of -1 for an invalid session, forgets it and logs in again; any other goes to the
/// mini-program, with the status, and the session is kept for when the store is back.
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
    // It may have credentials in it.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
