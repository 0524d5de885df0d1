//! The connections that a storage can use.

use redis::{
    Cmd, ErrorKind, Pipeline, RedisResult, Value,
    aio::{ConnectionLike, ConnectionManager, MultiplexedConnection},
};

use crate::keyspace::Route;

/// A connection of the `redis` crate. All of them are cheap to clone, can be shared by many tasks, and allow dropping
/// the future of a call.
#[derive(Clone)]
#[non_exhaustive]
pub enum Connection {
    /// One connection, which does not reconnect.
    Multiplexed(MultiplexedConnection),
    /// One connection, which reconnects.
    Manager(ConnectionManager),
    /// Connections to the nodes of a cluster.
    #[cfg(feature = "cluster")]
    Cluster(redis::cluster_async::ClusterConnection),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("is_cluster", &self.is_cluster()).finish_non_exhaustive()
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
    pub(crate) fn is_cluster(&self) -> bool {
        !matches!(self, Self::Multiplexed(_) | Self::Manager(_))
    }

    /// Sends one command and returns its reply; an error reply is an `Err`.
    #[cfg_attr(not(feature = "cluster"), allow(unused_variables))]
    pub(crate) async fn call(&self, command: Cmd, route: Route<'_>) -> RedisResult<Value> {
        let reply = match self.clone() {
            Self::Multiplexed(mut connection) => connection.send_packed_command(&command).await,
            Self::Manager(mut connection) => connection.send_packed_command(&command).await,
            #[cfg(feature = "cluster")]
            Self::Cluster(connection) => return crate::cluster::call(connection, command, route).await,
        };
        reply.and_then(Value::extract_error)
    }

    /// Sends all commands: to one server as a pipeline, to a cluster concurrently. Returns one reply for each, in the
    /// same order; an error reply is an `Err`.
    pub(crate) async fn send(&self, commands: Vec<(Cmd, Route<'_>)>) -> Vec<RedisResult<Value>> {
        match self.clone() {
            Self::Multiplexed(connection) => pipeline(connection, commands).await,
            Self::Manager(connection) => pipeline(connection, commands).await,
            #[cfg(feature = "cluster")]
            Self::Cluster(connection) => crate::cluster::send(&connection, commands).await,
        }
    }
}

async fn pipeline(
    mut connection: impl ConnectionLike,
    commands: Vec<(Cmd, Route<'_>)>,
) -> Vec<RedisResult<Value>> {
    let count = commands.len();
    let mut pipeline = Pipeline::with_capacity(count);
    for (command, _) in commands {
        pipeline.add_command(command);
    }
    match connection.req_packed_commands(&pipeline, 0, count).await {
        Ok(replies) if replies.len() == count => replies.into_iter().map(Value::extract_error).collect(),
        Ok(_) => vec![Err((ErrorKind::UnexpectedReturnType, "a pipeline got too few replies").into()); count],
        Err(error) => vec![Err(error); count],
    }
}
