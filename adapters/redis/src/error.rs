//! Errors of the driver and the server, as Larder's.

use std::{borrow::Cow, error::Error as StdError, io, sync::Arc};

use larder_core::{Error, ErrorKind as Kind};
use redis::{ErrorKind as DriverKind, RedisError, ServerErrorKind};

/// A configuration error. Nothing was sent.
pub(crate) fn configuration(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(Kind::InvalidConfig, message).not_applied()
}

pub(crate) fn unexpected_reply() -> Error {
    Error::new(Kind::Other, "the server sent a reply of an unexpected type")
}

/// Whether the server has refused a command with these words.
pub(crate) fn says(error: &RedisError, words: &str) -> bool {
    error.kind() == DriverKind::Server(ServerErrorKind::ResponseError) && detail(error).contains(words)
}

/// Whether the server does not speak RESP3.
pub(crate) fn lacks_resp3(error: &RedisError) -> bool {
    error.kind() == DriverKind::RESP3NotSupported
        || error.code() == Some("NOPROTO")
        || says(error, "unknown command")
}

/// Whether the connection that failed so must be replaced by a new one.
pub(crate) fn breaks_connection(error: &RedisError) -> bool {
    match error.kind() {
        // A time-out too: what is left on the connection may never be answered.
        DriverKind::Io | DriverKind::Parse | DriverKind::AuthenticationFailed => true,
        // The server is a master no longer, or has forgotten who we are.
        DriverKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => true,
        // Before Redis 7 an error inside a script hides its code in the message.
        _ => error.code() == Some("NOAUTH") || says(error, "READONLY"),
    }
}

fn detail(error: &RedisError) -> &str {
    error.detail().unwrap_or_default()
}

/// The error of an attempt to connect, as Larder's. What breaks an established connection is a wrong
/// configuration here.
pub(crate) fn connecting(error: &RedisError) -> Error {
    match io_error(error) {
        Some(io) if io.kind() == io::ErrorKind::InvalidData => Error::new(
            Kind::InvalidConfig,
            "the TLS handshake failed; check that the server's certificate is for this host and signed by an \
             authority that is trusted here (option `tls_ca`)",
        )
        .with_source(io.to_string()),
        _ if error.kind() == DriverKind::Parse => {
            Error::new(Kind::Other, "the server's reply is not the Redis protocol; check host and port")
        }
        _ => from_redis(error),
    }
}

/// The error of a command, as Larder's. A server's message may quote keys and values ("unknown command
/// ... with args beginning with ..."), so only messages that are known to quote none are kept.
///
/// Only a refusal proves that a change was not applied. Redis checks a command before it runs it, and
/// each script changes something in its last step only.
pub(crate) fn from_redis(error: &RedisError) -> Error {
    let (kind, message) = match error.kind() {
        // The command may have been executed before the connection broke.
        DriverKind::Io => return from_io(error).partly_applied(),
        DriverKind::Server(_) | DriverKind::Extension => return from_server(error),
        DriverKind::ClusterConnectionNotFound => {
            let message = "no node of the cluster that serves the key can be reached";
            return Error::new(Kind::Unavailable, message).not_applied();
        }
        DriverKind::Parse => (Kind::Unavailable, BROKEN),
        DriverKind::AuthenticationFailed => (Kind::PermissionDenied, WRONG_PASSWORD),
        DriverKind::InvalidClientConfig | DriverKind::Client | DriverKind::EmptySentinelList => (
            Kind::InvalidConfig,
            "the driver refused the configuration; check the URL, its options and the certificates",
        ),
        DriverKind::RESP3NotSupported => (
            Kind::InvalidConfig,
            "the server does not speak RESP3; leave the option `protocol` out or set it to `resp2`",
        ),
        DriverKind::MasterNameNotFoundBySentinel => (
            Kind::Unavailable,
            "no Sentinel knows a master of that name that is up; check the name in the URL if it stays so",
        ),
        DriverKind::UnexpectedReturnType => return unexpected_reply(),
        _ => (Kind::Other, "the driver failed"),
    };
    Error::new(kind, message)
}

const BROKEN: &str = "the connection broke: what arrived is not what the server sent";
const WRONG_PASSWORD: &str = "the server refused: user or password is wrong";

fn from_io(error: &RedisError) -> Error {
    if error.is_timeout() {
        let message = "the server did not answer in time (options `timeout`, `connect_timeout`)";
        return Error::new(Kind::Timeout, message);
    }
    // The cluster client wraps whatever kept it from its first nodes into an I/O error.
    let detail = detail(error);
    if ["WRONGPASS", "NOAUTH", "NOPERM", "uthentication failed"].iter().any(|word| detail.contains(word)) {
        return Error::new(Kind::PermissionDenied, WRONG_PASSWORD);
    }
    let Some(io) = io_error(error) else {
        return Error::new(Kind::Unavailable, "the server cannot be reached");
    };
    let message = match io.kind() {
        // Of a TLS record or an alert.
        io::ErrorKind::InvalidData => BROKEN,
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            "nothing listens at the server's address"
        }
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::UnexpectedEof => "the connection was closed",
        _ => "the server cannot be reached",
    };
    // Its text quotes no argument of a command.
    Error::new(Kind::Unavailable, message).with_source(io.to_string())
}

/// The I/O error inside, which the driver keeps behind an `Arc`.
fn io_error(error: &RedisError) -> Option<&io::Error> {
    let source = error.source()?;
    source.downcast_ref::<io::Error>().or_else(|| {
        source.downcast_ref::<Arc<dyn StdError + Send + Sync>>().and_then(|source| source.downcast_ref())
    })
}

fn from_server(error: &RedisError) -> Error {
    let detail = detail(error);
    let code = match error.code().unwrap_or_default() {
        // Before Redis 7 an error inside a script hides its code in the message.
        "ERR" if detail.contains("WRONGTYPE") => "WRONGTYPE",
        "ERR" if detail.contains("OOM command not allowed") => "OOM",
        "ERR" if detail.contains("READONLY") => "READONLY",
        "ERR" if detail.contains("executing the script") || detail.contains("ACL failure") => "NOPERM",
        code => code,
    };
    let (kind, message) = match code {
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "READONLY" | "BUSY" | "NOREPLICAS"
        | "UNBLOCKED" => (Kind::Unavailable, "the server cannot serve the command at the moment"),
        "MOVED" | "ASK" | "CROSSSLOT" => (Kind::InvalidConfig, NODE_OF_A_CLUSTER),
        "NOAUTH" | "WRONGPASS" => (Kind::PermissionDenied, WRONG_PASSWORD),
        "NOPERM" if detail.contains("'eval") => (Kind::PermissionDenied, NO_SCRIPTS),
        "NOPERM" => (Kind::PermissionDenied, "the server refused: this user lacks the permission"),
        "OOM" => (Kind::StorageFull, "the server's memory is full (its `maxmemory`)"),
        "MISCONF" => (Kind::StorageFull, "the server takes no writes since it cannot save to its disk"),
        "WRONGTYPE" => (Kind::Corrupt, "the key holds a value of another type, which is not Larder's"),
        _ => return from_message(code, detail),
    };
    Error::new(kind, format!("{message} ({code})")).not_applied()
}

/// Errors that the server tells apart by their words only: the first line whose word is in the message.
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
    ("cluster support disabled", Kind::InvalidConfig, "the server is no cluster; use `redis://`"),
];
const TOO_MANY_CLIENTS: &str = "the server has as many clients as it takes (its `maxclients`)";
pub(crate) const NODE_OF_A_CLUSTER: &str =
    "the server is one node of a cluster; use `redis-cluster://`, without the number of a database";
const NO_SCRIPTS: &str = "the server runs no scripts for this user; conditional changes, and reading values with their time to live \
     (as a listing does), need the commands `EVAL` and `EVALSHA`";
const TOO_LARGE: &str = "the value is larger than the server takes (its `proto-max-bulk-len`)";
const NO_DATABASE: &str = "the server has no database of the number in the URL";
const TOO_OLD: &str = "the server does not know a command or an option; Redis 6.0 or newer is needed";

fn from_message(code: &str, detail: &str) -> Error {
    if let Some((_, kind, message)) = MESSAGES.iter().find(|(words, ..)| detail.contains(words)) {
        return Error::new(*kind, *message).not_applied();
    }
    let shown: String = code.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    let error = Error::new(Kind::Other, format!("the server answered with an error ({shown})"));
    // Another code may be that of a proxy, which knows nothing of the change. Some proxies also report with
    // this one that their own connection to the server has failed.
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
    fn kinds() {
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
    fn failure_of_a_proxy_proves_nothing() {
        for line in ["ERR Connection timed out", "ERR Connection refused", "PROXY no server"] {
            assert_eq!(reply(line).outcome(), Outcome::Unknown, "{line}");
        }
    }

    #[test]
    fn a_refusal_proves_that_nothing_was_applied() {
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
        // A proxy in between does not know what the server has done.
        assert_eq!(reply("upstream request timeout").outcome(), Outcome::Unknown);
    }

    #[test]
    fn a_connection_that_breaks_proves_nothing() {
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
    fn a_user_without_scripts_is_told_so() {
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
    fn errors_of_a_node_name_the_scheme_of_clusters() {
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
    fn what_the_server_quotes_is_not_repeated() {
        for line in ["ERR unknown command 'X', with args beginning with: 'hunter2'", "HUNTER hunter2"] {
            let error = reply(line);
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn io_errors_keep_their_words() {
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
