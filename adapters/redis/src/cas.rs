//! Compare-and-swap: which way, and the scripts.

use std::sync::{
    LazyLock,
    atomic::{AtomicBool, Ordering},
};

use redis::{Cmd, RedisResult, Value};

use crate::{connection::Route, error, keyspace::FullKey, link::Live};

/// The largest old value that is sent along to be compared; of a larger one only the digest is.
const IFEQ_LIMIT: usize = 16 * 1024;

/// How the server compares and swaps. Either way it is one round trip and atomic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompareAndSwap {
    /// `SET ... IFEQ` where the server has it (Valkey 8.1, Redis 8.4 and newer) and the old value has
    /// at most 16 KiB, a script otherwise. Whether the server has it is found out at the first use.
    #[default]
    Auto,
    /// A script that compares the SHA-1 digest of the stored value: nothing but 40 bytes of the old
    /// value goes over the wire. The user needs the permission to run `EVAL` and `EVALSHA`.
    Script,
    /// `SET ... IFEQ` always. [`delete_if`](larder_core::Storage::delete_if) is a script even so.
    IfEq,
}

/// The way in use, and what has been learnt about the server.
#[derive(Debug)]
pub(crate) struct Way {
    chosen: CompareAndSwap,
    lacks_ifeq: AtomicBool,
}

impl Way {
    pub(crate) const fn new(chosen: CompareAndSwap) -> Self {
        Self { chosen, lacks_ifeq: AtomicBool::new(false) }
    }

    /// Whether an old value of `length` bytes is to be compared by `IFEQ`.
    pub(crate) fn uses_ifeq(&self, length: usize) -> bool {
        match self.chosen {
            CompareAndSwap::Auto => length <= IFEQ_LIMIT && !self.lacks_ifeq.load(Ordering::Relaxed),
            CompareAndSwap::Script => false,
            CompareAndSwap::IfEq => true,
        }
    }

    /// Whether `error` says that the server lacks `IFEQ` and a script is to be used from now on. It
    /// did nothing then.
    pub(crate) fn falls_back(&self, error: &redis::RedisError) -> bool {
        if self.chosen != CompareAndSwap::Auto || !error::is_syntax_error(error) {
            return false;
        }
        self.lacks_ifeq.store(true, Ordering::Relaxed);
        true
    }
}

/// A script, and the digest that the server knows it by.
pub(crate) struct Script {
    body: &'static str,
    digest: String,
}

/// `KEYS[1]`, `ARGV`: digest of the old value, new value, time to live in ms (optional).
pub(crate) static COMPARE_AND_SET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local old = redis.call('GET', KEYS[1])\n\
         if not old or redis.sha1hex(old) ~= ARGV[1] then return 0 end\n\
         if ARGV[3] then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])\n\
         else redis.call('SET', KEYS[1], ARGV[2]) end\n\
         return 1",
    )
});

/// `KEYS[1]`, `ARGV`: digest of the old value.
pub(crate) static COMPARE_AND_DELETE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local old = redis.call('GET', KEYS[1])\n\
         if not old or redis.sha1hex(old) ~= ARGV[1] then return 0 end\n\
         return redis.call('DEL', KEYS[1])",
    )
});

/// `KEYS[1]`. `PERSIST` alone would not tell an entry that never expires from none.
pub(crate) static PERSIST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('PERSIST', KEYS[1]) == 1 then return 1 end\n\
         return redis.call('EXISTS', KEYS[1])",
    )
});

impl Script {
    fn new(body: &'static str) -> Self {
        Self { body, digest: hex_digest(body.as_bytes()) }
    }

    /// Runs the script on one key. By its digest; only a server that has not seen the script (new,
    /// restarted, or another node) is sent the body, once.
    pub(crate) async fn run(&self, live: &Live, key: FullKey<'_>, arguments: &[&[u8]]) -> RedisResult<Value> {
        let by_digest = self.command("EVALSHA", &self.digest, key, arguments);
        match live.call(&by_digest, Route::Key(key)).await {
            Err(error) if error::is_missing_script(&error) => {
                let by_body = self.command("EVAL", self.body, key, arguments);
                live.call(&by_body, Route::Key(key)).await
            }
            result => result,
        }
    }

    fn command(&self, name: &str, script: &str, key: FullKey<'_>, arguments: &[&[u8]]) -> Cmd {
        let length: usize = arguments.iter().map(|argument| argument.len()).sum();
        let size = name.len() + script.len() + 1 + key.len() + length;
        let mut command = Cmd::with_capacity(4 + arguments.len(), size);
        command.arg(name).arg(script).arg(1).arg(key);
        for argument in arguments {
            command.arg(argument);
        }
        command
    }
}

/// The SHA-1 digest as the scripts see it: 40 hexadecimal digits in lower case. It tells versions of
/// one key apart; nothing secret hangs on it.
pub(crate) fn hex_digest(bytes: &[u8]) -> String {
    sha1_smol::Sha1::from(bytes).digest().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_what_redis_writes() {
        assert_eq!(hex_digest(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }

    #[test]
    fn the_way_is_learnt() {
        let way = Way::new(CompareAndSwap::Auto);
        assert!(way.uses_ifeq(IFEQ_LIMIT) && !way.uses_ifeq(IFEQ_LIMIT + 1));
        let reply = |line: &[u8]| redis::parse_redis_value(line).unwrap().extract_error().unwrap_err();
        assert!(!way.falls_back(&reply(b"-READONLY no\r\n")) && way.uses_ifeq(1));
        assert!(way.falls_back(&reply(b"-ERR syntax error\r\n")) && !way.uses_ifeq(1));
        let forced = Way::new(CompareAndSwap::IfEq);
        assert!(!forced.falls_back(&reply(b"-ERR syntax error\r\n")) && forced.uses_ifeq(usize::MAX));
    }
}
