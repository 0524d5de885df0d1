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
use larder_core::Store;
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
    /// The last items of a batch were not processed, so many of them.
    Unprocessed(usize),
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
        let client = Client::from_conf(place.sdk().interceptor(self.clone()).build());
        let store = place.config(space, more).connect_with(client).await.must("connect");
        self.requests();
        store
    }

    /// The requests since the last call.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers the next requests with these answers.
    pub(crate) fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).extend(answers);
    }
}

/// Larder's table of the request, in a map of requests by table.
fn of_table(requests: &Value) -> (String, Vec<Value>) {
    let (table, items) = requests.as_object().must("a map").iter().next().must("a table");
    (table.clone(), items.as_array().must("a list").clone())
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
        let answer = self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let (status, body) = match answer.unwrap_or(Answer::Own) {
            Answer::Own => return Ok(()),
            Answer::Error(status, code) => (status, json!({ "__type": code, "message": "hunter2" })),
            Answer::Unprocessed(count) => {
                let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
                let (_, last) = requests.last().must("a request");
                let (table, writes) = of_table(&last["RequestItems"]);
                (200, json!({ "UnprocessedItems": { table: writes[writes.len() - count..] } }))
            }
        };
        *context.response_mut() = HttpResponse::new(status.try_into()?, body.to_string().into());
        Ok(())
    }
}
