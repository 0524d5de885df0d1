use std::fmt;

use crate::{Missing, Server, launch};

/// A kind of server for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Postgres.
    Postgres,
    /// Postgres that accepts only TLS connections.
    PostgresTls,
    /// pgbouncer in transaction pooling mode, with a Postgres behind it.
    Pgbouncer,
    /// MariaDB, with every transaction in its log before it is acknowledged.
    Mariadb,
    /// MariaDB that accepts only TLS connections.
    MariadbTls,
    /// A read-only replica of a MariaDB, and that MariaDB.
    MariadbReplica,
    /// MySQL.
    Mysql,
    /// Redis, with every write in its append-only file before it is acknowledged.
    Redis,
    /// Redis that requires a password.
    RedisPassword,
    /// Redis that accepts only TLS connections.
    RedisTls,
    /// A Redis Cluster of three masters.
    RedisCluster,
    /// A Redis master and replica with a Sentinel.
    RedisSentinel,
    /// Valkey.
    Valkey,
    /// MongoDB.
    Mongodb,
    /// DynamoDB: Amazon's version for one machine, or a stand-in.
    Dynamodb,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::Postgres,
        Self::PostgresTls,
        Self::Pgbouncer,
        Self::Mariadb,
        Self::MariadbTls,
        Self::MariadbReplica,
        Self::Mysql,
        Self::Redis,
        Self::RedisPassword,
        Self::RedisTls,
        Self::RedisCluster,
        Self::RedisSentinel,
        Self::Valkey,
        Self::Mongodb,
        Self::Dynamodb,
    ];

    /// The name in `LARDER_TEST_REQUIRE`, such as `redis-cluster`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::PostgresTls => "postgres-tls",
            Self::Pgbouncer => "pgbouncer",
            Self::Mariadb => "mariadb",
            Self::MariadbTls => "mariadb-tls",
            Self::MariadbReplica => "mariadb-replica",
            Self::Mysql => "mysql",
            Self::Redis => "redis",
            Self::RedisPassword => "redis-password",
            Self::RedisTls => "redis-tls",
            Self::RedisCluster => "redis-cluster",
            Self::RedisSentinel => "redis-sentinel",
            Self::Valkey => "valkey",
            Self::Mongodb => "mongodb",
            Self::Dynamodb => "dynamodb",
        }
    }

    /// The environment variable with the URL of a server to use instead of a container, such as
    /// `LARDER_TEST_REDIS_CLUSTER_URL`. For a cluster it holds one URL per node, and for a Sentinel set one per
    /// Sentinel, separated by commas.
    #[must_use]
    pub fn url_variable(self) -> String {
        self.variable("URL")
    }

    /// The environment variable with the path of the PEM file of that server's authority.
    pub(crate) fn ca_variable(self) -> String {
        self.variable("CA")
    }

    fn variable(self, suffix: &str) -> String {
        let name = self.name().to_ascii_uppercase().replace('-', "_");
        format!("LARDER_TEST_{name}_{suffix}")
    }

    /// Whether it accepts only TLS connections.
    #[must_use]
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::PostgresTls | Self::MariadbTls | Self::RedisTls)
    }

    /// Whether it consists of several servers with different addresses.
    pub(crate) const fn has_nodes(self) -> bool {
        matches!(self, Self::RedisCluster | Self::RedisSentinel)
    }

    /// Returns the server of this kind that all tests share.
    ///
    /// # Errors
    /// [`Missing`] if it is not available.
    pub async fn shared(self) -> Result<Server, Missing> {
        launch::shared(self).await
    }

    /// Starts a server of this kind for the caller alone, which is removed on drop. If the environment has a URL,
    /// returns that server instead, which the caller cannot kill ([`Server::is_ours`]).
    ///
    /// # Errors
    /// [`Missing`] if it is not available.
    pub async fn private(self) -> Result<Server, Missing> {
        launch::private(self, &[]).await
    }

    /// [`private`](Self::private) with additional options on the server's command line, such as `["--maxmemory",
    /// "2mb"]` for Redis or `["-c", "max_connections=5"]` for Postgres. In a cluster or a Sentinel set, every Redis
    /// node gets them. A server from the environment cannot get options, so it is [`Missing`].
    ///
    /// # Errors
    /// [`Missing`] if it is not available.
    pub async fn private_with(self, options: &[&str]) -> Result<Server, Missing> {
        launch::private(self, options).await
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_named_after_the_kind() {
        assert_eq!(Kind::Redis.url_variable(), "LARDER_TEST_REDIS_URL");
        assert_eq!(Kind::RedisCluster.url_variable(), "LARDER_TEST_REDIS_CLUSTER_URL");
        assert_eq!(Kind::PostgresTls.ca_variable(), "LARDER_TEST_POSTGRES_TLS_CA");
    }
}
