//! `Session` as an axum extractor.

use std::convert::Infallible;

use axum_core::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};

use crate::Session;

/// The request has no session. The response is 401. (A request with an expired session does not reach the
/// extractor: the layer responds to it, and the client logs in again.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotLoggedIn;

impl IntoResponse for NotLoggedIn {
    fn into_response(self) -> Response {
        (StatusCode::UNAUTHORIZED, "not logged in").into_response()
    }
}

impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = NotLoggedIn;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, NotLoggedIn> {
        parts.extensions.get::<Self>().cloned().ok_or(NotLoggedIn)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Session {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}
