//! Closes former connections before a new one is used.
//!
//! Commands sent on a connection that timed out or broke may still be on their way to the server. If a later change
//! were sent on a new connection, the older one could arrive after it and overwrite it. Therefore the new connection
//! first makes the server close the former ones.

use larder_core::{Error, ErrorKind, Result};
use redis::{Cmd, InfoDict, RedisError, RedisResult, Value};

use crate::{connection::Connection, error, keyspace::Route};

/// The maximum number of former connections to remember because their server process has not answered again. The
/// oldest are dropped first.
const MAX_FORMER: usize = 64;

/// The server's identity of a connection. Client numbers start again when a server restarts, so a number alone could
/// belong to another client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    id: String,
    run_id: String,
}

impl Identity {
    /// Makes the server close the `former` connections. Returns the connections to remember: those that may still be
    /// open, and this one last. `None` means that this is the first connection. An empty list means that the server
    /// cannot close connections.
    pub(crate) async fn replace(connection: &Connection, former: Option<&[Self]>) -> Result<Vec<Self>> {
        let former = match former {
            None => {
                let identity = Self::learn(connection).await.map_err(|error| error::from_redis(&error))?;
                return Ok(identity.into_iter().collect());
            }
            Some([]) => return Ok(Vec::new()),
            Some(former) => former,
        };
        let failed = |error: RedisError| unconfirmed(error::from_redis(&error).message());
        let refused = "this user may no longer run `CLIENT INFO`, `CLIENT KILL` or `INFO`";
        let identity = Self::learn(connection).await.map_err(failed)?.ok_or_else(|| unconfirmed(refused))?;
        for former in former.iter().filter(|former| former.run_id == identity.run_id) {
            connection.call(kill(&former.id), Route::Any).await.map_err(failed)?;
        }
        Ok(identity.and_unclosed(former))
    }

    /// Returns this connection, and the former ones that its server process cannot close. Their process may have ended,
    /// or may be another running server behind the same name, which closes them when it answers again.
    fn and_unclosed(self, former: &[Self]) -> Vec<Self> {
        let mut kept: Vec<Self> =
            former.iter().filter(|former| former.run_id != self.run_id).cloned().collect();
        kept.drain(..kept.len().saturating_sub(MAX_FORMER));
        kept.push(self);
        kept
    }

    async fn learn(connection: &Connection) -> RedisResult<Option<Self>> {
        let questions = vec![
            (redis::cmd("CLIENT").arg("INFO").clone(), Route::Any),
            (redis::cmd("INFO").arg("server").clone(), Route::Any),
            // No client has this number: this only tests whether the command is allowed.
            (kill(&i64::MAX.to_string()), Route::Any),
        ];
        let texts = texts(connection.send(questions).await)?;
        Ok(texts.and_then(|texts| Self::parse(&texts[0], &InfoDict::new(&texts[1]))))
    }

    fn parse(client: &str, server: &InfoDict) -> Option<Self> {
        // The same name may resolve to another node of the cluster next time.
        if is_cluster(server) {
            return None;
        }
        let id = field(client, "id=")?;
        Some(Self { id: id.to_owned(), run_id: server.get("run_id")? })
    }
}

/// Returns whether the server is one node of a cluster.
pub(crate) fn is_cluster(server: &InfoDict) -> bool {
    server.get("redis_mode").is_some_and(|mode: String| mode == "cluster")
}

/// Returns a field of the reply to `CLIENT INFO`.
pub(crate) fn field<'a>(client: &'a str, name: &str) -> Option<&'a str> {
    client.split_ascii_whitespace().find_map(|field| field.strip_prefix(name))
}

/// Returns the replies as texts; `None` if the server does not know a command, or this user may not run it. Other
/// errors may be temporary.
pub(crate) fn texts(replies: Vec<RedisResult<Value>>) -> RedisResult<Option<Vec<String>>> {
    let text = |reply: RedisResult<Value>| Ok(redis::from_redis_value(reply?).unwrap_or_default());
    match replies.into_iter().map(text).collect::<RedisResult<_>>() {
        Err(error) if matches!(error.code(), Some("NOPERM" | "ERR")) => Ok(None),
        texts => texts.map(Some),
    }
}

fn kill(id: &str) -> Cmd {
    redis::cmd("CLIENT").arg("KILL").arg("ID").arg(id).clone()
}

pub(crate) fn unconfirmed(cause: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!(
            "the server did not confirm that it closed the former connection, on which a change may still be on \
             its way ({cause}): try again"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "id=7 addr=10.0.0.9:4711 laddr=10.0.0.1:6379 fd=8 name= age=0 db=0\n";

    #[test]
    fn an_identity_is_a_client_number_and_a_process() {
        let server = InfoDict::new(
            "# Server\r\nredis_version:8.0.0\r\nredis_mode:standalone\r\nrun_id:abc\r\ntcp_port:1\r\n",
        );
        let identity = Identity::parse(CLIENT, &server).unwrap();
        assert_eq!(identity.id, "7");
        assert_eq!(identity.run_id, "abc");
        assert_eq!(Identity::parse("fd=8\n", &server), None);
        assert_eq!(Identity::parse(CLIENT, &InfoDict::new("redis_mode:standalone\r\n")), None);
    }

    #[test]
    fn a_node_of_a_cluster_has_no_identity() {
        let server = InfoDict::new("redis_mode:cluster\r\nrun_id:abc\r\n");
        assert_eq!(Identity::parse(CLIENT, &server), None);
    }

    #[test]
    fn only_connections_to_other_processes_are_remembered() {
        let identity = |id: usize, run_id: usize| Identity { id: id.to_string(), run_id: run_id.to_string() };
        let former = [identity(1, 1), identity(2, 2)];
        assert_eq!(identity(3, 2).and_unclosed(&former), [identity(1, 1), identity(3, 2)]);
        let former: Vec<_> = (0..200).map(|number| identity(number, number)).collect();
        let kept = identity(200, 200).and_unclosed(&former);
        assert_eq!(kept[0], identity(200 - MAX_FORMER, 200 - MAX_FORMER));
        assert_eq!(kept.len(), MAX_FORMER + 1);
    }
}
