//! The connections that a storage can run on.

use redis::{
    Cmd, Pipeline, RedisResult, Value,
    aio::{ConnectionManager, MultiplexedConnection},
};

use crate::keyspace::FullKey;

/// A connection of the `redis` crate. All of them are cheap to clone, shared by any number of tasks
/// and safe to drop a future of.
#[derive(Clone)]
#[non_exhaustive]
pub enum Connection {
    /// One connection; it does not reconnect.
    Multiplexed(MultiplexedConnection),
    /// One connection that reconnects.
    Manager(ConnectionManager),
    /// Connections to the nodes of a cluster.
    #[cfg(feature = "cluster")]
    Cluster(redis::cluster_async::ClusterConnection),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Multiplexed(_) => "Connection(multiplexed)",
            Self::Manager(_) => "Connection(manager)",
            #[cfg(feature = "cluster")]
            Self::Cluster(_) => "Connection(cluster)",
        })
    }
}

impl From<MultiplexedConnection> for Connection {
    fn from(connection: MultiplexedConnection) -> Self {
        Self::Multiplexed(connection)
    }
}

impl From<ConnectionManager> for Connection {
    fn from(connection: ConnectionManager) -> Self {
        Self::Manager(connection)
    }
}

#[cfg(feature = "cluster")]
impl From<redis::cluster_async::ClusterConnection> for Connection {
    fn from(connection: redis::cluster_async::ClusterConnection) -> Self {
        Self::Cluster(connection)
    }
}

/// Which node of a cluster a command goes to. One server takes them all.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "cluster"), allow(dead_code))]
pub(crate) enum Route<'a> {
    /// The master that has the key.
    Key(FullKey<'a>),
    /// The master that has the slot.
    Slot(u16),
    /// Any node.
    Any,
}

impl Connection {
    /// Whether commands for several keys have to be sent one by one.
    pub(crate) fn is_cluster(&self) -> bool {
        match self {
            Self::Multiplexed(_) | Self::Manager(_) => false,
            #[cfg(feature = "cluster")]
            Self::Cluster(_) => true,
        }
    }

    /// Sends one command and awaits its reply.
    pub(crate) async fn call(&mut self, command: &Cmd, route: Route<'_>) -> RedisResult<Value> {
        match self {
            Self::Multiplexed(connection) => connection.send_packed_command(command).await,
            Self::Manager(connection) => connection.send_packed_command(command).await,
            #[cfg(feature = "cluster")]
            Self::Cluster(connection) => crate::cluster::call(connection, command, route).await,
        }
        .and_then(|reply| {
            let _ = route;
            match reply {
                Value::ServerError(error) => Err(error.into()),
                reply => Ok(reply),
            }
        })
    }

    /// Sends several commands at once to one server, and awaits all replies, errors among them.
    pub(crate) async fn pipeline(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        match self {
            Self::Multiplexed(connection) => {
                connection.send_packed_commands(commands, 0, commands.len()).await
            }
            Self::Manager(connection) => connection.send_packed_commands(commands, 0, commands.len()).await,
            #[cfg(feature = "cluster")]
            Self::Cluster(_) => Err((redis::ErrorKind::Client, "a cluster takes commands one by one").into()),
        }
    }
}
