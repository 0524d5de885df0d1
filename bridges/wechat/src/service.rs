//! The service: selects the exchange of the protocol for each request, and carries it out.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use larder_core::Error;
use tower_service::Service;

use crate::{
    changes::Changes,
    config::{Config, Opened},
    future::{Answer, ResponseFuture},
    index::Login,
    login::Admitted,
    parameters::{self, Claim, Ticket},
    protocol::Protocol,
    refusal::{Refusal, Rejection},
    reply,
    session::{Ending, Session},
};

/// A service with mini-program sessions, created by [`WechatLayer`](crate::WechatLayer).
#[derive(Clone)]
pub struct WechatService<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> WechatService<S> {
    pub(crate) const fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config }
    }
}

impl<S, RequestBody, ResponseBody> Service<Request<RequestBody>> for WechatService<S>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    RequestBody: Send + 'static,
    ResponseBody: Send + 'static,
{
    type Response = Response<crate::SessionBody<ResponseBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResponseBody, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        let claim = Claim::of(&request);
        let is_login = request.uri().path() == self.config.login_path;
        let claims = match self.config.protocol {
            Protocol::Wafer if is_login => claim.id.is_some() && claim.skey.is_some(),
            // Half a claim is an invalid claim.
            Protocol::Wafer => claim.id.is_some() || claim.skey.is_some(),
            Protocol::Wafer2 => claim.skey.is_some() && !is_login,
        };
        if !claims && !is_login {
            return ResponseFuture::pass(self.inner.call(request));
        }
        // `poll_ready` was called on this service, not on the clone, so this one goes with the request.
        let clone = self.inner.clone();
        let inner = mem::replace(&mut self.inner, clone);
        let config = Arc::clone(&self.config);
        let ticket = Ticket::of(&request);
        parameters::hide(&mut request);
        ResponseFuture::session(Box::pin(async move {
            if claims {
                with_session(config, inner, request, claim, is_login).await
            } else {
                log_in(config, inner, request, ticket).await
            }
        }))
    }
}

/// Handles a request that claims a session.
async fn with_session<S, RequestBody, ResponseBody>(
    config: Arc<Config>,
    mut inner: S,
    mut request: Request<RequestBody>,
    claim: Claim,
    is_login: bool,
) -> Answer<ResponseBody, S::Error>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>>,
{
    let Opened { place, loaded } = match config.open(&claim).await {
        Ok(opened) => opened,
        Err(Rejection::Invalid) => return Ok(reply::invalid(config.protocol)),
        Err(Rejection::Store(error)) => return Ok(unavailable(&config, &error)),
    };
    if is_login {
        return Ok(reply::already());
    }
    let session = Session::new(Arc::clone(&config), place, loaded.fields.clone(), false);
    request.extensions_mut().insert(session.clone());
    let response = inner.call(request).await?;
    let saved = match session.finish() {
        Ending::Destroy => config.store.destroy(session.place(), loaded).await,
        Ending::Save(changes) => config.store.save(session.place(), loaded, &changes).await,
    };
    Ok(match saved {
        Ok(()) => response.map(crate::SessionBody::service),
        Err(error) => unavailable(&config, &error),
    })
}

/// Handles a request on the login path.
async fn log_in<S, RequestBody, ResponseBody>(
    config: Arc<Config>,
    inner: S,
    request: Request<RequestBody>,
    ticket: Ticket,
) -> Answer<ResponseBody, S::Error>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>>,
{
    let mut admitted = match config.admit(&ticket).await {
        Ok(admitted) => admitted,
        Err(refusal) => return Ok(refused(&config, &refusal)),
    };
    let (parts, body) = request.into_parts();
    let login = Login { device: config.store.device(&parts) };
    let request = Request::from_parts(parts, body);
    let changes = if config.login_next {
        match pass_on(&config, inner, request, &admitted).await? {
            Ok(changes) => changes,
            Err(refusal) => return Ok(refused(&config, &refusal)),
        }
    } else {
        Changes::default()
    };
    Ok(match config.establish(&mut admitted, &changes, &login).await {
        Ok(()) => reply::logged_in(config.protocol, &admitted),
        Err(error) => refused(&config, &Refusal::Store(error)),
    })
}

/// Calls the service, which may add fields to the new session or refuse it.
async fn pass_on<S, RequestBody, ResponseBody>(
    config: &Arc<Config>,
    mut inner: S,
    mut request: Request<RequestBody>,
    admitted: &Admitted,
) -> Result<Result<Changes, Refusal>, S::Error>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>>,
{
    let fields = match config.preview(admitted).await {
        Ok(fields) => fields,
        Err(error) => return Ok(Err(Refusal::Store(error))),
    };
    let session = Session::new(Arc::clone(config), admitted.place.clone(), fields, true);
    request.extensions_mut().insert(session.clone());
    let status = inner.call(request).await?.status();
    Ok(if status.is_client_error() || status.is_server_error() {
        session.finish();
        Err(Refusal::Service(status))
    } else {
        match session.finish() {
            Ending::Save(changes) => Ok(changes),
            Ending::Destroy => Err(Refusal::Destroyed),
        }
    })
}

fn unavailable<B>(config: &Config, error: &Error) -> Response<crate::SessionBody<B>> {
    tracing::error!(%error, "a session could not be read or saved");
    reply::unavailable(config.protocol, error)
}

fn refused<B>(config: &Config, refusal: &Refusal) -> Response<crate::SessionBody<B>> {
    match refusal {
        Refusal::Store(error) => tracing::error!(%error, "a login could not be stored"),
        refusal if refusal.status().is_server_error() => tracing::warn!(%refusal, "a login failed"),
        refusal => tracing::debug!(%refusal, "a login was refused"),
    }
    reply::refused(config.protocol, refusal)
}

impl<S: fmt::Debug> fmt::Debug for WechatService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WechatService").field("inner", &self.inner).field("config", &self.config).finish()
    }
}
