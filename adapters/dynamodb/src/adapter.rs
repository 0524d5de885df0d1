//! Opening by URL, for a registry of adapters.

use larder_core::{Result, Store};

use crate::Config;

/// Opens DynamoDB tables by URL, for `larder::Registry`.
#[derive(Clone, Copy, Debug)]
pub struct Adapter;

impl larder_kit::Adapter for Adapter {
    const SCHEMES: &'static [&'static str] = &["dynamodb"];
    const URLS: &'static [(&'static str, &'static str)] =
        &[("dynamodb:TABLE[?region=REGION]", "a table in Amazon DynamoDB")];

    async fn connect(&self, url: &str) -> Result<Store> {
        crate::connect(url).await
    }

    async fn connect_existing(&self, url: &str) -> Result<Store> {
        Config::from_url(url)?.existing().connect().await
    }
}
