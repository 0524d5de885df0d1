//! The requests of a store, and answers that replace those of the server.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use aws_sdk_dynamodb::{
    Client,
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        http::HttpResponse,
        interceptors::{BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextRef},
    },
    error::BoxError,
};
use larder_core::{Error, Store};
use larder_testkit::Must;
use serde_json::{Value, json};

use crate::place::Place;

/// An answer in place of the server's.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The server's own.
    Own,
    /// An error with this HTTP status and code.
    Error(u16, &'static str),
    /// The last items or keys of a batch were not processed, so many of them.
    Unprocessed(usize),
    /// The next request of this operation lacks a permission. Requests of others before it are the server's.
    Denied(&'static str),
}

/// A request: its operation, and its JSON.
pub(crate) type Request = (String, Value);

/// Records the requests of a client, one for each round trip.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wire {
    requests: Arc<Mutex<Vec<Request>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

impl Wire {
    /// Opens a store whose requests go over this wire.
    pub(crate) async fn store(&self, place: &Place, space: &str, more: &str) -> Store {
        let store = self.open(place, space, more).await.must("connect");
        self.requests();
        store
    }

    /// Opens a store, with the requests of opening it.
    pub(crate) async fn open(&self, place: &Place, space: &str, more: &str) -> Result<Store, Error> {
        let client = Client::from_conf(place.sdk().interceptor(self.clone()).build());
        place.config(space, more).connect_with(client).await
    }

    /// The requests since the last call.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers the next requests with these answers, and with none of those before.
    pub(crate) fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = answers.into_iter().collect();
    }
}

/// The items or keys of a batch.
pub(crate) fn batch(request: &Value) -> &[Value] {
    let (_, batch) = of_table(request);
    batch.get("Keys").unwrap_or(batch).as_array().must("a list")
}

/// The table of a batch, and its part of the request.
pub(crate) fn of_table(request: &Value) -> (&String, &Value) {
    request["RequestItems"].as_object().must("a map").iter().next().must("a table")
}

impl Intercept for Wire {
    fn name(&self) -> &'static str {
        "wire"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let target = request.headers().get("x-amz-target").must("the operation");
        let (_, operation) = target.split_once('.').must("the operation");
        let body = serde_json::from_slice(request.body().bytes().must("a body"))?;
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push((operation.to_owned(), body));
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let error = |code| json!({ "__type": code, "message": "hunter2" });
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let (operation, request) = requests.last().must("a request");
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answer =
            answers.pop_front_if(|answer| !matches!(answer, Answer::Denied(other) if other != operation));
        let (status, body) = match answer.unwrap_or(Answer::Own) {
            Answer::Own => return Ok(()),
            Answer::Error(status, code) => (status, error(code)),
            Answer::Denied(_) => (400, error("AccessDeniedException")),
            Answer::Unprocessed(count) => {
                let batch = batch(request);
                let rest = &batch[batch.len() - count..];
                let (table, _) = of_table(request);
                let body = match operation.as_str() {
                    "BatchGetItem" => json!({ "UnprocessedKeys": { table: { "Keys": rest } } }),
                    _ => json!({ "UnprocessedItems": { table: rest } }),
                };
                (200, body)
            }
        };
        *context.response_mut() = HttpResponse::new(status.try_into()?, body.to_string().into());
        Ok(())
    }
}
