//! The driver: sends operations, one or many at a time.

use larder_core::{Key, Result};
use redis::Value;

use crate::{
    client::Client,
    keyspace::{Keyspace, Route},
    request::{Features, Form, Operation},
};

/// The maximum number of operations that are sent together.
pub(crate) const CHUNK: usize = 256;

/// A storage on Redis or Valkey.
pub(crate) struct Driver {
    pub(crate) client: Client,
    pub(crate) keyspace: Keyspace,
    pub(crate) features: Features,
    pub(crate) scan_count: usize,
}

impl Driver {
    /// Sends one operation and returns its reply.
    pub(crate) async fn call(&self, key: &Key, operation: Operation<'_>) -> Result<Value> {
        let connection = self.client.acquire().await?;
        let key = self.keyspace.full(key);
        let mut form = operation.form(&self.features);
        loop {
            let command = operation.command(&key, form, &self.features);
            let reply = connection.call(command, Route::Key(&key)).await;
            let error = reply.as_ref().err();
            match error.and_then(|error| operation.fallback(form, error, &self.features)) {
                Some(next) => form = next,
                None => return reply.map_err(|error| self.client.error(&connection, &error)),
            }
        }
    }

    /// Sends all operations: to one server as a pipeline, to a cluster concurrently. Returns one reply for each, in the
    /// same order.
    pub(crate) async fn exchange(&self, operations: Vec<(&Key, Operation<'_>)>) -> Vec<Result<Value>> {
        let connection = match self.client.acquire().await {
            Ok(connection) => connection,
            Err(error) => return vec![Err(error); operations.len()],
        };
        let (keys, operations): (Vec<_>, Vec<_>) =
            operations.into_iter().map(|(key, operation)| (self.keyspace.full(key), operation)).unzip();
        let mut replies = vec![Ok(Value::Nil); keys.len()];
        let first = operations.iter().map(|operation| operation.form(&self.features));
        let mut waiting: Vec<(usize, Form)> = first.enumerate().collect();
        while !waiting.is_empty() {
            let command = |&(place, form): &(usize, Form)| {
                let key: &[u8] = &keys[place];
                (operations[place].command(key, form, &self.features), Route::Key(key))
            };
            let sent = connection.send(waiting.iter().map(command).collect()).await;
            let mut rejected = Vec::new();
            for ((place, form), reply) in waiting.into_iter().zip(sent) {
                let error = reply.as_ref().err();
                match error.and_then(|error| operations[place].fallback(form, error, &self.features)) {
                    Some(form) => rejected.push((place, form)),
                    None => replies[place] = reply.map_err(|error| self.client.error(&connection, &error)),
                }
            }
            waiting = rejected;
        }
        replies
    }
}
