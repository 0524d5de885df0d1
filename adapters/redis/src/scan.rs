//! Listings: `SCAN` over every master, page by page.

use std::{collections::VecDeque, sync::atomic::Ordering};

use futures_util::{StreamExt, TryStreamExt, stream};
use larder_core::{Entry, EntryStream, Error, ErrorKind, Key, KeyStream, Operation, Result};
use redis::{Cmd, RedisResult, Value};

use crate::{
    batch::send,
    connection::Route,
    driver::{Driver, checked, convert, keyed, record, remaining},
    error::{self, NAME, unexpected_reply},
    fence,
    link::Live,
};

/// How many values are read at once for a listing of entries, at first and at most. It adapts, so
/// that about [`BATCH_BYTES`] are held at a time.
const BATCH_START: usize = 32;
const BATCH_MOST: usize = 256;
const BATCH_BYTES: usize = 1 << 20;

/// How often a listing begins anew because the server was replaced under it.
const RESTARTS: u32 = 8;

/// One master, or the one server that there is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shard(Option<u16>);

/// All masters and, to notice a change, what is known about them.
#[derive(PartialEq, Eq)]
struct Shards {
    shards: Vec<Shard>,
    #[cfg(feature = "cluster")]
    masters: crate::cluster::Masters,
}

/// A walk over all keys of a prefix.
///
/// A cursor is a place in the hash table of one server process, whose hash function is seeded at its
/// start. Should another process answer in the middle of a walk (a restart, a failover), the cursor
/// means nothing to it and keys would be missed. So the walk compares the server's `run_id` at both
/// ends and begins anew if it changed; keys then come twice, which this adapter's listings may.
struct Walk<'a> {
    driver: &'a Driver,
    operation: Operation,
    pattern: Vec<u8>,
    shards: Option<Shards>,
    /// Which shard is being walked over, and how far the walk has come in it.
    at: usize,
    cursor: Option<Vec<u8>>,
    identity: Option<Vec<u8>>,
    restarts: u32,
}

impl<'a> Walk<'a> {
    fn new(driver: &'a Driver, prefix: &str, operation: Operation) -> Self {
        Self {
            driver,
            operation,
            pattern: driver.keyspace.pattern(prefix),
            shards: None,
            at: 0,
            cursor: None,
            identity: None,
            restarts: 0,
        }
    }

    /// The next page of keys, not empty; `None` at the end. A key that Larder cannot name is an error
    /// in the page.
    async fn next(&mut self) -> Result<Option<Vec<Result<Key>>>> {
        loop {
            let live = self.driver.link.acquire(self.operation).await?;
            let shards = match self.shards.take() {
                Some(shards) => shards,
                None => shards(&live).await?,
            };
            let Some(&shard) = shards.shards.get(self.at) else {
                if !live.is_cluster() || self::shards(&live).await? == shards {
                    return Ok(None);
                }
                // Slots have moved: keys may have gone from a node not yet seen to one seen before.
                self.at = 0;
                self.restart()?;
                continue;
            };
            self.shards = Some(shards);
            let page = self.page(&live, shard).await?;
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
    }

    async fn page(&mut self, live: &Live, shard: Shard) -> Result<Vec<Result<Key>>> {
        let cursor = match self.cursor.take() {
            Some(cursor) => cursor,
            None => {
                self.identity = identity(live, shard).await?;
                b"0".to_vec()
            }
        };
        let (cursor, page) = self.driver.scan(live, shard, &cursor, &self.pattern).await?;
        if cursor != b"0" {
            self.cursor = Some(cursor);
        } else if identity(live, shard).await? == self.identity {
            self.at += 1;
        } else {
            self.restart()?;
        }
        Ok(page.iter().filter_map(|full| self.driver.keyspace.parse(full)).collect())
    }

    fn restart(&mut self) -> Result<()> {
        self.restarts += 1;
        self.cursor = None;
        if self.restarts > RESTARTS {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the servers were replaced again and again during the listing",
            )
            .with_adapter(NAME));
        }
        Ok(())
    }
}

impl Driver {
    pub(crate) fn keys(&self, prefix: &str) -> KeyStream<'_> {
        let walk = Walk::new(self, prefix, Operation::Keys);
        stream::try_unfold(walk, |mut walk| async move { Ok(walk.next().await?.map(|page| (page, walk))) })
            .map_ok(stream::iter)
            .try_flatten()
            .map_err(|error: Error| error.with_adapter(NAME).with_operation(Operation::Keys))
            .boxed()
    }

    pub(crate) fn entries(&self, prefix: &str) -> EntryStream<'_> {
        let pages = Pages {
            walk: Some(Walk::new(self, prefix, Operation::Entries)),
            keys: VecDeque::new(),
            batch: BATCH_START,
        };
        stream::unfold(pages, |mut pages| async move {
            let batch = pages.next().await?;
            Some((stream::iter(batch), pages))
        })
        .flatten()
        .map_err(|error: Error| error.with_adapter(NAME).with_operation(Operation::Entries))
        .boxed()
    }

    pub(crate) async fn clear(&self, prefix: &str) -> Result<u64> {
        let mut walk = Walk::new(self, prefix, Operation::Clear);
        let mut deleted = 0;
        while let Some(page) = walk.next().await? {
            let nameable: Vec<Key> = page.into_iter().flatten().collect();
            deleted += self.delete_many(&nameable).await?;
        }
        Ok(deleted)
    }

    /// One step of a walk: the next cursor, and the keys found.
    async fn scan(
        &self,
        live: &Live,
        shard: Shard,
        cursor: &[u8],
        pattern: &[u8],
    ) -> Result<(Vec<u8>, Vec<Vec<u8>>)> {
        let typed = !self.lacks_scan_type.load(Ordering::Relaxed);
        let command = |typed: bool| {
            let mut command = redis::cmd("SCAN");
            command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(self.scan_count.get());
            if typed {
                command.arg("TYPE").arg("string");
            }
            command
        };
        let reply = match shard.call(live, &command(typed)).await {
            // Before Redis 6.0.
            Err(error) if typed && error::is_syntax_error(&error) => {
                self.lacks_scan_type.store(true, Ordering::Relaxed);
                shard.call(live, &command(false)).await
            }
            reply => reply,
        };
        page(reply.map_err(convert)?).ok_or_else(unexpected_reply)
    }

    /// Reads the entries of `keys`; those that have gone meanwhile are left out.
    async fn read_entries(&self, keys: Vec<Key>) -> Vec<Result<Entry>> {
        let live = match self.link.acquire(Operation::Entries).await {
            Ok(live) => live,
            Err(error) => return vec![Err(error)],
        };
        let mut commands = Vec::with_capacity(2 * keys.len());
        for key in &keys {
            let full = self.keyspace.full(key);
            commands.push((keyed("GET", full, 0, 0), full));
            commands.push((keyed("PTTL", full, 0, 0), full));
        }
        let mut replies = send(&live, commands).await.into_iter();
        let mut entries = Vec::with_capacity(keys.len());
        for key in keys {
            let (Some(value), Some(left)) = (replies.next(), replies.next()) else { break };
            match entry(key, value, left) {
                Ok(Some(entry)) => entries.push(Ok(entry)),
                Ok(None) => {}
                Err(error) => entries.push(Err(error)),
            }
        }
        entries
    }
}

fn entry(key: Key, value: RedisResult<Value>, left: RedisResult<Value>) -> Result<Option<Entry>> {
    let record = record(checked(value)?)?;
    let expiry = remaining(checked(left)?)?;
    Ok(record.zip(expiry).map(|(record, expiry)| Entry::new(key, record, expiry)))
}

/// The pages of a listing of entries.
struct Pages<'a> {
    /// `None` once it has come to its end, or failed.
    walk: Option<Walk<'a>>,
    /// Found, and still to be read.
    keys: VecDeque<Key>,
    /// How many to read next.
    batch: usize,
}

impl Pages<'_> {
    async fn next(&mut self) -> Option<Vec<Result<Entry>>> {
        let walk = self.walk.as_mut()?;
        if self.keys.is_empty() {
            match walk.next().await {
                Ok(Some(page)) => {
                    let mut unnameable = Vec::new();
                    for key in page {
                        match key {
                            Ok(key) => self.keys.push_back(key),
                            Err(error) => unnameable.push(Err(error)),
                        }
                    }
                    if !unnameable.is_empty() {
                        return Some(unnameable);
                    }
                }
                Ok(None) => {
                    self.walk = None;
                    return None;
                }
                Err(error) => {
                    self.walk = None;
                    return Some(vec![Err(error)]);
                }
            }
        }
        let batch = self.keys.drain(..self.batch.min(self.keys.len())).collect::<Vec<_>>();
        let asked = batch.len();
        let mut entries = walk.driver.read_entries(batch).await;
        // Values of the size just seen, as many as come to about BATCH_BYTES.
        let bytes: usize = entries.iter().flatten().map(|entry| entry.record.value.len()).sum();
        self.batch = (BATCH_BYTES * asked / bytes.max(1)).clamp(1, (2 * self.batch).min(BATCH_MOST));
        let ends = |entry: &Result<Entry>| entry.as_ref().is_err_and(|error| !error.concerns_one_entry());
        if let Some(end) = entries.iter().position(ends) {
            self.walk = None;
            entries.truncate(end + 1);
        }
        Some(entries)
    }
}

impl Shard {
    async fn call(self, live: &Live, command: &Cmd) -> RedisResult<Value> {
        live.call(command, self.0.map_or(Route::Any, Route::Slot)).await
    }
}

/// All masters that there are now.
async fn shards(live: &Live) -> Result<Shards> {
    #[cfg(feature = "cluster")]
    if live.is_cluster() {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let reply = live.call(&command, Route::Any).await.map_err(convert)?;
        let masters = crate::cluster::masters(reply).ok_or_else(unexpected_reply)?;
        let first = |slots: &Vec<(u16, u16)>| Shard(slots.first().map(|&(first, _)| first));
        return Ok(Shards { shards: masters.values().map(first).collect(), masters });
    }
    let _ = live;
    Ok(Shards {
        shards: vec![Shard(None)],
        #[cfg(feature = "cluster")]
        masters: Default::default(),
    })
}

/// The id of the server process; `None` where this user may not ask. Refuses one node of
/// a cluster, whose listing would lack the keys of the others.
async fn identity(live: &Live, shard: Shard) -> Result<Option<Vec<u8>>> {
    let mut command = redis::cmd("INFO");
    command.arg("server");
    let text = match shard.call(live, &command).await {
        Ok(Value::BulkString(text)) => text,
        Ok(Value::VerbatimString { text, .. }) => text.into_bytes(),
        Ok(_) => return Ok(None),
        Err(error) if error::is_refused(&error) => return Ok(None),
        Err(error) => return Err(convert(error)),
    };
    if shard.0.is_none() && fence::line(&text, b"redis_mode:") == Some(b"cluster") {
        return Err(error::node_of_a_cluster().with_adapter(NAME));
    }
    Ok(fence::line(&text, b"run_id:").map(<[u8]>::to_vec))
}

/// The reply of `SCAN`.
fn page(reply: Value) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let Value::Array(parts) = reply else { return None };
    let Ok([cursor, Value::Array(keys)]) = <[Value; 2]>::try_from(parts) else { return None };
    let cursor = match cursor {
        Value::BulkString(cursor) => cursor,
        Value::SimpleString(cursor) => cursor.into_bytes(),
        _ => return None,
    };
    let key = |key| match key {
        Value::BulkString(key) => Some(key),
        _ => None,
    };
    Some((cursor, keys.into_iter().map(key).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let bulk = |text: &str| Value::BulkString(text.into());
        let reply = Value::Array(vec![bulk("17"), Value::Array(vec![bulk("a"), bulk("b")])]);
        assert_eq!(page(reply), Some((b"17".to_vec(), vec![b"a".to_vec(), b"b".to_vec()])));
        assert_eq!(page(Value::Okay), None);
        assert_eq!(page(Value::Array(vec![bulk("17")])), None);
    }
}
