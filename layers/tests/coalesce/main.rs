//! The guarantees of `Coalesce`, one test per law.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are not tests to clippy.

mod cancellation;
mod failures;
mod grouping;
mod lifecycle;
mod order;
mod probe;
mod stragglers;

use larder_core::{Bytes, Expiry, Key, Result, Storage};
use larder_layers::Coalesce;

use crate::probe::Probe;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// A write of short texts that owns nothing but its place in the queue.
async fn put(storage: &Coalesce<Probe>, name: &str, value: &'static str) -> Result<()> {
    storage.write(&key(name), Bytes::from_static(value.as_bytes()), Expiry::Never).await
}

/// Polls a future once: a write is then queued or under way.
macro_rules! begin {
    ($($future:ident = $call:expr;)+) => {
        $(
            let mut $future = std::pin::pin!($call);
            assert!(futures_util::poll!(&mut $future).is_pending(), concat!(stringify!($future), " did not wait"));
        )+
    };
}

/// Awaits writes that have begun.
macro_rules! all_ok {
    ($($future:ident),+) => { $($future.await.unwrap();)+ };
}
pub(crate) use {all_ok, begin};
