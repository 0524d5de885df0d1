//! The sessions of the tests.

#![allow(dead_code)] // No test uses all of it.

use std::time::Duration;

use larder_core::{Bytes, Codec, Expiry, Json, Result, Store};
use larder_web_sessions::{Session, Sessions};
use serde::{Deserialize, Serialize};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Visit {
    pub(crate) owner: Option<String>,
    pub(crate) device: Option<String>,
    pub(crate) count: u64,
}

impl Visit {
    /// Returns a session without an owner.
    pub(crate) fn new(count: u64) -> Self {
        Self { owner: None, device: None, count }
    }

    /// Returns a session of this owner.
    pub(crate) fn of(owner: &str, count: u64) -> Self {
        Self { owner: Some(owner.to_owned()), ..Self::new(count) }
    }

    pub(crate) fn on(self, device: &str) -> Self {
        Self { device: Some(device.to_owned()), ..self }
    }
}

impl Session for Visit {
    type Data = Self;

    fn data(&self) -> &Self {
        self
    }

    fn encode(&self, _: Option<&str>) -> Result<Bytes> {
        Json.encode(self)
    }

    fn decode(value: &[u8], _: Option<&str>) -> Result<Self> {
        Json.decode(value)
    }
}

/// Returns sessions in this store, with an index of their owners.
pub(crate) fn sessions(store: impl Into<Store>) -> Sessions<Visit> {
    Sessions::new(store.into())
        .unwrap()
        .with_owner(|visit: &Visit| visit.owner.clone())
        .with_device(|visit: &Visit| visit.device.clone())
}

/// Returns the expiry of a session that was used now.
pub(crate) fn in_an_hour() -> Expiry {
    Expiry::After(HOUR)
}
