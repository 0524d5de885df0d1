//! Opening by URL, for a registry of adapters.

use larder_core::{Result, Store};

use crate::endpoint::SCHEME_NAMES;

/// Opens Redis and Valkey databases by URL, for `larder::Registry`.
#[derive(Clone, Copy, Debug)]
pub struct Adapter;

impl larder_kit::Adapter for Adapter {
    const SCHEMES: &'static [&'static str] = SCHEME_NAMES;
    const URLS: &'static [(&'static str, &'static str)] = &[
        ("redis://HOST[:PORT][/DB]", "a Redis or Valkey server (TLS: rediss://)"),
        ("redis-cluster://HOST:PORT,...", "a cluster"),
        ("redis-sentinel://HOST:PORT,.../MASTER", "the master that Sentinels name"),
    ];

    async fn connect(&self, url: &str) -> Result<Store> {
        crate::connect(url).await
    }

    async fn connect_existing(&self, url: &str) -> Result<Store> {
        // Opening creates nothing.
        crate::connect(url).await
    }
}
