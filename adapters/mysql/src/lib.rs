//! A Larder storage on MySQL and MariaDB.

mod adapter;
mod batch;
mod config;
mod connect;
mod driver;
mod error;
mod pool;
mod schema;
mod sql;
mod storage;

use larder_core::{Result, Store};
pub use larder_kit::{Interval, Timeout, ValueFormat};
pub use sqlx;

pub use crate::{
    adapter::Adapter,
    config::{Config, DRIVER_OPTIONS},
};

/// Connects to the server at `url`, creates the table if it is missing, and opens the store.
///
/// # Errors
///
/// Fails as [`Config::from_url`] and [`Config::connect`] do.
pub async fn connect(url: &str) -> Result<Store> {
    Config::from_url(url)?.connect().await
}
