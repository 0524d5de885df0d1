//! Sends commands to a cluster: routing and redirects.

use std::time::Duration;

use futures_util::future::join_all;
use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisResult,
    ServerErrorKind::{Ask, Moved, ReadOnly, TryAgain},
    Value,
    cluster_async::ClusterConnection,
    cluster_routing::{Route as SlotRoute, RoutingInfo, SingleNodeRoutingInfo, SlotAddr},
};

use crate::keyspace::Route;

/// The maximum number of times that a command is sent.
const ATTEMPTS: u32 = 6;

/// The first pause before a command is sent to the same node again. It doubles each time.
const PAUSE: Duration = Duration::from_millis(10);

/// Sends all commands concurrently. Returns one reply for each, in the same order.
///
/// No command waits for the reply to another, so each node gets its commands at once. They are not a pipeline of the
/// driver: if one reply of such a pipeline is a redirect, the driver returns only the redirect and drops the others,
/// and the outcome of the changes would be unknown.
pub(crate) async fn send(
    connection: &ClusterConnection,
    commands: Vec<(Cmd, Route<'_>)>,
) -> Vec<RedisResult<Value>> {
    join_all(commands.into_iter().map(|(command, route)| call(connection.clone(), command, route))).await
}

/// Sends a command to the master that serves it, and follows redirects.
///
/// The driver's own retries are disabled (`retries(0)`), because it also repeats commands whose connection broke, which
/// may have been executed. This function repeats only commands that were certainly not executed: the node said so, or
/// they could not be sent.
pub(crate) async fn call(
    mut connection: ClusterConnection,
    command: Cmd,
    route: Route<'_>,
) -> RedisResult<Value> {
    let home = match route {
        Route::Key(key) => SingleNodeRoutingInfo::SpecificNode(SlotRoute::with_key(key, SlotAddr::Master)),
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
            // The slots of the cluster are moving: report that, rather than the last redirect.
            let redirected = error.redirect_node().is_some();
            let lost = (ErrorKind::ClusterConnectionNotFound, "redirected too often");
            return Err(if redirected { lost.into() } else { error });
        }
        target = match (error.kind(), address(&error)) {
            (ErrorKind::Server(Ask), Some(node)) => return ask(&mut connection, command, node).await,
            // The driver learns the new map by itself. If that takes long, use the address in the reply.
            (ErrorKind::Server(Moved), Some(node)) if attempt > 1 => node,
            (ErrorKind::Server(Moved), _) => home.clone(),
            (ErrorKind::Server(TryAgain | ReadOnly) | ErrorKind::ClusterConnectionNotFound, _) => {
                tokio::time::sleep(PAUSE * (1 << (attempt - 1))).await;
                home.clone()
            }
            _ => return Err(error),
        };
    }
}

/// Sends the command to the node that the slot is moving to.
async fn ask(
    connection: &mut ClusterConnection,
    command: Cmd,
    node: SingleNodeRoutingInfo,
) -> RedisResult<Value> {
    let mut pipeline = Pipeline::with_capacity(2);
    pipeline.add_command(redis::cmd("ASKING")).add_command(command);
    let replies = connection.route_pipeline(pipeline, 0, 2, node).await?;
    let reply = replies.into_iter().nth(1);
    reply.ok_or((ErrorKind::UnexpectedReturnType, "a pipeline of two got one reply"))?.extract_error()
}

/// Returns the node that a redirect names.
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
    fn a_redirect_names_a_node() {
        let moved = redis::parse_redis_value(b"-MOVED 12 ::1:7001\r\n").unwrap().extract_error().unwrap_err();
        let node = SingleNodeRoutingInfo::ByAddress { host: "::1".into(), port: 7001 };
        assert_eq!(address(&moved), Some(node));
        let nowhere = redis::parse_redis_value(b"-MOVED 12 :7001\r\n").unwrap().extract_error().unwrap_err();
        assert_eq!(address(&nowhere), None);
    }
}
