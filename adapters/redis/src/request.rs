//! Builds the command for an operation on one key, and interprets its reply.

use std::sync::{
    LazyLock,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use larder_core::{Action, Condition, Error, Expiry, ReadOptions, Record, Result, Version};
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};

use crate::{
    config::CompareAndSwap,
    error::{self, unexpected_reply},
};

/// The maximum size of an old value that is sent for comparison. Of a larger value, only the digest is sent.
const SENT_LIMIT: usize = 16 * 1024;

/// Reads the value and its time to live. `ARGV`: a command to run on the key afterwards, or nothing.
///
/// A script that fails must not have changed anything, so each script makes at most one change, as its last step.
static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local value = redis.call('GET', KEYS[1])\n\
         if not value then return false end\n\
         local left = redis.call('PTTL', KEYS[1])\n\
         if ARGV[1] then redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2)) end\n\
         return {value, left}",
    )
});

/// Runs a command on the key if the entry exists and matches. `ARGV`: `ANY`, or `IS` and the expected value, or `SHA1`
/// and the digest of the expected value; then the command.
static CHANGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local command = 2\n\
         if ARGV[1] == 'ANY' then\n\
         if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end\n\
         else\n\
         local value = redis.call('GET', KEYS[1])\n\
         if value and ARGV[1] == 'SHA1' then value = redis.sha1hex(value) end\n\
         if value ~= ARGV[2] then return 0 end\n\
         command = 3\n\
         end\n\
         redis.call(ARGV[command], KEYS[1], unpack(ARGV, command + 1))\n\
         return 1",
    )
});

/// A script, and the digest that identifies it on the server.
struct Script {
    source: &'static str,
    digest: String,
}

impl Script {
    fn new(source: &'static str) -> Self {
        Self { source, digest: hex_digest(source.as_bytes()) }
    }
}

/// Returns the SHA-1 digest as scripts compute it: 40 hexadecimal digits in lower case. It distinguishes versions of
/// one key, and protects no secret.
fn hex_digest(bytes: &[u8]) -> String {
    sha1_smol::Sha1::from(bytes).digest().to_string()
}

/// The method of compare-and-swap, and the features that the server lacks.
#[derive(Debug)]
pub(crate) struct Features {
    cas: CompareAndSwap,
    lacks_ifeq: AtomicBool,
    lacks_getex: AtomicBool,
}

impl Features {
    pub(crate) const fn new(cas: CompareAndSwap) -> Self {
        Self { cas, lacks_ifeq: AtomicBool::new(false), lacks_getex: AtomicBool::new(false) }
    }

    /// Returns whether an old value of `length` bytes is compared by `IFEQ`.
    fn uses_ifeq(&self, length: usize) -> bool {
        self.cas == CompareAndSwap::IfEq || self.sends(length) && !self.lacks_ifeq.load(Ordering::Relaxed)
    }

    /// Returns whether an old value of `length` bytes is sent as it is. With 512 bytes, the script then takes the
    /// server
    /// 10.2 µs, and 11.4 µs with a digest, which the client also has to compute (`redis-benchmark`, pipelines of 32,
    /// Redis 8).
    fn sends(&self, length: usize) -> bool {
        self.cas != CompareAndSwap::Script && length <= SENT_LIMIT
    }
}

/// The form in which an operation is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A native command.
    Native,
    /// A script, by its digest.
    Script,
    /// A script, by its source: this server process does not know it yet.
    Source,
}

/// An operation on one key, which is one command and one round trip.
#[derive(Clone, Copy)]
pub(crate) enum Operation<'a> {
    /// A read. If it touches the entry, it also reads the value.
    Read(&'a ReadOptions),
    Change(&'a Action, &'a Condition),
}

impl Operation<'_> {
    /// Returns the form to try first.
    pub(crate) fn form(&self, features: &Features) -> Form {
        let native = match *self {
            Operation::Read(options) if options.touch.is_some() => {
                !features.lacks_getex.load(Ordering::Relaxed)
            }
            Operation::Read(options) => !(options.value && options.ttl),
            Operation::Change(Action::Put(..), Condition::At(version)) => {
                version.as_content().is_some_and(|old| features.uses_ifeq(old.len()))
            }
            Operation::Change(_, Condition::At(_)) => false,
            // The reply of `PERSIST` is the same for an absent entry and one that never expires.
            Operation::Change(Action::Touch(expiry), _) => *expiry != Expiry::Never,
            Operation::Change(..) => true,
        };
        if native { Form::Native } else { Form::Script }
    }

    /// Returns the form to try next if `error` means that the server does not support `form` and did nothing.
    pub(crate) fn fallback(&self, form: Form, error: &RedisError, features: &Features) -> Option<Form> {
        let says = |words| error::says(error, words);
        let lacks = match (*self, form) {
            (_, Form::Script) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                return Some(Form::Source);
            }
            (Operation::Read(_), Form::Native) if says("unknown command") => &features.lacks_getex,
            (Operation::Change(_, Condition::At(_)), Form::Native)
                if features.cas == CompareAndSwap::Auto && says("syntax error") =>
            {
                &features.lacks_ifeq
            }
            _ => return None,
        };
        lacks.store(true, Ordering::Relaxed);
        Some(Form::Script)
    }

    pub(crate) fn command(&self, key: &[u8], form: Form, features: &Features) -> Cmd {
        let (script, native, size) = match *self {
            Operation::Read(options) if options.touch.is_some() => (&READ, "GETEX", 0),
            Operation::Read(options) if options.value => (&READ, "GET", 0),
            Operation::Read(options) if options.ttl => (&READ, "PTTL", 0),
            Operation::Read(_) => (&READ, "EXISTS", 0),
            Operation::Change(action @ Action::Put(value, _), _) => (&CHANGE, name(action), value.len()),
            Operation::Change(action, _) => (&CHANGE, name(action), 0),
        };
        let mut command = Cmd::with_capacity(9, 128 + key.len() + size);
        match form {
            Form::Native => command.arg(native).arg(key),
            Form::Script => command.arg("EVALSHA").arg(&script.digest).arg(1).arg(key),
            Form::Source => command.arg("EVAL").arg(script.source).arg(1).arg(key),
        };
        match *self {
            Operation::Read(options) => match options.touch {
                None => {}
                Some(Expiry::Never) => _ = command.arg("PERSIST"),
                Some(expiry) if form == Form::Native => expires(&mut command, expiry),
                Some(expiry) => _ = command.arg("PEXPIRE").arg(expiry.as_millis()),
            },
            Operation::Change(action, condition) if form == Form::Native => {
                arguments(&mut command, action, condition);
            }
            Operation::Change(action, condition) => {
                match condition {
                    Condition::At(version) => match version.as_content() {
                        Some(old) if features.sends(old.len()) => command.arg("IS").arg(&old[..]),
                        Some(old) => command.arg("SHA1").arg(hex_digest(old)),
                        // A version of another adapter matches no value.
                        None => command.arg("SHA1").arg("-"),
                    },
                    _ => command.arg("ANY"),
                };
                command.arg(native);
                arguments(&mut command, action, &Condition::Any);
            }
        }
        command
    }
}

/// Returns the Redis command for `action`.
const fn name(action: &Action) -> &'static str {
    match action {
        Action::Put(..) => "SET",
        Action::Delete => "DEL",
        Action::Touch(Expiry::Never) => "PERSIST",
        Action::Touch(_) => "PEXPIRE",
    }
}

/// Adds the arguments after the key. Only `SET` takes a condition.
fn arguments(command: &mut Cmd, action: &Action, condition: &Condition) {
    match action {
        Action::Put(value, expiry) => {
            command.arg(&value[..]);
            match condition {
                Condition::Absent => _ = command.arg("NX"),
                Condition::Present => _ = command.arg("XX"),
                Condition::At(version) => {
                    command.arg("IFEQ").arg(version.as_content().map_or(&[][..], |old| old));
                }
                _ => {}
            }
            expires(command, *expiry);
        }
        Action::Delete => {}
        Action::Touch(expiry) => _ = command.arg(expiry.as_millis()),
    }
}

fn expires(command: &mut Cmd, expiry: Expiry) {
    if let Some(millis) = expiry.as_millis() {
        command.arg("PX").arg(millis);
    }
}

/// Converts the reply to a read. The value shares the driver's buffer without a copy.
pub(crate) fn record(options: &ReadOptions, reply: Value) -> Result<Option<Record>> {
    let (value, left) = match reply {
        Value::Nil => return Ok(None),
        // An absent entry: the reply of `EXISTS` or a touch, and that of `PTTL`.
        Value::Int(0) if !options.ttl || options.touch.is_some() => return Ok(None),
        Value::Int(-2) => return Ok(None),
        Value::Int(left) => (None, left),
        Value::BulkString(value) => (Some(value), -1),
        Value::Array(parts) => match <[Value; 2]>::try_from(parts) {
            Ok([Value::BulkString(value), Value::Int(left)]) => (Some(value), left),
            _ => return Err(unexpected_reply()),
        },
        _ => return Err(unexpected_reply()),
    };
    let with_version = |value: Bytes| Record::at(value.clone(), Version::from_content(value));
    let record = value.map_or_else(|| Record::new(Bytes::new()), |value| with_version(value.into()));
    // A rest of less than a millisecond is rounded up.
    let left = u64::try_from(left).ok().map(|millis| millis.max(1));
    let millis = options.touch.map_or(left, Expiry::as_millis);
    let expiry = millis.map_or(Expiry::Never, Expiry::after_millis);
    Ok(Some(if options.ttl { record.expires(expiry) } else { record }))
}

/// Converts the reply to a change. Returns whether it was applied.
pub(crate) fn changed(condition: &Condition, reply: &Value) -> Result<bool> {
    match reply {
        Value::Okay | Value::Int(1) => Ok(true),
        Value::Int(0) => condition.met(false),
        Value::Nil if *condition != Condition::Any => Err(Error::conflict()),
        _ => Err(unexpected_reply()),
    }
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use super::*;

    fn refused(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    /// Returns the words of the command in the given form.
    fn words(operation: Operation<'_>, form: Form) -> String {
        let words = operation
            .command(b"k", form, &Features::new(CompareAndSwap::Auto))
            .args_iter()
            .map(|word| match word {
                redis::Arg::Simple(word) => String::from_utf8(word.to_vec()).unwrap(),
                _ => panic!("a word"),
            })
            .collect::<Vec<_>>();
        words.join(" ")
    }

    #[test]
    fn digests_match_those_of_redis() {
        assert_eq!(hex_digest(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }

    #[test]
    fn operations_have_native_commands() {
        let read = |options: &ReadOptions| words(Operation::Read(options), Form::Native);
        let minute = Expiry::after_secs(60);
        assert_eq!(read(&ReadOptions::new()), "GET k");
        assert_eq!(read(&ReadOptions::new().without_value()), "EXISTS k");
        assert_eq!(read(&ReadOptions::new().without_value().with_ttl()), "PTTL k");
        assert_eq!(read(&ReadOptions::new().with_touch(minute)), "GETEX k PX 60000");
        assert_eq!(read(&ReadOptions::new().with_touch(Expiry::Never).with_ttl()), "GETEX k PERSIST");
        let change = |action: &Action, condition| words(Operation::Change(action, &condition), Form::Native);
        let at = |old: &'static str| Condition::At(Version::from_content(old.into()));
        let put = Action::Put("new".into(), minute);
        assert_eq!(change(&put, Condition::Any), "SET k new PX 60000");
        assert_eq!(change(&put, Condition::Absent), "SET k new NX PX 60000");
        assert_eq!(change(&put, Condition::Present), "SET k new XX PX 60000");
        assert_eq!(change(&put, at("old")), "SET k new IFEQ old PX 60000");
        assert_eq!(change(&Action::Put("new".into(), Expiry::Never), Condition::Any), "SET k new");
        assert_eq!(change(&Action::Delete, Condition::Present), "DEL k");
        assert_eq!(change(&Action::Touch(minute), Condition::Any), "PEXPIRE k 60000");
    }

    #[test]
    fn scripts_run_the_same_commands() {
        let form = Form::Script;
        let change = |action: &Action, condition| words(Operation::Change(action, &condition), form);
        let at = Condition::At(Version::from_content("old".into()));
        let sent = |words: &str| format!("EVALSHA {} 1 k {words}", CHANGE.digest);
        let put = Action::Put("new".into(), Expiry::after_millis(5));
        assert_eq!(change(&put, at.clone()), sent("IS old SET new PX 5"));
        assert_eq!(change(&Action::Delete, at), sent("IS old DEL"));
        let large = Condition::At(Version::from_content(vec![0; SENT_LIMIT + 1].into()));
        let digest = hex_digest(&[0; SENT_LIMIT + 1]);
        assert_eq!(change(&Action::Delete, large), sent(&format!("SHA1 {digest} DEL")));
        assert_eq!(change(&Action::Touch(Expiry::Never), Condition::Any), sent("ANY PERSIST"));
        let foreign = Condition::At(Version::from_token(7));
        assert_eq!(change(&Action::Delete, foreign), sent("SHA1 - DEL"));
        let options = ReadOptions::new().with_touch(Expiry::after_millis(5)).with_ttl();
        let read = words(Operation::Read(&options), form);
        assert_eq!(read, format!("EVALSHA {} 1 k PEXPIRE 5", READ.digest));
    }

    #[test]
    fn missing_features_are_remembered() {
        let action = Action::Put("new".into(), Expiry::Never);
        let at = |length| Condition::At(Version::from_content(vec![0; length].into()));
        let (small, large) = (at(SENT_LIMIT), at(SENT_LIMIT + 1));
        let write = Operation::Change(&action, &small);
        let overwrite = Operation::Change(&action, &large);
        let unknown = refused("ERR syntax error");
        let features = Features::new(CompareAndSwap::Auto);
        assert_eq!(overwrite.form(&features), Form::Script);
        assert_eq!(write.form(&features), Form::Native);
        assert_eq!(write.fallback(Form::Native, &refused("READONLY no"), &features), None);
        assert_eq!(write.form(&features), Form::Native);
        assert_eq!(write.fallback(Form::Native, &unknown, &features), Some(Form::Script));
        assert_eq!(write.form(&features), Form::Script);
        assert_eq!(write.fallback(Form::Script, &refused("NOSCRIPT no"), &features), Some(Form::Source));
        assert_eq!(write.fallback(Form::Source, &refused("NOSCRIPT no"), &features), None);

        let forced = Features::new(CompareAndSwap::IfEq);
        assert_eq!(write.fallback(Form::Native, &unknown, &forced), None);
        assert_eq!(overwrite.form(&forced), Form::Native);

        let options = ReadOptions::new().with_touch(Expiry::Never);
        let read = Operation::Read(&options);
        assert_eq!(read.form(&features), Form::Native);
        let unknown = refused("ERR unknown command 'GETEX', with args beginning with: 'k' 'PERSIST'");
        assert_eq!(read.fallback(Form::Native, &unknown, &features), Some(Form::Script));
        assert_eq!(read.form(&features), Form::Script);
    }

    #[test]
    fn replies_to_reads_become_records() {
        let both = ReadOptions::new().with_ttl();
        let value = || Value::BulkString(b"v".to_vec());
        let read = record(&ReadOptions::new(), value()).unwrap().unwrap();
        assert_eq!((read.value, read.expiry), (Bytes::from("v"), None));
        for (left, expiry) in
            [(-1, Expiry::Never), (0, Expiry::after_millis(1)), (7, Expiry::after_millis(7))]
        {
            let read = record(&both, Value::Array(vec![value(), Value::Int(left)])).unwrap().unwrap();
            assert_eq!((read.value, read.expiry), (Bytes::from("v"), Some(expiry)));
            let read = record(&both.without_value(), Value::Int(left)).unwrap().unwrap();
            assert_eq!(read.expiry, Some(expiry));
        }
        for expiry in [Expiry::after_millis(9), Expiry::Never] {
            // The replies of `GETEX`, of the script that replaces it, and of a touch alone.
            let script = Value::Array(vec![value(), Value::Int(7)]);
            for reply in [value(), script, Value::Int(1)] {
                let read = record(&both.with_touch(expiry), reply).unwrap().unwrap();
                assert_eq!(read.expiry, Some(expiry));
            }
            assert_eq!(record(&both.with_touch(expiry).without_value(), Value::Int(0)).unwrap(), None);
        }
        assert_eq!(record(&both, Value::Nil).unwrap(), None);
        assert_eq!(record(&both.without_value(), Value::Int(-2)).unwrap(), None);
        assert_eq!(record(&ReadOptions::new().without_value(), Value::Int(0)).unwrap(), None);
        assert_eq!(record(&both, Value::Okay).unwrap_err().kind(), ErrorKind::Other);
    }

    #[test]
    fn replies_to_changes_become_results() {
        let kind = |condition: &Condition, reply| changed(condition, &reply).map_err(|error| error.kind());
        for reply in [Value::Okay, Value::Int(1)] {
            assert_eq!(kind(&Condition::Present, reply), Ok(true));
        }
        assert_eq!(kind(&Condition::Any, Value::Int(0)), Ok(false));
        assert_eq!(kind(&Condition::Absent, Value::Nil), Err(ErrorKind::Conflict));
        assert_eq!(kind(&Condition::Present, Value::Int(0)), Err(ErrorKind::Conflict));
        assert_eq!(kind(&Condition::Any, Value::Nil), Err(ErrorKind::Other));
    }
}
