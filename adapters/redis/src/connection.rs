//! The connections that a storage can run on.

use redis::{
    Cmd, Pipeline, RedisResult, Value,
    aio::{ConnectionManager, MultiplexedConnection},
};

use crate::keyspace::Route;

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

impl Connection {
    /// Whether commands for several keys have to be sent one by one.
    pub(crate) fn is_cluster(&self) -> bool {
        !matches!(self, Self::Multiplexed(_) | Self::Manager(_))
    }

    /// Sends one command and awaits its reply; an error reply is an `Err`.
    pub(crate) async fn call(&mut self, command: &Cmd, route: Route<'_>) -> RedisResult<Value> {
        let _ = route;
        match self {
            Self::Multiplexed(connection) => connection.send_packed_command(command).await,
            Self::Manager(connection) => connection.send_packed_command(command).await,
            #[cfg(feature = "cluster")]
            Self::Cluster(connection) => crate::cluster::call(connection, command, route).await,
        }
        .and_then(Value::extract_error)
    }

    /// Sends several commands at once to one server, and awaits all replies, errors among them.
    pub(crate) async fn pipeline(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let count = commands.len();
        let replies = match self {
            Self::Multiplexed(connection) => connection.send_packed_commands(commands, 0, count).await,
            Self::Manager(connection) => connection.send_packed_commands(commands, 0, count).await,
            #[cfg(feature = "cluster")]
            Self::Cluster(_) => {
                return Err((redis::ErrorKind::Client, "a cluster takes commands one by one").into());
            }
        }?;
        if replies.len() == count {
            Ok(replies)
        } else {
            Err((redis::ErrorKind::UnexpectedReturnType, "a pipeline got too few replies").into())
        }
    }
}
