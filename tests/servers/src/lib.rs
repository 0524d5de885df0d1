//! Real servers for Larder's tests.
//!
//! Each server runs in a container that is published on a loopback port. There are two ways to get one:
//!
//! - [`postgres()`], [`redis()`] and the other functions of this crate return the *shared* server of a [`Kind`]. It is
//!   started once per checkout, reused by every test binary (the second start takes milliseconds), and left running
//!   for the next run. Tests share it, so each test uses a schema, key prefix or database of its own, with a name that
//!   no earlier run has used.
//! - [`Kind::private`] starts a server for one test, which may [`kill`](Server::kill) and [`start`](Server::start) it.
//!   It is removed on drop.
//!
//! The functions do not panic or skip a test. If a server is not available, they return [`Missing`] with the reason;
//! [`Missing::required`] says whether the environment requires the server.
//!
//! # Environment
//! | variable | meaning |
//! |---|---|
//! | `LARDER_TEST_REQUIRE` | required servers: names of [`Kind`]s, separated by commas, or `all`. A test fails if one is missing. Also names of [`Tool`]s |
//! | `LARDER_TEST_POSTGRES_URL`, `LARDER_TEST_REDIS_CLUSTER_URL`, ... | a server of your own, used instead of a container ([`Kind::url_variable`]) |
//! | `LARDER_TEST_POSTGRES_TLS_CA`, `_MARIADB_TLS_CA`, `_REDIS_TLS_CA` | the PEM file of the authority that signed the certificate of your server |
//! | `LARDER_TEST_POSTGRES_IMAGE`, `_PGBOUNCER_`, `_MARIADB_`, `_MYSQL_`, `_REDIS_`, `_VALKEY_`, `_MONGODB_`, `_DYNAMODB_` | the image, `name:tag` |
//!
//! The image comes from the environment, otherwise from `target/servers.env`, which `ci/servers` writes, and otherwise
//! is the official one.
//!
//! MySQL has only the official image. Without a registry `ci/servers` writes `none` for it, and `all` does not require it.
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
mod relay;
mod server;
mod spec;
mod workspace;

pub use error::Error;
pub use kind::Kind;
pub use missing::{Missing, Tool};
pub use relay::Relay;
pub use server::Server;
pub use spec::{DATABASE, PASSWORD, SENTINEL_MASTER, USER};

/// The shared Postgres server.
///
/// # Errors
/// [`Missing`] if it is not available.
pub async fn postgres() -> Result<Server, Missing> {
    Kind::Postgres.shared().await
}

/// The shared Postgres server that accepts only TLS connections. [`Server::ca_path`] is the authority to trust, and
/// [`Server::other_ca_path`] one that did not sign its certificate.
///
/// # Errors
/// [`Missing`] if it is not available.
pub async fn postgres_tls() -> Result<Server, Missing> {
    Kind::PostgresTls.shared().await
}

/// The shared pgbouncer, in transaction pooling mode and without named statements, in front of a Postgres of its own.
/// [`Server::direct_url`] is the URL of that Postgres.
///
/// # Errors
/// [`Missing`] if it is not available.
pub async fn pgbouncer() -> Result<Server, Missing> {
    Kind::Pgbouncer.shared().await
}

/// The shared MariaDB server. Every acknowledged transaction is in its log on the disk. The user of its URL has every
/// privilege. It does not offer TLS.
///
/// # Errors
/// [`Missing`] if it is not available.
pub async fn mariadb() -> Result<Server, Missing> {
    Kind::Mariadb.shared().await
}

/// The shared MariaDB server that accepts only TLS connections; see [`postgres_tls`] for its authorities.
///
/// # Errors
/// [`Missing`] if it is not available.
pub async fn mariadb_tls() -> Result<Server, Missing> {
    Kind::MariadbTls.shared().await
}

/// The shared read-only replica of a MariaDB of its own. [`Server::direct_url`] is the URL of that MariaDB, the primary.
/// The user of both URLs has every privilege on every database, but cannot write on the replica.
///
/// # Errors
/// [`Missing`] if it is not available.
pub async fn mariadb_replica() -> Result<Server, Missing> {
    Kind::MariadbReplica.shared().await
}

/// The shared MySQL server. The user of its URL has every privilege. It offers TLS, with a certificate of its own.
///
/// # Errors
/// [`Missing`] if it is not available.
pub async fn mysql() -> Result<Server, Missing> {
    Kind::Mysql.shared().await
}

/// The shared Redis server. Every acknowledged write is in its append-only file.
///
/// # Errors
/// [`Missing`] if it is not available.
pub async fn redis() -> Result<Server, Missing> {
    Kind::Redis.shared().await
}

/// The shared Redis server that requires a password, which its URL contains.
///
/// # Errors
/// [`Missing`] if it is not available.
pub async fn redis_password() -> Result<Server, Missing> {
    Kind::RedisPassword.shared().await
}

/// The shared Redis server that accepts only TLS connections; see [`postgres_tls`] for its authorities.
///
/// # Errors
/// [`Missing`] if it is not available.
pub async fn redis_tls() -> Result<Server, Missing> {
    Kind::RedisTls.shared().await
}

/// The shared Redis Cluster of three masters; [`Server::urls`] has one URL per node.
///
/// # Errors
/// [`Missing`] if it is not available.
pub async fn redis_cluster() -> Result<Server, Missing> {
    Kind::RedisCluster.shared().await
}

/// The shared Redis master and replica with a Sentinel. [`Server::url`] is the URL of the Sentinel, and
/// [`SENTINEL_MASTER`] its name for the master.
///
/// # Errors
/// [`Missing`] if it is not available.
pub async fn redis_sentinel() -> Result<Server, Missing> {
    Kind::RedisSentinel.shared().await
}

/// The shared Valkey server, which supports `SET key value IFEQ old`.
///
/// # Errors
/// [`Missing`] if it is not available.
pub async fn valkey() -> Result<Server, Missing> {
    Kind::Valkey.shared().await
}

/// The shared MongoDB server.
///
/// # Errors
/// [`Missing`] if it is not available.
pub async fn mongodb() -> Result<Server, Missing> {
    Kind::Mongodb.shared().await
}

/// The shared DynamoDB server. Its URL is that of a store in the table `larder`; the server accepts any credentials.
///
/// # Errors
/// [`Missing`] if it is not available.
pub async fn dynamodb() -> Result<Server, Missing> {
    Kind::Dynamodb.shared().await
}
