//! Real servers for Larder's tests.
//!
//! Each server runs in a container that is published on a loopback port. Two ways to have one:
//!
//! - [`postgres()`], [`redis()`] and the other functions of this crate give the *shared* server of
//!   its [`Kind`]: started once per checkout, reused by every test binary (the second start takes
//!   milliseconds) and left running for the next run. Tests share it, so each keeps to a schema,
//!   key prefix or database of its own, named so that what an earlier run left cannot be met.
//! - [`Kind::private`] starts a server for one test alone, which may [`kill`](Server::kill) and
//!   [`start`](Server::start) it; it is removed on drop.
//!
//! Nothing here panics or skips a test: a server that cannot be had is a [`Missing`], which says
//! why and whether the environment [requires](Missing::required) it.
//!
//! # Environment
//! | variable | meaning |
//! |---|---|
//! | `LARDER_TEST_REQUIRE` | servers whose absence is a failure: names of [`Kind`]s, separated by commas, or `all` |
//! | `LARDER_TEST_POSTGRES_URL`, `LARDER_TEST_REDIS_CLUSTER_URL`, ... | a server of your own, used instead of a container ([`Kind::url_variable`]) |
//! | `LARDER_TEST_POSTGRES_TLS_CA`, `LARDER_TEST_REDIS_TLS_CA` | the PEM file of the authority that signed that server's certificate |
//! | `LARDER_TEST_POSTGRES_IMAGE`, `_PGBOUNCER_`, `_REDIS_`, `_VALKEY_`, `_MONGODB_` | the image, `name:tag` |
//!
//! Without an image from the environment the one that `ci/servers` chose (`target/servers.env`) is
//! used, and without that the official one.
//!
//! # Example
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! match larder_test_servers::redis().await {
//!     Ok(server) => println!("connect to {}", server.url()),
//!     Err(missing) if missing.required() => panic!("{missing}"),
//!     Err(missing) => println!("ignored: {missing}"),
//! }
//! # }
//! ```

#![forbid(unsafe_code)]

mod certificates;
mod error;
mod image;
mod kind;
mod launch;
mod missing;
mod ports;
mod probe;
mod server;
mod spec;
mod workspace;

pub use error::Error;
pub use kind::Kind;
pub use missing::Missing;
pub use server::Server;
pub use spec::{DATABASE, PASSWORD, SENTINEL_MASTER, USER};

/// The shared Postgres server.
///
/// # Errors
/// [`Missing`] when it cannot be had.
pub async fn postgres() -> Result<Server, Missing> {
    Kind::Postgres.shared().await
}

/// The shared Postgres server that accepts TLS connections only; [`Server::ca_path`] is the
/// authority to trust, [`Server::other_ca_path`] one that did not sign its certificate.
///
/// # Errors
/// [`Missing`] when it cannot be had.
pub async fn postgres_tls() -> Result<Server, Missing> {
    Kind::PostgresTls.shared().await
}

/// The shared pgbouncer, in transaction pooling mode and without named statements, in front of a
/// Postgres of its own that [`Server::direct_url`] leads to.
///
/// # Errors
/// [`Missing`] when it cannot be had.
pub async fn pgbouncer() -> Result<Server, Missing> {
    Kind::Pgbouncer.shared().await
}

/// The shared Redis server. Every acknowledged write is in its append-only file.
///
/// # Errors
/// [`Missing`] when it cannot be had.
pub async fn redis() -> Result<Server, Missing> {
    Kind::Redis.shared().await
}

/// The shared Redis server that asks for a password, which its URL has.
///
/// # Errors
/// [`Missing`] when it cannot be had.
pub async fn redis_password() -> Result<Server, Missing> {
    Kind::RedisPassword.shared().await
}

/// The shared Redis server that accepts TLS connections only; see [`postgres_tls`] for its
/// authorities.
///
/// # Errors
/// [`Missing`] when it cannot be had.
pub async fn redis_tls() -> Result<Server, Missing> {
    Kind::RedisTls.shared().await
}

/// The shared Redis Cluster of three masters; [`Server::urls`] has one URL per node.
///
/// # Errors
/// [`Missing`] when it cannot be had.
pub async fn redis_cluster() -> Result<Server, Missing> {
    Kind::RedisCluster.shared().await
}

/// The shared Redis master and replica with a Sentinel, whose URL is [`Server::url`]; it calls the
/// master [`SENTINEL_MASTER`].
///
/// # Errors
/// [`Missing`] when it cannot be had.
pub async fn redis_sentinel() -> Result<Server, Missing> {
    Kind::RedisSentinel.shared().await
}

/// The shared Valkey server, which has `SET key value IFEQ old`.
///
/// # Errors
/// [`Missing`] when it cannot be had.
pub async fn valkey() -> Result<Server, Missing> {
    Kind::Valkey.shared().await
}

/// The shared MongoDB server.
///
/// # Errors
/// [`Missing`] when it cannot be had.
pub async fn mongodb() -> Result<Server, Missing> {
    Kind::Mongodb.shared().await
}
