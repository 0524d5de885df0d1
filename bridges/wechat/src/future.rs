//! The future of a response.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::future::BoxFuture;
use http::Response;
use pin_project_lite::pin_project;

use crate::body::SessionBody;

pub(crate) type Answer<B, E> = Result<Response<SessionBody<B>>, E>;

pin_project! {
    /// The future of a response of [`WechatService`](crate::WechatService). For a request that does not use a
    /// session, it is the service's own future, without a box.
    pub struct ResponseFuture<F, B, E> {
        #[pin]
        kind: Kind<F, B, E>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<F, B, E> {
        Pass { #[pin] future: F },
        Session { future: BoxFuture<'static, Answer<B, E>> },
    }
}

impl<F, B, E> ResponseFuture<F, B, E> {
    pub(crate) const fn pass(future: F) -> Self {
        Self { kind: Kind::Pass { future } }
    }

    pub(crate) const fn session(future: BoxFuture<'static, Answer<B, E>>) -> Self {
        Self { kind: Kind::Session { future } }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Answer<B, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProjection::Pass { future } => {
                let response = ready!(future.poll(context))?;
                Poll::Ready(Ok(response.map(SessionBody::service)))
            }
            KindProjection::Session { future } => future.as_mut().poll(context),
        }
    }
}

impl<F, B, E> fmt::Debug for ResponseFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
