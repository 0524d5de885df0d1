//! Opening by URL, for a registry of adapters.

use larder_core::{Result, Store};

/// Opens stores in memory by URL, for `larder::Registry`.
#[derive(Clone, Copy, Debug)]
pub struct Adapter;

impl larder_kit::Adapter for Adapter {
    const SCHEMES: &'static [&'static str] = &["memory"];
    const URLS: &'static [(&'static str, &'static str)] =
        &[("memory:", "an empty store, which ends with the process")];

    async fn connect(&self, url: &str) -> Result<Store> {
        crate::connect(url).await
    }

    async fn connect_existing(&self, url: &str) -> Result<Store> {
        // Opening creates nothing.
        crate::connect(url).await
    }
}
