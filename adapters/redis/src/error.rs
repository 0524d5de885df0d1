//! Converts errors of the driver and the server.

use std::{borrow::Cow, error::Error as StdError, io, sync::Arc};

use larder_core::{Error, ErrorKind as Kind};
use redis::{ErrorKind as DriverKind, RedisError, ServerErrorKind};

/// Returns a configuration error. Nothing was sent.
pub(crate) fn configuration(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(Kind::InvalidConfig, message).not_applied()
}

pub(crate) fn unexpected_reply() -> Error {
    Error::new(Kind::Other, "the server sent a reply of an unexpected type")
}

/// Returns whether the server rejected a command with these words.
pub(crate) fn says(error: &RedisError, words: &str) -> bool {
    error.kind() == DriverKind::Server(ServerErrorKind::ResponseError) && detail(error).contains(words)
}

/// Returns whether the server does not support RESP3.
pub(crate) fn lacks_resp3(error: &RedisError) -> bool {
    error.kind() == DriverKind::RESP3NotSupported
        || error.code() == Some("NOPROTO")
        || says(error, "unknown command")
}

/// Returns whether the connection with this error must be replaced.
pub(crate) fn breaks_connection(error: &RedisError) -> bool {
    match error.kind() {
        // Including timeouts: the replies that are still due may never arrive.
        DriverKind::Io | DriverKind::Parse | DriverKind::AuthenticationFailed => true,
        // The server was demoted to a replica, or has dropped the login.
        DriverKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => true,
        // Before Redis 7, the code of an error inside a script is in the message.
        _ => error.code() == Some("NOAUTH") || says(error, "READONLY"),
    }
}

fn detail(error: &RedisError) -> &str {
    error.detail().unwrap_or_default()
}

/// Converts the error of an attempt to connect. Errors that mean a broken connection later mean a wrong configuration
/// here.
pub(crate) fn connecting(error: &RedisError) -> Error {
    match io_error(error) {
        Some(io) if io.kind() == io::ErrorKind::InvalidData => Error::new(
            Kind::InvalidConfig,
            "the TLS handshake failed: check that the server's certificate is for this host, and that its authority is \
             trusted (option `tls_ca`)",
        )
        .with_source(io.to_string()),
        _ if error.kind() == DriverKind::Parse => {
            Error::new(Kind::Other, "the server does not speak the Redis protocol: check host and port")
        }
        _ => from_redis(error),
    }
}

/// Converts the error of a command. A server's message may contain keys and values ("unknown command ... with args
/// beginning with ..."), so only messages that are known to contain none are kept.
///
/// Only a rejection proves that a change was not applied: Redis checks a command before it runs it, and each script
/// makes its only change in its last step.
pub(crate) fn from_redis(error: &RedisError) -> Error {
    let (kind, message) = match error.kind() {
        // The command may have been executed before the connection broke.
        DriverKind::Io => return from_io(error).partly_applied(),
        DriverKind::Server(_) | DriverKind::Extension => return from_server(error),
        DriverKind::ClusterConnectionNotFound => {
            let message = "cannot reach a node of the cluster that serves the key";
            return Error::new(Kind::Unavailable, message).not_applied();
        }
        DriverKind::Parse => (Kind::Unavailable, BROKEN),
        DriverKind::AuthenticationFailed => (Kind::PermissionDenied, WRONG_PASSWORD),
        DriverKind::InvalidClientConfig | DriverKind::Client | DriverKind::EmptySentinelList => (
            Kind::InvalidConfig,
            "the driver rejected the configuration: check the URL, its options and the certificates",
        ),
        DriverKind::RESP3NotSupported => (
            Kind::InvalidConfig,
            "the server does not support RESP3: remove the option `protocol` or set it to `resp2`",
        ),
        DriverKind::MasterNameNotFoundBySentinel => (
            Kind::Unavailable,
            "the Sentinels report no running master with this name: if it does not recover, check the name in the URL",
        ),
        DriverKind::UnexpectedReturnType => return unexpected_reply(),
        _ => (Kind::Other, "the driver failed"),
    };
    Error::new(kind, message)
}

const BROKEN: &str = "the connection broke: received invalid data";
const WRONG_PASSWORD: &str = "the server rejected the user or the password";

fn from_io(error: &RedisError) -> Error {
    if error.is_timeout() {
        let message = "the server did not answer in time (options `timeout`, `connect_timeout`)";
        return Error::new(Kind::Timeout, message);
    }
    // The cluster client wraps the error of its first nodes into an I/O error.
    let detail = detail(error);
    if ["WRONGPASS", "NOAUTH", "NOPERM", "uthentication failed"].iter().any(|word| detail.contains(word)) {
        return Error::new(Kind::PermissionDenied, WRONG_PASSWORD);
    }
    let Some(io) = io_error(error) else {
        return Error::new(Kind::Unavailable, "cannot reach the server");
    };
    let message = match io.kind() {
        // From an invalid TLS record, or an alert.
        io::ErrorKind::InvalidData => BROKEN,
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => "no server listens at this address",
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::UnexpectedEof => "the connection was closed",
        _ => "cannot reach the server",
    };
    // The text contains no arguments of a command.
    Error::new(Kind::Unavailable, message).with_source(io.to_string())
}

/// Returns the inner I/O error, which the driver keeps behind an `Arc`.
fn io_error(error: &RedisError) -> Option<&io::Error> {
    let source = error.source()?;
    source.downcast_ref::<io::Error>().or_else(|| {
        source.downcast_ref::<Arc<dyn StdError + Send + Sync>>().and_then(|source| source.downcast_ref())
    })
}

fn from_server(error: &RedisError) -> Error {
    let detail = detail(error);
    let code = match error.code().unwrap_or_default() {
        // Before Redis 7, the code of an error inside a script is in the message.
        "ERR" if detail.contains("WRONGTYPE") => "WRONGTYPE",
        "ERR" if detail.contains("OOM command not allowed") => "OOM",
        "ERR" if detail.contains("READONLY") => "READONLY",
        "ERR" if detail.contains("executing the script") || detail.contains("ACL failure") => "NOPERM",
        code => code,
    };
    let (kind, message) = match code {
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "READONLY" | "BUSY" | "NOREPLICAS"
        | "UNBLOCKED" => (Kind::Unavailable, "the server cannot run the command at the moment"),
        "MOVED" | "ASK" | "CROSSSLOT" => (Kind::InvalidConfig, NODE_OF_A_CLUSTER),
        "NOAUTH" | "WRONGPASS" => (Kind::PermissionDenied, WRONG_PASSWORD),
        "NOPERM" if detail.contains("'eval") => (Kind::PermissionDenied, NO_SCRIPTS),
        "NOPERM" => (Kind::PermissionDenied, "this user does not have the required permission"),
        "OOM" => (Kind::StorageFull, "the server's memory is full (its `maxmemory`)"),
        "MISCONF" => (Kind::StorageFull, "the server rejects writes because it cannot save to its disk"),
        "WRONGTYPE" => {
            (Kind::Corrupt, "the key has a value of another Redis type, which Larder did not write")
        }
        _ => return from_message(code, detail),
    };
    Error::new(kind, format!("{message} ({code})")).not_applied()
}

/// Errors that differ only in their words: the first line whose text is in the message applies.
const MESSAGES: &[(&str, Kind, &str)] = &[
    ("max number of clients", Kind::Unavailable, TOO_MANY_CLIENTS),
    ("not allowed in cluster mode", Kind::InvalidConfig, NODE_OF_A_CLUSTER),
    ("invalid bulk length", Kind::TooLarge, TOO_LARGE),
    ("maximum allowed size", Kind::TooLarge, TOO_LARGE),
    ("DB index", Kind::InvalidConfig, NO_DATABASE),
    ("SELECT", Kind::InvalidConfig, NO_DATABASE),
    ("unknown command 'EVAL", Kind::Unsupported, NO_SCRIPTS),
    ("unknown command `EVAL", Kind::Unsupported, NO_SCRIPTS),
    ("unknown command", Kind::Unsupported, TOO_OLD),
    ("syntax error", Kind::Unsupported, TOO_OLD),
    ("cluster support disabled", Kind::InvalidConfig, "the server is not a cluster: use `redis://`"),
];
const TOO_MANY_CLIENTS: &str = "the server has reached its limit of clients (`maxclients`)";
pub(crate) const NODE_OF_A_CLUSTER: &str =
    "the server is a node of a cluster: use `redis-cluster://`, without a database number";
const NO_SCRIPTS: &str = "the server runs no scripts for this user: conditional changes, and reading values with \
     their time to live (as listings do), need the commands `EVAL` and `EVALSHA`";
const TOO_LARGE: &str = "the value exceeds the server's limit (`proto-max-bulk-len`)";
const NO_DATABASE: &str = "the server has no database with this number";
const TOO_OLD: &str = "the server does not support a required command or option: use Redis 6.0 or newer";

fn from_message(code: &str, detail: &str) -> Error {
    if let Some((_, kind, message)) = MESSAGES.iter().find(|(words, ..)| detail.contains(words)) {
        return Error::new(*kind, *message).not_applied();
    }
    let shown: String = code.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    let error = Error::new(Kind::Other, format!("the server answered with an error ({shown})"));
    // Other codes may come from a proxy, which does not know whether the change was applied. Some proxies also use
    // `ERR` to report that their own connection to the server failed.
    let of_a_proxy = ["timed out", "onnection", "closed"].iter().any(|words| detail.contains(words));
    if code == "ERR" && !of_a_proxy { error.not_applied() } else { error }
}

#[cfg(test)]
mod tests {
    use larder_core::{ErrorKind, Outcome};

    use super::*;

    fn refused(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    fn reply(line: &str) -> Error {
        from_redis(&refused(line))
    }

    #[test]
    fn a_connection_to_a_demoted_server_is_broken() {
        for line in [
            "READONLY You can't write against a read only replica.",
            "ERR Error running script (call to f_0): @user_script:1: -READONLY You can't write against a read \
             only replica.",
            "MASTERDOWN Link with MASTER is down",
            "NOAUTH Authentication required.",
        ] {
            assert!(breaks_connection(&refused(line)), "{line}");
        }
        for line in ["ERR something new", "WRONGTYPE Operation against a key", "OOM command not allowed"] {
            assert!(!breaks_connection(&refused(line)), "{line}");
        }
    }

    #[test]
    fn server_errors_have_kinds() {
        for (line, kind) in [
            ("LOADING Redis is loading the dataset in memory", ErrorKind::Unavailable),
            ("MASTERDOWN Link with MASTER is down", ErrorKind::Unavailable),
            ("CLUSTERDOWN The cluster is down", ErrorKind::Unavailable),
            ("READONLY You can't write against a read only replica.", ErrorKind::Unavailable),
            ("TRYAGAIN Multiple keys request during rehashing of slot", ErrorKind::Unavailable),
            ("BUSY Redis is busy running a script.", ErrorKind::Unavailable),
            ("ERR max number of clients reached", ErrorKind::Unavailable),
            ("MOVED 12182 10.0.0.1:6379", ErrorKind::InvalidConfig),
            ("CROSSSLOT Keys in request don't hash to the same slot", ErrorKind::InvalidConfig),
            ("ERR SELECT is not allowed in cluster mode", ErrorKind::InvalidConfig),
            ("NOAUTH Authentication required.", ErrorKind::PermissionDenied),
            ("WRONGPASS invalid username-password pair or user is disabled.", ErrorKind::PermissionDenied),
            ("NOPERM User x has no permissions to run the 'get' command", ErrorKind::PermissionDenied),
            ("OOM command not allowed when used memory > 'maxmemory'.", ErrorKind::StorageFull),
            ("MISCONF Errors writing to the AOF file: No space left on device", ErrorKind::StorageFull),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", ErrorKind::Corrupt),
            ("ERR Error running script: WRONGTYPE Operation against a key", ErrorKind::Corrupt),
            ("ERR Protocol error: invalid bulk length", ErrorKind::TooLarge),
            ("ERR DB index is out of range", ErrorKind::InvalidConfig),
            ("ERR unknown command 'GETEX'", ErrorKind::Unsupported),
            ("ERR something new", ErrorKind::Other),
        ] {
            assert_eq!(reply(line).kind(), kind, "{line}");
            assert_eq!(reply(line).is_retryable(), kind == ErrorKind::Unavailable, "{line}");
        }
    }

    #[test]
    fn the_outcome_is_unknown_after_an_error_of_a_proxy() {
        for line in ["ERR Connection timed out", "ERR Connection refused", "PROXY no server"] {
            assert_eq!(reply(line).outcome(), Outcome::Unknown, "{line}");
        }
    }

    #[test]
    fn a_rejected_change_is_not_applied() {
        for line in [
            "ERR something new",
            "ERR unknown command 'GETEX'",
            "ERR max number of clients reached",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "MISCONF Errors writing to the AOF file: No space left on device",
            "READONLY You can't write against a read only replica.",
            "NOREPLICAS Not enough good replicas to write.",
            "NOPERM User x has no permissions to run the 'set' command",
            "NOAUTH Authentication required.",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "LOADING Redis is loading the dataset in memory",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "CLUSTERDOWN Hash slot not served",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "MOVED 12182 10.0.0.1:6379",
            "ASK 12182 10.0.0.1:6379",
            "BUSY Redis is busy running a script.",
            "ERR Error running script (call to f_0): @user_script:1: -READONLY You can't write against a read \
             only replica.",
        ] {
            assert_eq!(reply(line).outcome(), Outcome::NotApplied, "{line}");
        }
        let unreachable = RedisError::from((DriverKind::ClusterConnectionNotFound, "no node"));
        assert_eq!(from_redis(&unreachable).outcome(), Outcome::NotApplied);
        // A proxy does not know whether the change was applied.
        assert_eq!(reply("upstream request timeout").outcome(), Outcome::Unknown);
    }

    #[test]
    fn the_outcome_is_unknown_after_a_broken_connection() {
        for kind in [
            io::ErrorKind::InvalidData,
            io::ErrorKind::BrokenPipe,
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied,
        ] {
            let error = from_redis(&io::Error::new(kind, "no").into());
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown), "{kind}");
        }
        let garbled = redis::parse_redis_value(b"\xff\xff\r\n").unwrap_err();
        let error = from_redis(&garbled);
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown));
        assert_eq!(connecting(&garbled).kind(), ErrorKind::Other);
        let login = (DriverKind::Io, "Failed to connect", "NOAUTH Authentication required".to_owned());
        assert_eq!(from_redis(&login.into()).outcome(), Outcome::Unknown);
    }

    #[test]
    fn errors_for_missing_script_permissions_name_the_commands() {
        for line in [
            "NOPERM User x has no permissions to run the 'evalsha' command",
            "NOPERM this user has no permissions to run the 'eval' command or its subcommand",
            "ERR unknown command 'EVALSHA', with args beginning with: 'x'",
            "ERR unknown command `EVAL`, with args beginning with: `x`",
        ] {
            assert!(reply(line).message().contains("`EVAL`"), "{line}: {}", reply(line));
        }
        for line in [
            "ERR ACL failure in script: User x has no permissions to run the 'pttl' command",
            "ERR The user executing the script can't run this command or subcommand script: f_0",
        ] {
            assert_eq!(reply(line).kind(), ErrorKind::PermissionDenied, "{line}");
        }
    }

    #[test]
    fn errors_of_a_cluster_node_name_the_cluster_scheme() {
        for line in [
            "MOVED 12182 10.0.0.1:6379",
            "ASK 12182 10.0.0.1:6379",
            "CROSSSLOT Keys in request don't hash to the same slot",
            "ERR SELECT is not allowed in cluster mode",
        ] {
            assert!(reply(line).message().contains("use `redis-cluster://`"), "{line}");
        }
    }

    #[test]
    fn errors_contain_no_text_quoted_by_the_server() {
        for line in ["ERR unknown command 'X', with args beginning with: 'hunter2'", "HUNTER hunter2"] {
            let error = reply(line);
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn io_errors_keep_their_kind_and_source() {
        let refused = from_redis(&io::Error::from(io::ErrorKind::ConnectionRefused).into());
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(refused.source().is_some() && refused.is_retryable());
        let late = from_redis(&io::Error::from(io::ErrorKind::TimedOut).into());
        assert_eq!(late.kind(), ErrorKind::Timeout);
        let cluster = "Failed to create initial connections";
        let cluster = (DriverKind::Io, cluster, "WRONGPASS invalid username-password pair".to_owned());
        assert_eq!(from_redis(&cluster.into()).kind(), ErrorKind::PermissionDenied);
        let tls = connecting(&io::Error::new(io::ErrorKind::InvalidData, "UnknownIssuer").into());
        assert_eq!(tls.kind(), ErrorKind::InvalidConfig);
    }
}
