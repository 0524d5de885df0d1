//! Making sure that a former connection is dead before another is used.
//!
//! Commands sent on a connection that timed out or broke may still be on their way to the server. Were
//! a later change sent on a new connection, the older one could arrive after it and overwrite it. So
//! the new connection first has the server close the former ones.

use larder_core::{Error, ErrorKind, Result};
use redis::{Cmd, InfoDict, RedisError, RedisResult, Value};

use crate::{connection::Connection, error, keyspace::Route};

/// How many former connections are remembered whose server process did not answer again. The oldest
/// are forgotten first.
const MAX_FORMER: usize = 64;

/// How a server process names a connection. Client numbers begin again when a server restarts, so a
/// number alone could belong to another client by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    id: String,
    run_id: String,
}

impl Identity {
    /// Has the `former` connections closed. Returns the connections to remember: those of them that may
    /// still be open, and this one last. With no list, this is the first connection. An empty list means
    /// that the server cannot be asked to close connections.
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

    /// This connection, and the former ones that its server process cannot close. Their process may have
    /// ended, or may be another living server behind the same name. The latter closes them when it
    /// answers again.
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
            // No client has this number: it only shows whether the command is allowed.
            (kill(&i64::MAX.to_string()), Route::Any),
        ];
        let texts = texts(connection.send(questions).await)?;
        Ok(texts.and_then(|texts| Self::parse(&texts[0], &InfoDict::new(&texts[1]))))
    }

    fn parse(client: &str, server: &InfoDict) -> Option<Self> {
        // The same name may lead to another node of the cluster the next time.
        if is_cluster(server) {
            return None;
        }
        let id = field(client, "id=")?;
        Some(Self { id: id.to_owned(), run_id: server.get("run_id")? })
    }
}

/// Whether the server is one node of a cluster.
pub(crate) fn is_cluster(server: &InfoDict) -> bool {
    server.get("redis_mode").is_some_and(|mode: String| mode == "cluster")
}

/// A field of the reply to `CLIENT INFO`.
pub(crate) fn field<'a>(client: &'a str, name: &str) -> Option<&'a str> {
    client.split_ascii_whitespace().find_map(|field| field.strip_prefix(name))
}

/// The replies as texts; `None` if the server does not know a command, or this user may not run it. Any other
/// error may be gone the next time.
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
            "the server did not confirm that the former connection, on which a change may still be on its way, is \
             closed ({cause}); try again"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "id=7 addr=10.0.0.9:4711 laddr=10.0.0.1:6379 fd=8 name= age=0 db=0\n";

    #[test]
    fn an_identity_is_number_and_process() {
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
    fn node_of_a_cluster_has_no_identity() {
        let server = InfoDict::new("redis_mode:cluster\r\nrun_id:abc\r\n");
        assert_eq!(Identity::parse(CLIENT, &server), None);
    }

    #[test]
    fn only_connections_to_other_processes_stay_remembered() {
        let identity = |id: usize, run_id: usize| Identity { id: id.to_string(), run_id: run_id.to_string() };
        let former = [identity(1, 1), identity(2, 2)];
        assert_eq!(identity(3, 2).and_unclosed(&former), [identity(1, 1), identity(3, 2)]);
        let former: Vec<_> = (0..200).map(|number| identity(number, number)).collect();
        let kept = identity(200, 200).and_unclosed(&former);
        assert_eq!(kept[0], identity(200 - MAX_FORMER, 200 - MAX_FORMER));
        assert_eq!(kept.len(), MAX_FORMER + 1);
    }
}
