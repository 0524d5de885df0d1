//! Commands to a cluster: routing and redirects.

use std::time::Duration;

use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value,
    cluster_async::ClusterConnection,
    cluster_routing::{Route as SlotRoute, RoutingInfo, SingleNodeRoutingInfo, SlotAddr},
};

use crate::keyspace::Route;

/// How often a command is sent in all.
const ATTEMPTS: u32 = 6;

/// The first pause before a command is sent to the same node again; it doubles.
const PAUSE: Duration = Duration::from_millis(10);

/// Sends a command to the master that has to have it, and follows redirects.
///
/// The driver's own repetitions are switched off (`retries(0)`), since it also repeats commands
/// whose connection broke, which may have been executed. Repeated here are only those that surely
/// were not: the node said so, or there was no connection to send them on.
pub(crate) async fn call(
    connection: &mut ClusterConnection,
    command: &Cmd,
    route: Route<'_>,
) -> RedisResult<Value> {
    let home = match route {
        Route::Key(key) => {
            SingleNodeRoutingInfo::SpecificNode(SlotRoute::with_key(key.to_vec(), SlotAddr::Master))
        }
        Route::Slot(slot) => SingleNodeRoutingInfo::SpecificNode(SlotRoute::new(slot, SlotAddr::Master)),
        Route::Any => SingleNodeRoutingInfo::RandomPrimary,
    };
    let mut target = home.clone();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let reply = connection.route_command(command.clone(), RoutingInfo::SingleNode(target)).await;
        let error = match reply.and_then(Value::extract_error) {
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        if attempt == ATTEMPTS {
            // Where the map of the cluster is in flux: what comes out says so, not where to go.
            let redirected = error.redirect_node().is_some();
            let lost = (ErrorKind::ClusterConnectionNotFound, "redirected too often");
            return Err(if redirected { lost.into() } else { error });
        }
        target = match error.kind() {
            ErrorKind::Server(ServerErrorKind::Ask) => match address(&error) {
                Some(node) => return ask(connection, command, node).await,
                None => return Err(error),
            },
            // The driver learns the new map by itself; should that take a while, the reply knows.
            ErrorKind::Server(ServerErrorKind::Moved) => match address(&error) {
                Some(node) if attempt > 1 => node,
                _ => home.clone(),
            },
            ErrorKind::Server(ServerErrorKind::TryAgain | ServerErrorKind::ReadOnly)
            | ErrorKind::ClusterConnectionNotFound => {
                tokio::time::sleep(PAUSE * (1 << (attempt - 1))).await;
                home.clone()
            }
            _ => return Err(error),
        };
    }
}

/// Sends the command to the node that the slot is being moved to.
async fn ask(
    connection: &mut ClusterConnection,
    command: &Cmd,
    node: SingleNodeRoutingInfo,
) -> RedisResult<Value> {
    let mut pipeline = Pipeline::with_capacity(2);
    pipeline.add_command(redis::cmd("ASKING")).add_command(command.clone());
    let replies = connection.route_pipeline(pipeline, 0, 2, node).await?;
    let reply = replies.into_iter().nth(1);
    reply.ok_or((ErrorKind::UnexpectedReturnType, "a pipeline of two got one reply"))?.extract_error()
}

/// The node that a redirect names.
fn address(error: &RedisError) -> Option<SingleNodeRoutingInfo> {
    let (node, _slot) = error.redirect_node()?;
    let (host, port) = node.rsplit_once(':')?;
    let port = port.parse().ok()?;
    (!host.is_empty()).then(|| SingleNodeRoutingInfo::ByAddress { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_name_a_node() {
        let moved = redis::parse_redis_value(b"-MOVED 12 ::1:7001\r\n").unwrap().extract_error().unwrap_err();
        let node = SingleNodeRoutingInfo::ByAddress { host: "::1".into(), port: 7001 };
        assert_eq!(address(&moved), Some(node));
        let nowhere = redis::parse_redis_value(b"-MOVED 12 :7001\r\n").unwrap().extract_error().unwrap_err();
        assert_eq!(address(&nowhere), None);
    }
}
