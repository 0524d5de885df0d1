//! Commands to a cluster: routing, redirects, and who has which slots.

use std::{collections::BTreeMap, time::Duration};

use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value,
    cluster_async::ClusterConnection,
    cluster_routing::{Route as SlotRoute, RoutingInfo, SingleNodeRoutingInfo, SlotAddr},
};

use crate::connection::Route;

/// How often a command is sent anew.
const ATTEMPTS: u32 = 6;

/// The first pause before a command is sent anew to the same place; it doubles.
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
        let error = match reply {
            Ok(Value::ServerError(error)) => RedisError::from(error),
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
    match replies.into_iter().nth(1) {
        Some(Value::ServerError(error)) => Err(error.into()),
        Some(reply) => Ok(reply),
        None => Err((ErrorKind::UnexpectedReturnType, "a pipeline of two got one reply").into()),
    }
}

/// The node that a redirect names.
fn address(error: &RedisError) -> Option<SingleNodeRoutingInfo> {
    let (node, _slot) = error.redirect_node()?;
    let (host, port) = node.rsplit_once(':')?;
    let port = port.parse().ok()?;
    (!host.is_empty()).then(|| SingleNodeRoutingInfo::ByAddress { host: host.to_owned(), port })
}

/// The masters by their names, each with its ranges of slots.
pub(crate) type Masters = BTreeMap<Vec<u8>, Vec<(u16, u16)>>;

/// Reads the reply of `CLUSTER SLOTS`; `None` if it is something else.
pub(crate) fn masters(reply: Value) -> Option<Masters> {
    let Value::Array(ranges) = reply else { return None };
    let mut masters = Masters::new();
    for range in ranges {
        let Value::Array(range) = range else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = range.as_slice() else {
            return None;
        };
        // Address, port, name. Servers before 4.0 give no name, but address and port are as good.
        let name = match master.as_slice() {
            [_, _, Value::BulkString(name), ..] => name.clone(),
            [Value::BulkString(host), Value::Int(port), ..] => [host, port.to_string().as_bytes()].concat(),
            _ => return None,
        };
        let slots = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
        masters.entry(name).or_default().push(slots);
    }
    for slots in masters.values_mut() {
        slots.sort_unstable();
    }
    Some(masters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, name: &str) -> Value {
        let master = vec![
            Value::BulkString(b"10.0.0.1".to_vec()),
            Value::Int(6379),
            Value::BulkString(name.into()),
            Value::Array(vec![]),
        ];
        Value::Array(vec![Value::Int(first), Value::Int(last), Value::Array(master)])
    }

    #[test]
    fn ranges_are_gathered_by_master() {
        let reply = Value::Array(vec![range(9, 20, "a"), range(3, 8, "b"), range(0, 2, "a")]);
        let masters = masters(reply).unwrap();
        assert_eq!(masters[&b"a"[..]], [(0, 2), (9, 20)]);
        assert_eq!(masters[&b"b"[..]], [(3, 8)]);
    }

    #[test]
    fn other_replies_are_none() {
        assert_eq!(super::masters(Value::Okay), None);
        assert_eq!(super::masters(Value::Array(vec![Value::Int(1)])), None);
    }

    #[test]
    fn redirects_name_a_node() {
        let moved = redis::parse_redis_value(b"-MOVED 12 ::1:7001\r\n").unwrap().extract_error().unwrap_err();
        let node = SingleNodeRoutingInfo::ByAddress { host: "::1".into(), port: 7001 };
        assert_eq!(address(&moved), Some(node));
        let nowhere = redis::parse_redis_value(b"-MOVED 12 :7001\r\n").unwrap().extract_error().unwrap_err();
        assert_eq!(address(&nowhere), None);
    }
}
