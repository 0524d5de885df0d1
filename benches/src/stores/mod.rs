//! One file per store, with its raw driver, Larder's adapter, and the peers.

pub mod dynamodb;
pub mod file;
pub mod memory;
pub mod mongodb;
pub mod mysql;
pub mod postgres;
pub mod redis;
pub mod sqlite;

use futures_util::{FutureExt, future::BoxFuture};
use larder_test_servers::Server;

use crate::{contenders::Set, data::Data};

/// A store with one setting of durability.
pub struct Bench {
    pub name: &'static str,
    pub open: fn(Place) -> BoxFuture<'static, Set>,
    /// The numbers of keys on the axis of keys.
    pub few: u64,
    pub usual: u64,
    pub many: u64,
}

/// The data of a set of contenders, and the place where they store it.
#[derive(Clone, Debug)]
pub struct Place {
    pub data: Data,
    /// Whether peers take part. They do not if the set is so large that filling them takes minutes.
    pub peers: bool,
    /// The URL of the server, if not its own address.
    pub url: Option<String>,
    /// A unique name for tables, prefixes and databases.
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

/// The URL of a server that bypasses Docker's proxy, where that works.
pub async fn address(server: &Server) -> String {
    let direct = if cfg!(target_os = "linux") { server.bridge_url().await.unwrap() } else { None };
    direct.unwrap_or_else(|| server.url().to_owned())
}

macro_rules! bench {
    ($name:literal, $open:expr) => {
        bench!($name, $open, 1_000, 10_000, 1_000_000)
    };
    ($name:literal, $open:expr, $few:literal, $usual:literal, $many:literal) => {
        Bench { name: $name, open: |place| $open(place).boxed(), few: $few, usual: $usual, many: $many }
    };
}

pub const ALL: [Bench; 10] = [
    bench!("memory", memory::open),
    bench!("memory-bounded", memory::bounded),
    // Each entry is a file with a block of 4 KiB, so a million keys would take more space than all other stores.
    bench!("file", file::open, 1_000, 10_000, 100_000),
    bench!("sqlite-full", |place| sqlite::open(place, "full")),
    bench!("sqlite-normal", |place| sqlite::open(place, "normal")),
    bench!("postgres", postgres::open),
    bench!("mysql", mysql::open),
    bench!("redis", redis::open),
    // The tests' stand-in for MongoDB writes a few hundred documents per second.
    bench!("mongodb", mongodb::open, 100, 500, 2_000),
    // So does the one for DynamoDB.
    bench!("dynamodb", dynamodb::open, 100, 500, 2_000),
];
