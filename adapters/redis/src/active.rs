//! A connection in use.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures_util::{StreamExt, stream};
use larder_core::{Error, Result};
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, Value};

use crate::{connection::Connection, error, fence::Identity, keyspace::Route};

/// How many commands are under way to a cluster at once.
const CLUSTER_WINDOW: usize = 128;

pub(crate) struct ActiveConnection {
    connection: Connection,
    /// Set by the first error that shows it, or by the driver.
    broken: Arc<AtomicBool>,
    /// How many replies have come.
    replies: AtomicU64,
    /// Whether the storage has made it.
    own: bool,
    /// This connection last, and those before it that may still be open. Empty without fencing.
    pub(crate) identities: Vec<Identity>,
}

impl ActiveConnection {
    pub(crate) fn new(
        connection: Connection,
        broken: Arc<AtomicBool>,
        own: bool,
        identities: Vec<Identity>,
    ) -> Self {
        Self { connection, broken, replies: AtomicU64::new(0), own, identities }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.connection.is_cluster()
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Sends one command and awaits its reply.
    pub(crate) async fn call(&self, command: &Cmd, route: Route<'_>) -> RedisResult<Value> {
        let seen = self.replies.load(Ordering::Acquire);
        let result = self.connection.clone().call(command, route).await;
        self.notice(seen, &result);
        result
    }

    /// Sends one command and reads its reply.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd, route: Route<'_>) -> Result<T> {
        let reply = self.call(command, route).await;
        let value = reply.and_then(|reply| redis::from_redis_value(reply).map_err(RedisError::from));
        value.map_err(|error| self.error(&error))
    }

    /// Sends all commands, to one server as a pipeline, to a cluster side by side. Returns one reply for
    /// each, in their order.
    pub(crate) async fn send(&self, commands: Vec<(Cmd, Route<'_>)>) -> Vec<RedisResult<Value>> {
        if let [(command, route)] = &commands[..] {
            return vec![self.call(command, *route).await];
        }
        if self.is_cluster() {
            let calls: Vec<_> = commands.iter().map(|(command, route)| self.call(command, *route)).collect();
            return stream::iter(calls).buffered(CLUSTER_WINDOW).collect().await;
        }
        let (count, seen) = (commands.len(), self.replies.load(Ordering::Acquire));
        let mut pipeline = Pipeline::with_capacity(count);
        for (command, _) in commands {
            pipeline.add_command(command);
        }
        let replies: Vec<_> = match self.connection.clone().pipeline(&pipeline).await {
            Ok(replies) => replies.into_iter().map(Value::extract_error).collect(),
            Err(error) => vec![Err(error); count],
        };
        replies.iter().for_each(|reply| self.notice(seen, reply));
        replies
    }

    /// Takes note of a reply to a command that was sent after `seen` replies.
    fn notice(&self, seen: u64, reply: &RedisResult<Value>) {
        let Err(error) = reply else {
            self.replies.fetch_add(1, Ordering::AcqRel);
            return;
        };
        // The cluster's connection mends itself, unless the runtime that it ran on is gone, or it is stuck:
        // after it has lost several nodes at once, the driver may wait for itself.
        let broken = if self.is_cluster() {
            error.is_io_error() && error.to_string().contains("redis_cluster: Unable to")
                || error.is_timeout() && self.replies.load(Ordering::Acquire) == seen
        } else {
            error::breaks_connection(error)
        };
        if broken {
            self.broken.store(true, Ordering::Release);
        }
    }

    /// The error as Larder's. A cluster connection of the caller's may have sent the command before it
    /// was refused.
    pub(crate) fn error(&self, error: &RedisError) -> Error {
        let error = error::from_redis(error);
        if self.own || !self.is_cluster() { error } else { error.partly_applied() }
    }
}
