//! Identifies the server process of a connection.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::SystemTime,
};

use deadpool_postgres::{ClientWrapper, StatementCache};
use larder_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncWrite, Join, join};
use tokio_postgres::{
    CancelToken,
    tls::{ChannelBinding, TlsConnect, TlsStream},
};

use crate::error::unexpected;

/// The maximum number of suspects of other servers to remember. The oldest are dropped first.
const MAX_ELSEWHERE: usize = 256;

/// A server process. The time distinguishes it from a later process with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    /// The start time of the server. It distinguishes the servers that a URL may reach, and a server before and after a
    /// restart, which ends all processes.
    pub(crate) server: SystemTime,
    pub(crate) pid: i32,
    pub(crate) started: SystemTime,
}

/// The properties of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Identity {
    /// Whether statements are prepared: only on a direct connection to the server. Behind a pooler the next statement
    /// may run in another process, where a name may mean another statement.
    pub(crate) prepares: bool,
    /// The server process, if the connection is direct and this user may end the process.
    pub(crate) backend: Option<Backend>,
}

/// Asks for the [`Identity`], and for the database's encoding. The start of the process is null if this user may not
/// end it.
// Every user that may call the function may end its own processes. A role that was switched to might not count as their
// owner.
pub(crate) const IDENTIFY: &str = "SELECT getdatabaseencoding()::text, pg_postmaster_start_time(), a.pid, \
     CASE WHEN session_user = current_user AND \
     (SELECT bool_and(has_function_privilege(p.oid, 'EXECUTE')) FROM pg_catalog.pg_proc AS p \
     WHERE p.proname = 'pg_terminate_backend' AND p.pronamespace = 'pg_catalog'::regnamespace) \
     THEN a.backend_start END \
     FROM pg_catalog.pg_stat_activity AS a WHERE a.pid = pg_backend_pid()";

/// Ends the processes that still exist, and returns one row for each. Parameters: their numbers and start times. A
/// process of another user is a later one with the same number. If the start time of this user's process is hidden, it
/// counts as still running.
pub(crate) const END: &str = "SELECT CASE WHEN a.backend_start IS NOT NULL THEN pg_terminate_backend(a.pid) END \
     FROM unnest($1, $2) AS old (pid, started) JOIN pg_catalog.pg_stat_activity AS a \
     ON a.pid = old.pid AND a.usename = session_user AND coalesce(a.backend_start = old.started, true)";

impl Identity {
    /// Evaluates the answer to [`IDENTIFY`] on the connection with this token.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if the database's encoding cannot represent every key.
    pub(crate) async fn new(rows: &[tokio_postgres::Row], token: &CancelToken) -> Result<Self> {
        let Some(row) = rows.first() else { return Ok(Self::default()) };
        let encoding: String = row.try_get(0).map_err(unexpected)?;
        // SQL_ASCII stores bytes unchanged.
        if !["UTF8", "SQL_ASCII"].contains(&&*encoding) {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "the database's encoding {encoding} cannot represent every key and value: use a database created \
                     with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
                ),
            ));
        }
        let server: SystemTime = row.try_get(1).map_err(unexpected)?;
        let pid: i32 = row.try_get(2).map_err(unexpected)?;
        let started: Option<SystemTime> = row.try_get(3).map_err(unexpected)?;
        let direct = announced_pid(token).await == Some(pid);
        let started = started.filter(|_| direct);
        Ok(Self { prepares: direct, backend: started.map(|started| Backend { server, pid, started }) })
    }
}

/// Returns the process that the other end announced when the connection was made. A pooler announces an invented one,
/// to tell its clients apart when they cancel a statement.
async fn announced_pid(token: &CancelToken) -> Option<i32> {
    // The number is private in the driver, but part of a request to cancel: a code of four bytes, the number, and a
    // secret. This request is recorded and not sent.
    let mut request = Vec::new();
    // `S` accepts a request for TLS.
    let stream: Box<dyn Recorder + '_> = Box::new(join(&b"S"[..], &mut request));
    token.cancel_query_raw(stream, Unencrypted).await.ok()?;
    let (_, tail) = request.split_last_chunk::<8>()?;
    tail.first_chunk::<4>().map(|pid| i32::from_be_bytes(*pid))
}

/// The stream that records such a request.
trait Recorder: AsyncRead + AsyncWrite + Send + Unpin {}

impl Recorder for Join<&[u8], &mut Vec<u8>> {}

impl TlsStream for Box<dyn Recorder + '_> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

struct Unencrypted;

impl<'a> TlsConnect<Box<dyn Recorder + 'a>> for Unencrypted {
    type Stream = Box<dyn Recorder + 'a>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Stream, Infallible>>;

    fn connect(self, stream: Self::Stream) -> Self::Future {
        ready(Ok(stream))
    }
}

/// Locks a mutex. A poisoned one is safe to use, because no code panics while it holds one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The identity of each connection of a pool. The statement cache of a connection represents it here: it lives as long,
/// and has no place for more data.
#[derive(Default)]
pub(crate) struct Identities(Mutex<Vec<(Weak<StatementCache>, Identity)>>);

impl Identities {
    pub(crate) fn get(&self, client: &ClientWrapper) -> Option<Identity> {
        // While a weak reference exists, no other cache can have the same address.
        let same = |cache: &Weak<StatementCache>| cache.as_ptr() == Arc::as_ptr(&client.statement_cache);
        lock(&self.0).iter().find(|(cache, _)| same(cache)).map(|(_, identity)| *identity)
    }

    pub(crate) fn insert(&self, client: &ClientWrapper, identity: Identity) {
        let mut identities = lock(&self.0);
        identities.retain(|(cache, _)| cache.strong_count() > 0);
        identities.push((Arc::downgrade(&client.statement_cache), identity));
    }
}

/// The processes that may still execute a change whose caller got an error.
#[derive(Default)]
pub(crate) struct Suspects(Mutex<Vec<Backend>>);

impl Suspects {
    pub(crate) fn add(&self, backend: Backend) {
        let mut suspects = lock(&self.0);
        if !suspects.contains(&backend) {
            let elsewhere = |suspect: &Backend| suspect.server != backend.server;
            let remembered = suspects.iter().filter(|suspect| elsewhere(suspect)).count();
            let excess = remembered.saturating_sub(MAX_ELSEWHERE);
            suspects.extract_if(.., |suspect| elsewhere(suspect)).take(excess).for_each(drop);
            suspects.push(backend);
        }
    }

    /// Returns the suspects of this server. Those of another server cannot change data here, and stay until that server
    /// answers again.
    pub(crate) fn of(&self, server: SystemTime) -> Vec<Backend> {
        lock(&self.0).iter().filter(|suspect| suspect.server == server).copied().collect()
    }

    /// Removes processes that have ended.
    pub(crate) fn remove(&self, ended: &[Backend]) {
        lock(&self.0).retain(|suspect| !ended.contains(suspect));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SERVER: SystemTime = SystemTime::UNIX_EPOCH;

    fn backend(pid: i32, started: u64) -> Backend {
        Backend { server: SERVER, pid, started: SERVER + Duration::from_secs(started) }
    }

    #[test]
    fn a_suspect_is_remembered_once_until_it_has_ended() {
        let (suspects, one, two) = (Suspects::default(), backend(1, 1), backend(1, 2));
        suspects.add(one);
        suspects.add(one);
        suspects.add(two);
        assert_eq!(suspects.of(SERVER), [one, two]);
        suspects.remove(&[two]);
        assert_eq!(suspects.of(SERVER), [one]);
        suspects.remove(&[one]);
        assert!(suspects.of(SERVER).is_empty());
    }

    #[test]
    fn only_suspects_of_other_servers_are_dropped() {
        let suspects = Suspects::default();
        let elsewhere = |number: u64| SERVER + Duration::from_secs(number + 1);
        for number in 0..1_000 {
            suspects.add(backend(1, number));
        }
        assert_eq!(suspects.of(SERVER).len(), 1_000);
        for number in 0..1_000 {
            suspects.add(Backend { server: elsewhere(number), ..backend(1, 1) });
        }
        assert!(suspects.of(elsewhere(0)).is_empty());
        assert_eq!(suspects.of(elsewhere(999)).len(), 1);
    }
}
