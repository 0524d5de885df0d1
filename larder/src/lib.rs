//! Sessions for bots and web services, in the store of the deployment.
//!
//! This crate opens a store by its URL, and copies entries between any two stores. It exports the items of
//! [`larder_core`], and each adapter whose feature is on. No feature is on by default:
//!
//! ```toml
//! # A program that keeps its sessions in Redis compiles no other driver.
//! larder = { version = "0.1", features = ["redis"] }
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

mod registry;
pub mod transfer;

pub use larder_core::*;
pub use larder_kit::{Adapter, StoreUrl, redact};

pub use crate::registry::{Registry, open, open_existing};

#[cfg(feature = "dynamodb")]
pub use larder_dynamodb as dynamodb;
#[cfg(feature = "file")]
pub use larder_file as file;
#[cfg(feature = "memory")]
pub use larder_memory as memory;
#[cfg(feature = "mongodb")]
pub use larder_mongodb as mongodb;
#[cfg(feature = "mysql")]
pub use larder_mysql as mysql;
#[cfg(feature = "postgres")]
pub use larder_postgres as postgres;
#[cfg(feature = "redis")]
pub use larder_redis as redis;
#[cfg(feature = "session")]
pub use larder_session as session;
#[cfg(feature = "sqlite")]
pub use larder_sqlite as sqlite;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
