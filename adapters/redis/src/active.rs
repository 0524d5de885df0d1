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
    /// Set by the first error that shows it, or by the driver.
    broken: Arc<AtomicBool>,
    /// How many replies have come.
    replies: AtomicUsize,
    /// This connection last, and those before it that may still be open. Empty without fencing.
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

    /// Sends all commands, to one server as a pipeline, to a cluster side by side. Returns one reply for
    /// each, in their order.
    pub(crate) async fn send(&self, commands: Vec<(Cmd, Route<'_>)>) -> Vec<RedisResult<Value>> {
        let seen = self.replies.load(Ordering::Acquire);
        let replies = self.connection.send(commands).await;
        self.note(seen, &replies);
        replies
    }

    /// Learns from replies whether the connection is broken. Before their commands went out, it had `seen` as many.
    fn note(&self, seen: usize, replies: &[RedisResult<Value>]) {
        let answered = replies.iter().filter(|reply| reply.is_ok()).count();
        let silent = self.replies.fetch_add(answered, Ordering::AcqRel) + answered == seen;
        // The cluster's connection mends itself, unless the runtime that it ran on is gone, or it is stuck:
        // after it has lost several nodes at once, the driver may wait for itself.
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
