//! One file per store: its raw driver, Larder's adapter, and the peers.

pub mod file;
pub mod memory;
pub mod mongodb;
pub mod postgres;
pub mod redis;
pub mod sqlite;

use futures_util::{FutureExt, future::BoxFuture};
use larder_test_servers::Server;

use crate::{contenders::Set, data::Data};

/// A store with one durability.
pub struct Bench {
    pub name: &'static str,
    pub open: fn(Place) -> BoxFuture<'static, Set>,
    /// The numbers of keys that it is measured with.
    pub few: u64,
    pub usual: u64,
    pub many: u64,
}

/// Where and what a set of contenders stores.
#[derive(Clone, Debug)]
pub struct Place {
    pub data: Data,
    /// Whether peers take part. They do not where a set is so large that filling them takes minutes.
    pub peers: bool,
    /// Where the server is, if not at its own address.
    pub url: Option<String>,
    /// A name of its own for tables and the like.
    pub space: &'static str,
}

impl Place {
    /// The URL of the server for all contenders.
    async fn url(&self, server: &Server) -> String {
        match &self.url {
            Some(url) => url.clone(),
            None => address(server).await,
        }
    }
}

/// The URL of a server without Docker's proxy in between, where that works.
pub async fn address(server: &Server) -> String {
    let past_the_proxy = if cfg!(target_os = "linux") { server.bridge_url().await.unwrap() } else { None };
    past_the_proxy.unwrap_or_else(|| server.url().to_owned())
}

macro_rules! bench {
    ($name:literal, $open:expr) => {
        bench!($name, $open, 1_000, 10_000, 1_000_000)
    };
    ($name:literal, $open:expr, $few:literal, $usual:literal, $many:literal) => {
        Bench { name: $name, open: |place| $open(place).boxed(), few: $few, usual: $usual, many: $many }
    };
}

pub const ALL: [Bench; 8] = [
    bench!("memory", memory::open),
    bench!("memory-bounded", memory::bounded),
    // A file per entry, each in a block of 4 KiB: a million would take more than everything else.
    bench!("file", file::open, 1_000, 10_000, 100_000),
    bench!("sqlite-full", |place| sqlite::open(place, "full")),
    bench!("sqlite-normal", |place| sqlite::open(place, "normal")),
    bench!("postgres", postgres::open),
    bench!("redis", redis::open),
    // The stand-in for MongoDB in the tests' containers writes some hundred documents a second.
    bench!("mongodb", mongodb::open, 100, 500, 2_000),
];
