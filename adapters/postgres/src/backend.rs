//! Which process of the server runs a connection's statements.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
};

use deadpool_postgres::{ClientWrapper, StatementCache};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    CancelToken,
    tls::{ChannelBinding, TlsConnect, TlsStream},
};

use crate::queries::Query;

/// What is known about a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Identity {
    /// Whether the server itself is at the other end. Behind a pooler the next statement may run in
    /// another process, where a prepared statement's name may mean another statement.
    pub(crate) direct: bool,
}

/// Asks for all of [`Identity`].
pub(crate) fn query() -> Query {
    Query { text: "SELECT pg_backend_pid()".to_owned(), types: Vec::new() }
}

impl Identity {
    /// Evaluates the answer to [`query`] on the connection with this token.
    pub(crate) async fn new(rows: &[tokio_postgres::Row], token: &CancelToken) -> Self {
        let pid = rows.first().and_then(|row| row.try_get(0).ok());
        Self { direct: pid.is_some() && announced_pid(token).await == pid }
    }
}

/// The process that the other end named when the connection was made. A pooler names one that it has
/// made up: it has to tell its clients apart when they cancel a statement.
async fn announced_pid(token: &CancelToken) -> Option<i32> {
    // The driver keeps the number to itself, but writes it into a request to cancel: a code of four
    // bytes, the number, and a secret. This request goes nowhere.
    let mut request = Vec::new();
    token.cancel_query_raw(Recorder(&mut request), Unencrypted).await.ok()?;
    let (_, tail) = request.split_last_chunk::<8>()?;
    tail.first_chunk::<4>().map(|pid| i32::from_be_bytes(*pid))
}

/// A stream that keeps what is written, and agrees to TLS where that is asked for.
struct Recorder<'a>(&'a mut Vec<u8>);

impl AsyncRead for Recorder<'_> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        buf.put_slice(b"S");
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Recorder<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for Recorder<'_> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

struct Unencrypted;

impl<'a> TlsConnect<Recorder<'a>> for Unencrypted {
    type Stream = Recorder<'a>;
    type Error = Infallible;
    type Future = Ready<Result<Recorder<'a>, Infallible>>;

    fn connect(self, stream: Recorder<'a>) -> Self::Future {
        ready(Ok(stream))
    }
}

/// What is known about the connections of a pool. A connection's cache of statements stands for the
/// connection, which lives as long and has no room for more.
#[derive(Default)]
pub(crate) struct Identities(Mutex<HashMap<usize, (Weak<StatementCache>, Identity)>>);

impl Identities {
    pub(crate) fn get(&self, client: &ClientWrapper) -> Option<Identity> {
        self.lock().get(&address(client)).map(|(_, identity)| *identity)
    }

    pub(crate) fn insert(&self, client: &ClientWrapper, identity: Identity) {
        let mut identities = self.lock();
        // As long as there is a reference, no other connection's cache is at the same address.
        identities.retain(|_, (cache, _)| cache.strong_count() > 0);
        identities.insert(address(client), (Arc::downgrade(&client.statement_cache), identity));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<usize, (Weak<StatementCache>, Identity)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address(client: &ClientWrapper) -> usize {
    Arc::as_ptr(&client.statement_cache).addr()
}
