//! Reads the identities of servers and the topology of clusters.

use std::collections::{BTreeMap, BTreeSet};

use larder_core::{ErrorKind, Result};
use redis::{InfoDict, Value};

use crate::{
    active::ActiveConnection,
    error::{self, unexpected_reply},
    fence,
    keyspace::Route,
};

/// Returns the id of the server process; `None` if this user may not read it. Rejects a single node of a cluster, whose
/// listing would lack the keys of the other nodes.
pub(crate) async fn run_id(connection: &ActiveConnection, route: Route<'_>) -> Result<Option<String>> {
    let info = connection.query(redis::cmd("INFO").arg("server").clone(), route).await;
    let Some(info): Option<InfoDict> = allowed(info)? else { return Ok(None) };
    if matches!(route, Route::Any) && fence::is_cluster(&info) {
        return Err(error::configuration(error::NODE_OF_A_CLUSTER));
    }
    Ok(info.get("run_id"))
}

/// Returns the identity of the database, which does not depend on the address of the server. `None` if the server does
/// not have it or this user may not read it. A server and its replicas share their replication id; all nodes of a
/// cluster know the masters.
pub(crate) async fn database(connection: &ActiveConnection) -> Result<Option<String>> {
    let questions =
        vec![(redis::cmd("INFO"), Route::Any), (redis::cmd("CLIENT").arg("INFO").clone(), Route::Any)];
    let replies =
        fence::texts(connection.send(questions).await).map_err(|error| error::from_redis(&error))?;
    let Some([server, client]) = replies.as_deref() else { return Ok(None) };
    let server = InfoDict::new(server);
    let servers = if fence::is_cluster(&server) {
        let masters = allowed(slots(connection).await)?;
        masters.map(|masters| masters.into_keys().collect::<Vec<_>>().join(","))
    } else {
        server.get("master_replid")
    };
    let number = fence::field(client, "db=");
    Ok(servers.zip(number).map(|(servers, number)| format!("{servers}/{number}")))
}

/// Turns an error into `None` if this user may not run the command, or the server does not know it.
fn allowed<T>(reply: Result<T>) -> Result<Option<T>> {
    match reply {
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {
            Ok(None)
        }
        reply => reply.map(Some),
    }
}

/// The masters by name, each with its ranges of slots. A single server has no name and no slots.
pub(crate) type Masters = BTreeMap<String, BTreeSet<(u16, u16)>>;

/// Returns all current masters.
pub(crate) async fn masters(connection: &ActiveConnection) -> Result<Masters> {
    if connection.is_cluster() { slots(connection).await } else { Ok(Masters::from([<_>::default()])) }
}

async fn slots(connection: &ActiveConnection) -> Result<Masters> {
    let slots = connection.query(redis::cmd("CLUSTER").arg("SLOTS").clone(), Route::Any).await?;
    parse_slots(slots).ok_or_else(unexpected_reply)
}

/// Parses the reply of `CLUSTER SLOTS`; `None` if the reply has another form.
fn parse_slots(ranges: Vec<Vec<Value>>) -> Option<Masters> {
    let mut masters = Masters::new();
    for range in ranges {
        let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &range[..] else { return None };
        // Address, port, name.
        let [_, _, Value::BulkString(name), ..] = &master[..] else { return None };
        let slots = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
        masters.entry(String::from_utf8(name.clone()).ok()?).or_default().insert(slots);
    }
    Some(masters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, name: &str) -> Vec<Value> {
        let master = vec![
            Value::BulkString(b"10.0.0.1".to_vec()),
            Value::Int(6379),
            Value::BulkString(name.into()),
            Value::Array(vec![]),
        ];
        vec![Value::Int(first), Value::Int(last), Value::Array(master)]
    }

    #[test]
    fn ranges_are_grouped_by_master() {
        let reply = vec![range(9, 20, "a"), range(3, 8, "b"), range(0, 2, "a")];
        let masters = parse_slots(reply).unwrap();
        assert_eq!(masters["a"], [(0, 2), (9, 20)].into());
        assert_eq!(masters["b"], [(3, 8)].into());
    }

    #[test]
    fn replies_of_another_form_are_none() {
        assert_eq!(parse_slots(vec![vec![Value::Int(1)]]), None);
        let nameless = Value::Array(vec![Value::Okay]);
        assert_eq!(parse_slots(vec![vec![Value::Int(1), Value::Int(2), nameless]]), None);
    }
}
