//! A connection in use.

use std::{
    slice,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use larder_core::Result;
use redis::{Cmd, FromRedisValue, RedisError, RedisResult, Value};

use crate::{connection::Connection, error, fence::Identity, keyspace::Route};

pub(crate) struct ActiveConnection {
    connection: Connection,
    /// Set by the first error that indicates it, or by the driver.
    broken: Arc<AtomicBool>,
    /// The number of replies so far.
    replies: AtomicUsize,
    /// Earlier connections that may still be open, and this one last. Empty without fencing.
    pub(crate) identities: Vec<Identity>,
}

impl ActiveConnection {
    pub(crate) fn new(connection: Connection, broken: Arc<AtomicBool>, identities: Vec<Identity>) -> Self {
        Self { connection, broken, replies: AtomicUsize::new(0), identities }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.connection.is_cluster()
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Sends one command and reads its reply.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: Cmd, route: Route<'_>) -> Result<T> {
        let reply = self.call(command, route).await;
        reply.and_then(|reply| Ok(redis::from_redis_value(reply)?)).map_err(|error| error::from_redis(&error))
    }

    /// Sends one command and returns its reply.
    pub(crate) async fn call(&self, command: Cmd, route: Route<'_>) -> RedisResult<Value> {
        let seen = self.replies.load(Ordering::Acquire);
        let reply = self.connection.call(command, route).await;
        self.note(seen, slice::from_ref(&reply));
        reply
    }

    /// Sends all commands: to one server as a pipeline, to a cluster concurrently. Returns one reply for each, in the
    /// same order.
    pub(crate) async fn send(&self, commands: Vec<(Cmd, Route<'_>)>) -> Vec<RedisResult<Value>> {
        let seen = self.replies.load(Ordering::Acquire);
        let replies = self.connection.send(commands).await;
        self.note(seen, &replies);
        replies
    }

    /// Detects a broken connection from the replies. `seen` is the number of replies before their commands were sent.
    fn note(&self, seen: usize, replies: &[RedisResult<Value>]) {
        let answered = replies.iter().filter(|reply| reply.is_ok()).count();
        let silent = self.replies.fetch_add(answered, Ordering::AcqRel) + answered == seen;
        // The connection to a cluster repairs itself, with two exceptions: its runtime has ended, or it is stuck. After
        // losing several nodes at once, the driver may deadlock.
        let breaks = |error: &RedisError| match self.is_cluster() {
            true if error.is_timeout() => silent,
            true => error.is_io_error() && error.to_string().contains("redis_cluster: Unable to"),
            false => error::breaks_connection(error),
        };
        if replies.iter().filter_map(|reply| reply.as_ref().err()).any(breaks) {
            self.broken.store(true, Ordering::Release);
        }
    }
}
