//! Sending requests, many at once.

use larder_core::{Action, Condition, Key, ReadOptions, Record, Result};
use redis::{RedisResult, Value};

use crate::{
    client::Client,
    keyspace::{Keyspace, Route},
    request::{Features, Form, Operation, Request, record},
};

/// How many requests go out at once.
pub(crate) const CHUNK: usize = 256;

/// The client, and how keys are named on the server.
pub(crate) struct Driver {
    pub(crate) client: Client,
    pub(crate) keyspace: Keyspace,
    pub(crate) features: Features,
    pub(crate) scan_count: usize,
}

impl Driver {
    pub(crate) fn request<'a>(&'a self, key: &'a Key, operation: Operation<'a>) -> Request<'a> {
        Request { key: self.keyspace.full(key), operation }
    }

    /// Sends all requests, to one server as a pipeline, to a cluster side by side. Returns one reply for
    /// each, in their order.
    pub(crate) async fn exchange(&self, requests: &[Request<'_>]) -> Vec<Result<Value>> {
        let connection = match self.client.acquire().await {
            Ok(connection) => connection,
            Err(error) => return vec![Err(error); requests.len()],
        };
        let first = requests.iter().map(|request| request.form(&self.features));
        let mut waiting: Vec<(usize, Form)> = first.enumerate().collect();
        let mut replies: Vec<RedisResult<Value>> = vec![Ok(Value::Nil); requests.len()];
        while !waiting.is_empty() {
            let command = |&(place, form): &(usize, Form)| {
                let request: &Request<'_> = &requests[place];
                (request.command(form), Route::Key(request.key))
            };
            let sent = connection.send(waiting.iter().map(command).collect()).await;
            let mut refused = Vec::new();
            for ((place, form), reply) in waiting.into_iter().zip(sent) {
                let error = reply.as_ref().err();
                match error.and_then(|error| requests[place].fallback(form, error, &self.features)) {
                    Some(form) => refused.push((place, form)),
                    None => replies[place] = reply,
                }
            }
            waiting = refused;
        }
        let reply = |reply: RedisResult<Value>| reply.map_err(|error| connection.error(&error));
        replies.into_iter().map(reply).collect()
    }

    /// Reads several entries. Not by `MGET`: it answers nil for a key of another type, and an error is
    /// not an absence.
    pub(crate) async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        let mut records: Vec<Result<Option<Record>>> = Vec::with_capacity(keys.len());
        // A touch, if it is all that is asked for: a read would transfer the value.
        let touch = options.touch.filter(|_| !options.value).map(Action::Touch);
        let operation = match &touch {
            Some(touch) => Operation::Change(touch, &Condition::Any),
            None => Operation::Read(options),
        };
        for chunk in keys.chunks(CHUNK) {
            if let Some(error) = records.last().and_then(|last| last.as_ref().err()?.unsent()) {
                records.extend(vec![Err(error); chunk.len()]);
                continue;
            }
            let request = |key| self.request(key, operation);
            let requests: Vec<_> = chunk.iter().map(request).collect();
            let replies = self.exchange(&requests).await;
            records.extend(replies.into_iter().map(|reply| record(options, reply?)));
        }
        records
    }
}
