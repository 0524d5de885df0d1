//! Commands: one method per operation, one round trip each.

use std::{num::NonZeroUsize, sync::atomic::AtomicBool};

use bytes::Bytes;
use larder_core::{Condition, Error, ErrorKind, Expiry, Key, Operation, Record, Result, Version};
use redis::{Cmd, RedisResult, ToRedisArgs, Value};

use crate::{
    cas::{self, CompareAndSwap, Script, Way},
    connection::Route,
    error::{self, NAME, unexpected_reply},
    keyspace::{FullKey, Keyspace},
    link::{Link, Live},
};

/// The largest value that any server takes.
pub(crate) const MAX_VALUE: usize = 512 * 1024 * 1024;

/// The way to the server, and how keys are named there.
pub(crate) struct Driver {
    pub(crate) link: Link,
    pub(crate) keyspace: Keyspace,
    pub(crate) way: Way,
    pub(crate) scan_count: NonZeroUsize,
    /// The server was found not to know `SCAN ... TYPE`.
    pub(crate) lacks_scan_type: AtomicBool,
}

impl Driver {
    pub(crate) fn new(link: Link, keyspace: Keyspace, cas: CompareAndSwap, scan_count: NonZeroUsize) -> Self {
        Self { link, keyspace, way: Way::new(cas), scan_count, lacks_scan_type: AtomicBool::new(false) }
    }

    pub(crate) async fn read(&self, key: &Key) -> Result<Option<Record>> {
        record(self.call("GET", key, Operation::Read).await?)
    }

    pub(crate) async fn write(&self, key: &Key, value: &Bytes, expiry: Expiry) -> Result<()> {
        if expiry.is_elapsed() {
            return self.call("DEL", key, Operation::Write).await.map(drop);
        }
        check_size(value)?;
        let live = self.link.acquire(Operation::Write).await?;
        let key = self.keyspace.full(key);
        live.call(&set(key, value, &[], expiry), Route::Key(key)).await.map_err(convert)?;
        Ok(())
    }

    pub(crate) async fn delete(&self, key: &Key) -> Result<bool> {
        Ok(integer(self.call("DEL", key, Operation::Delete).await?)? > 0)
    }

    pub(crate) async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: &Condition,
    ) -> Result<Version> {
        let live = self.link.acquire(Operation::WriteIf).await?;
        let key = self.keyspace.full(key);
        check_size(&value)?;
        let holds = match condition {
            Condition::Absent => write_absent(&live, key, &value, expiry).await?,
            Condition::At(version) => match version.as_content() {
                Some(old) if expiry.is_elapsed() => delete_equal(&live, key, old).await?,
                Some(old) => self.write_equal(&live, key, &value, expiry, old).await?,
                // A version of another adapter: whatever is here, it is not that.
                None => false,
            },
        };
        if holds {
            Ok(Version::from_content(value))
        } else {
            Err(Error::conflict().with_adapter(NAME).with_operation(Operation::WriteIf))
        }
    }

    async fn write_equal(
        &self,
        live: &Live,
        key: FullKey<'_>,
        value: &Bytes,
        expiry: Expiry,
        old: &Bytes,
    ) -> Result<bool> {
        if self.way.uses_ifeq(old.len()) {
            let command = set(key, value, &[b"IFEQ", old], expiry);
            match live.call(&command, Route::Key(key)).await {
                Ok(reply) => return Ok(reply != Value::Nil),
                Err(error) if self.way.falls_back(&error) => {}
                Err(error) => return Err(convert(error)),
            }
        }
        let digest = cas::hex_digest(old);
        let millis = expiry.as_millis().map(|millis| millis.to_string());
        let mut arguments = vec![digest.as_bytes(), value];
        arguments.extend(millis.as_ref().map(String::as_bytes));
        run(&cas::COMPARE_AND_SET, live, key, &arguments).await
    }

    pub(crate) async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        let live = self.link.acquire(Operation::DeleteIf).await?;
        let holds = match version.as_content() {
            Some(old) => delete_equal(&live, self.keyspace.full(key), old).await?,
            None => false,
        };
        if holds {
            Ok(())
        } else {
            Err(Error::conflict().with_adapter(NAME).with_operation(Operation::DeleteIf))
        }
    }

    pub(crate) async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        let live = self.link.acquire(Operation::Touch).await?;
        let key = self.keyspace.full(key);
        let Some(millis) = expiry.as_millis() else {
            return run(&cas::PERSIST, &live, key, &[]).await;
        };
        // A time to live of zero deletes the key, which is what it should do.
        let mut command = keyed("PEXPIRE", key, 1, 20);
        command.arg(millis);
        let reply = live.call(&command, Route::Key(key)).await.map_err(convert)?;
        Ok(integer(reply)? == 1)
    }

    pub(crate) async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        remaining(self.call("PTTL", key, Operation::Ttl).await?)
    }

    pub(crate) async fn contains(&self, key: &Key) -> Result<bool> {
        Ok(integer(self.call("EXISTS", key, Operation::Contains).await?)? > 0)
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        let live = self.link.acquire(Operation::Ping).await?;
        live.call(&redis::cmd("PING"), Route::Any).await.map_err(convert)?;
        Ok(())
    }

    /// A command with a key and nothing else.
    async fn call(&self, name: &'static str, key: &Key, operation: Operation) -> Result<Value> {
        let live = self.link.acquire(operation).await?;
        let key = self.keyspace.full(key);
        live.call(&keyed(name, key, 0, 0), Route::Key(key)).await.map_err(convert)
    }
}

async fn write_absent(live: &Live, key: FullKey<'_>, value: &Bytes, expiry: Expiry) -> Result<bool> {
    if expiry.is_elapsed() {
        let reply = live.call(&keyed("EXISTS", key, 0, 0), Route::Key(key)).await.map_err(convert)?;
        return Ok(integer(reply)? == 0);
    }
    let command = set(key, value, &[b"NX"], expiry);
    let reply = live.call(&command, Route::Key(key)).await.map_err(convert)?;
    Ok(reply != Value::Nil)
}

async fn delete_equal(live: &Live, key: FullKey<'_>, old: &Bytes) -> Result<bool> {
    run(&cas::COMPARE_AND_DELETE, live, key, &[cas::hex_digest(old).as_bytes()]).await
}

async fn run(script: &Script, live: &Live, key: FullKey<'_>, arguments: &[&[u8]]) -> Result<bool> {
    let reply = script.run(live, key, arguments).await.map_err(convert)?;
    Ok(integer(reply)? == 1)
}

/// A command on `key`, with room for `arguments` more of `size` bytes together.
pub(crate) fn keyed(name: &'static str, key: FullKey<'_>, arguments: usize, size: usize) -> Cmd {
    let mut command = Cmd::with_capacity(2 + arguments, name.len() + key.len() + size);
    command.arg(name).arg(key);
    command
}

/// `SET key value [option ...] [PX ms]`.
pub(crate) fn set(key: FullKey<'_>, value: &Bytes, options: &[&[u8]], expiry: Expiry) -> Cmd {
    let size = value.len() + options.iter().map(|option| option.len()).sum::<usize>() + 22;
    let mut command = keyed("SET", key, 3 + options.len(), size);
    value.as_ref().write_redis_args(&mut command);
    for option in options {
        command.arg(option);
    }
    if let Some(millis) = expiry.as_millis() {
        command.arg("PX").arg(millis);
    }
    command
}

pub(crate) fn check_size(value: &Bytes) -> Result<()> {
    if value.len() > MAX_VALUE { Err(error::too_large(value.len())) } else { Ok(()) }
}

/// The reply of `GET`. The bytes are the driver's buffer, not a copy of it.
pub(crate) fn record(reply: Value) -> Result<Option<Record>> {
    let value = match reply {
        Value::Nil => return Ok(None),
        Value::BulkString(value) => Bytes::from(value),
        Value::SimpleString(value) => Bytes::from(value),
        Value::Okay => Bytes::from_static(b"OK"),
        _ => return Err(unexpected_reply()),
    };
    Ok(Some(Record::at(value.clone(), Version::from_content(value))))
}

/// The reply of `PTTL`.
pub(crate) fn remaining(reply: Value) -> Result<Option<Expiry>> {
    match integer(reply)? {
        -2 => Ok(None),
        -1 => Ok(Some(Expiry::Never)),
        // Less than a millisecond is rounded up, as everywhere.
        millis => u64::try_from(millis.max(1))
            .map(|millis| Some(Expiry::after_millis(millis)))
            .map_err(|_| unexpected_reply()),
    }
}

pub(crate) fn integer(reply: Value) -> Result<i64> {
    match reply {
        Value::Int(number) => Ok(number),
        Value::Boolean(truth) => Ok(i64::from(truth)),
        _ => Err(unexpected_reply()),
    }
}

pub(crate) fn convert(error: redis::RedisError) -> Error {
    error::from_redis(&error)
}

/// A reply of a pipeline, where errors stand among the replies.
pub(crate) fn checked(reply: RedisResult<Value>) -> Result<Value> {
    match reply {
        Ok(Value::ServerError(error)) => Err(convert(error.into())),
        Ok(reply) => Ok(reply),
        Err(error) => Err(convert(error)),
    }
}

/// Whether `error` says that the whole batch will fare no better, so that trying on is pointless.
pub(crate) fn is_hopeless(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::PermissionDenied | ErrorKind::Closed
    )
}
