//! Middleware around all pages.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use larder::Store;
use tokio::time::timeout;

use crate::pages;

/// The time to wait for a sign of life from the storage.
const PATIENCE: Duration = Duration::from_secs(1);

/// The page loads nothing from other sites, runs no script and is shown in no frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// Sets the headers that protect every page.
pub(crate) async fn protect(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // After a sign-out, the button "Back" shows no page of the user.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Refuses a change that a page of another site requests. The cookie's `SameSite=Lax` is the first line of defence:
/// it does not stop other subdomains, or a sign-in with the attacker's own name.
pub(crate) async fn same_origin(request: Request, next: Next) -> Response {
    if request.method().is_safe() || is_same_origin(request.headers()) {
        next.run(request).await
    } else {
        let page =
            pages::notice("Not allowed", "Another site has sent this request.", "/", "Go to the home page");
        (StatusCode::FORBIDDEN, page).into_response()
    }
}

/// Returns whether a page of this site sends the request, or the user without a page.
fn is_same_origin(headers: &HeaderMap) -> bool {
    const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match (text(SITE), text(header::ORIGIN)) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        // Over plain HTTP, browsers send the first header only to this machine.
        (None, Some(origin)) => {
            let (_, host) = origin.split_once("://").unwrap_or_default();
            text(header::HOST) == Some(host)
        }
        // Not a browser, so no other site controls it.
        (None, None) => true,
    }
}

/// Replaces an error by a page. axum-login, axum-messages and tower-sessions respond with a bare 500 if they cannot
/// load or save a session, so this asks the storage for the reason.
pub(crate) async fn explain(State(storage): State<Store>, request: Request, next: Next) -> Response {
    // An empty link is the page itself. A form is not sent twice.
    let again = if request.method().is_safe() { "" } else { "/" };
    let response = next.run(request).await;
    if response.status() != StatusCode::INTERNAL_SERVER_ERROR {
        return response;
    }
    let is_down = timeout(PATIENCE, storage.ping())
        .await
        .map_or(true, |answer| answer.is_err_and(|error| error.is_retryable()));
    if is_down {
        let page = pages::notice(
            "Please try again",
            "We cannot reach our store at the moment. If you were signed in, you still are.",
            again,
            "Try again",
        );
        (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], page).into_response()
    } else {
        let page = pages::notice("Something went wrong", "The error is on our side.", again, "Try again");
        (StatusCode::INTERNAL_SERVER_ERROR, page).into_response()
    }
}
