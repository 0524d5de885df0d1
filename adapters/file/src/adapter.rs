//! Opening by URL, for a registry of adapters.

use larder_core::{Result, Store};

use crate::{Config, SnapshotConfig, is_snapshot};

/// Opens directories and snapshot files by URL, for `larder::Registry`.
#[derive(Clone, Copy, Debug)]
pub struct Adapter;

impl larder_kit::Adapter for Adapter {
    const SCHEMES: &'static [&'static str] = &["file"];
    const URLS: &'static [(&'static str, &'static str)] =
        &[("file:DIR", "a directory with one file per entry"), ("file:FILE.json", "one JSON snapshot file")];

    async fn connect(&self, url: &str) -> Result<Store> {
        crate::connect(url).await
    }

    async fn connect_existing(&self, url: &str) -> Result<Store> {
        if is_snapshot(url)? {
            SnapshotConfig::from_url(url)?.existing().connect().await
        } else {
            Config::from_url(url)?.existing().connect().await
        }
    }
}
