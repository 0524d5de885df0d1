//! Sessions for bots and web services, over whichever store a deployment has.
//!
//! This crate opens a store by its URL and moves entries between any two stores. The store and its
//! values are those of [`larder_core`], exported again from here; each adapter is a feature.
//!
//! ```toml
//! # A program that keeps its sessions in Redis compiles no other driver:
//! larder = { version = "0.1", default-features = false, features = ["redis"] }
//! ```
//!
#![cfg_attr(feature = "memory", doc = "```")]
#![cfg_attr(not(feature = "memory"), doc = "```ignore")]
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> larder::Result<()> {
//! // Or "sqlite:sessions.db", "redis://localhost", "postgres://bot@localhost/bot" ...
//! let sessions = larder::open("memory:").await?;
//! let chat = larder::Key::new("chat:424242")?;
//! let day = Duration::from_secs(86_400);
//!
//! sessions.update(&chat, day, |pizzas: Option<u64>| Some(pizzas.unwrap_or(0) + 1)).await?;
//! assert_eq!(sessions.read_as::<u64>(&chat).await?, Some(1));
//! sessions.close().await?;
//! # Ok(())
//! # }
//! ```
#![doc = ""]
#![doc = include_str!("../URLS.md")]

mod open;
pub mod transfer;

pub use larder_core::*;
pub use larder_kit::{StoreUrl, redact};

pub use crate::open::{SCHEMES, Scheme, open, open_existing};

#[cfg(feature = "file")]
pub use larder_file as file;
#[cfg(feature = "memory")]
pub use larder_memory as memory;
#[cfg(feature = "mongodb")]
pub use larder_mongodb as mongodb;
#[cfg(feature = "postgres")]
pub use larder_postgres as postgres;
#[cfg(feature = "redis")]
pub use larder_redis as redis;
#[cfg(feature = "session")]
pub use larder_session as session;
#[cfg(feature = "sqlite")]
pub use larder_sqlite as sqlite;
