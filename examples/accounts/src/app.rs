//! The pages and actions of the website.

use std::cmp::Reverse;

use axum::{
    Form, Router,
    extract::{DefaultBodyLimit, FromRequestParts, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    middleware,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use axum_login::{
    AuthManagerLayerBuilder,
    tower_sessions::{Expiry, SessionManagerLayer, cookie::SameSite},
};
use axum_messages::{Messages, MessagesManagerLayer};
use larder::Store;
use larder_tower_sessions::LarderStore;
use maud::Markup;
use serde::Deserialize;
use time::Duration;

use crate::{
    devices::{self, DEVICE},
    guard, pages,
    users::{Credentials, User, Users},
};

type AuthSession = axum_login::AuthSession<Users>;

/// The name of the counter in a session.
const COUNT: &str = "count";

/// The largest form, in bytes.
const LARGEST_FORM: usize = 4096;

/// Returns the website, with its sessions in `storage`.
pub(crate) fn router(storage: &Store) -> larder::Result<Router> {
    let store = devices::sessions(storage)?;
    let sessions = SessionManagerLayer::new(store.clone())
        .with_name("accounts")
        // `Strict` would show the sign-in to a user who follows a link from another site.
        .with_same_site(SameSite::Lax)
        // Only because this example uses plain HTTP. By default the cookie requires HTTPS.
        .with_secure(false)
        // Every request is a use of the device, and a session ends a week after its last use.
        .with_always_save(true)
        .with_expiry(Expiry::OnInactivity(Duration::weeks(1)));
    let pages = Router::new()
        .route("/", get(home))
        .route("/count", post(count))
        .route("/sign-in", get(sign_in_page).post(sign_in))
        .route("/sign-out", post(sign_out))
        .route("/settings", get(settings))
        .route("/settings/sign-out", post(sign_out_device))
        .route("/settings/sign-out-others", post(sign_out_others))
        .route("/settings/sign-out-everywhere", post(sign_out_everywhere))
        .with_state(store)
        .layer(DefaultBodyLimit::max(LARGEST_FORM))
        .route_layer(MessagesManagerLayer)
        .route_layer(AuthManagerLayerBuilder::new(Users::demo(), sessions).build());
    // The rest needs no session.
    Ok(pages
        .route("/style.css", get(async || file("text/css", include_str!("style.css"))))
        .route("/icon.svg", get(async || file("image/svg+xml", include_str!("icon.svg"))))
        .fallback(async || {
            let page = pages::notice("Not found", "There is no page here.", "/", "Go to the home page");
            (StatusCode::NOT_FOUND, page)
        })
        .layer(middleware::from_fn(guard::same_origin))
        .layer(middleware::from_fn_with_state(storage.clone(), guard::explain))
        .layer(middleware::from_fn(guard::protect)))
}

fn file(kind: &'static str, content: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=3600")], content)
}

/// A visitor who is signed in. Others are sent to the sign-in.
struct SignedIn {
    user: User,
    auth: AuthSession,
}

impl<S: Send + Sync> FromRequestParts<S> for SignedIn {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let auth = AuthSession::from_request_parts(parts, state).await;
        let auth = auth.map_err(IntoResponse::into_response)?;
        match auth.user.clone() {
            Some(user) => Ok(Self { user, auth }),
            None => Err(Redirect::to("/sign-in").into_response()),
        }
    }
}

async fn home(SignedIn { user, auth }: SignedIn, messages: Messages) -> Result<Markup, Failure> {
    Ok(pages::home(&user.name, counted(&auth).await?, messages))
}

async fn count(SignedIn { auth, .. }: SignedIn, messages: Messages) -> Result<Redirect, Failure> {
    let count = counted(&auth).await? + 1;
    auth.session.insert(COUNT, count).await?;
    messages.success(format!("Counted to {count}."));
    Ok(Redirect::to("/"))
}

async fn counted(auth: &AuthSession) -> Result<u64, Failure> {
    Ok(auth.session.get_value(COUNT).await?.and_then(|count| count.as_u64()).unwrap_or(0))
}

async fn sign_in_page(auth: AuthSession, messages: Messages) -> Response {
    match auth.user {
        Some(_) => Redirect::to("/").into_response(),
        None => pages::sign_in(messages).into_response(),
    }
}

async fn sign_in(
    mut auth: AuthSession,
    messages: Messages,
    headers: HeaderMap,
    Form(credentials): Form<Credentials>,
) -> Result<Redirect, Failure> {
    let Some(user) = auth.authenticate(credentials).await? else {
        messages.error("The name or the password is wrong.");
        return Ok(Redirect::to("/sign-in"));
    };
    if auth.user.is_some() {
        // The session of one user does not become the session of another.
        end(&mut auth).await?;
    }
    auth.login(&user).await?;
    auth.session.insert(DEVICE, devices::label(&headers)).await?;
    messages.success(format!("Welcome, {}.", user.name));
    Ok(Redirect::to("/"))
}

async fn sign_out(mut auth: AuthSession, messages: Messages) -> Result<Redirect, Failure> {
    end(&mut auth).await?;
    messages.success("You are signed out.");
    Ok(Redirect::to("/sign-in"))
}

/// Ends the session of this device. A message for the next page goes into a new session.
async fn end(auth: &mut AuthSession) -> Result<(), Failure> {
    auth.logout().await?;
    // Otherwise tower-sessions would give the new session the old id.
    auth.session.cycle_id().await?;
    Ok(())
}

async fn settings(
    State(store): State<LarderStore>,
    SignedIn { user, auth }: SignedIn,
    messages: Messages,
) -> Result<Markup, Failure> {
    let here = here(&auth);
    let mut devices = store.sessions_of(&user.name).await?;
    devices.sort_by_key(|device| (device.handle() != here, Reverse(device.used())));
    Ok(pages::settings(&user.name, &devices, &here, messages))
}

/// Returns the handle of this device's session.
fn here(auth: &AuthSession) -> String {
    auth.session.id().map(LarderStore::handle).unwrap_or_default()
}

#[derive(Deserialize)]
struct Device {
    handle: String,
}

async fn sign_out_device(
    State(store): State<LarderStore>,
    SignedIn { user, auth }: SignedIn,
    messages: Messages,
    Form(Device { handle }): Form<Device>,
) -> Result<Redirect, Failure> {
    if handle == here(&auth) {
        return sign_out(auth, messages).await;
    }
    // Only a session of this user, whatever the form contains.
    if store.delete_session_of(&user.name, &handle).await? {
        messages.success("The device is signed out.");
    } else {
        messages.info("The device was already signed out.");
    }
    Ok(Redirect::to("/settings"))
}

async fn sign_out_others(
    State(store): State<LarderStore>,
    SignedIn { user, auth }: SignedIn,
    messages: Messages,
) -> Result<Redirect, Failure> {
    match store.delete_others_by_owner(&user.name, &here(&auth)).await? {
        0 => messages.info("You were not signed in anywhere else."),
        1 => messages.success("One other device is signed out."),
        count => messages.success(format!("{count} other devices are signed out.")),
    };
    Ok(Redirect::to("/settings"))
}

async fn sign_out_everywhere(
    State(store): State<LarderStore>,
    SignedIn { user, mut auth }: SignedIn,
    messages: Messages,
) -> Result<Redirect, Failure> {
    store.delete_by_owner(&user.name).await?;
    end(&mut auth).await?;
    messages.success("You are signed out everywhere.");
    Ok(Redirect::to("/sign-in"))
}

/// An error on this side. [`guard::explain`] writes the page.
struct Failure(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        // The operator gets the reason; the visitor does not.
        tracing::error!("{:#}", self.0);
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}
