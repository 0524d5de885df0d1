//! Listings: `SCAN` over every master, page by page.

use std::{num::NonZeroUsize, sync::Arc};

use larder_core::{Entry, Error, ErrorKind, Key, ListOptions, ReadOptions, Result, Storage};
use larder_kit::{PageSize, Pager};

use crate::{
    driver::{CHUNK, Driver},
    keyspace::Route,
    topology::{self, Masters},
};

/// How many values are read at once at first.
const FIRST_PAGE: usize = 32;

/// How often a listing begins again because the server was replaced under it.
const RESTARTS: u32 = 8;

/// A walk over all keys of a prefix.
///
/// A cursor is a place in the hash table of one server process, whose hash function is seeded at its
/// start. Should another process answer in the middle of a walk (a restart, a failover), the cursor
/// means nothing to it and keys would be missed. So the walk compares the server's `run_id` at both
/// ends and begins again if it changed; keys then come twice, which this adapter's listings may.
pub(crate) struct Listing {
    driver: Arc<Driver>,
    pattern: Vec<u8>,
    values: bool,
    /// `None` until the walk begins.
    masters: Option<Masters>,
    /// The master that is being walked over, and how far the walk has come in it.
    master: usize,
    cursor: Option<u64>,
    /// How many keys the server looks at in the next step.
    count: usize,
    /// The process that the walk over this master began with.
    run_id: Option<String>,
    restarts: u32,
    /// Found, and still to be read.
    keys: Vec<Key>,
    page: PageSize,
    /// How many values may be read at once, so that they are not more than were asked for. `Store` ends
    /// the listing.
    wanted: usize,
}

impl Listing {
    pub(crate) fn new(driver: Arc<Driver>, options: &ListOptions) -> Self {
        Self {
            pattern: driver.keyspace.pattern(&options.prefix),
            values: options.values,
            masters: None,
            master: 0,
            cursor: None,
            count: options.page(driver.scan_count),
            run_id: None,
            restarts: 0,
            keys: Vec::new(),
            page: PageSize::new(FIRST_PAGE, CHUNK),
            wanted: options.limit.map_or(usize::MAX, NonZeroUsize::get),
            driver,
        }
    }

    /// The keys that one step finds; `None` at the end. A key that Larder cannot name is an error.
    async fn step(&mut self) -> Result<Option<Vec<Result<Key>>>> {
        let connection = self.driver.client.acquire().await?;
        let masters = match self.masters.take() {
            Some(masters) => masters,
            None => topology::masters(&connection).await?,
        };
        let Some(slots) = masters.values().nth(self.master) else {
            if topology::masters(&connection).await? == masters {
                return Ok(None);
            }
            // Slots have moved: keys may have gone from a node not yet seen to one seen before.
            self.master = 0;
            return self.restart().map(Some);
        };
        let route = slots.first().map_or(Route::Any, |&(first, _)| Route::Slot(first));
        self.masters = Some(masters);
        let cursor = match self.cursor.take() {
            None => {
                self.run_id = topology::run_id(&connection, route).await?;
                0
            }
            // The walk over this master has ended.
            Some(0) if topology::run_id(&connection, route).await? != self.run_id => {
                return self.restart().map(Some);
            }
            Some(0) => {
                self.master += 1;
                return Ok(Some(Vec::new()));
            }
            Some(cursor) => cursor,
        };
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(&self.pattern);
        scan.arg("COUNT").arg(self.count).arg("TYPE").arg("string");
        let (cursor, keys): (u64, Vec<Vec<u8>>) = connection.query(scan, route).await?;
        self.cursor = Some(cursor);
        // Few of the server's keys may have the prefix: a limit is not kept to for long.
        self.count = self.count.saturating_mul(2).min(self.driver.scan_count);
        Ok(Some(keys.iter().filter_map(|full| self.driver.keyspace.parse(full)).collect()))
    }

    /// Allows for another walk over a master, or over all of them. It has found nothing yet.
    fn restart(&mut self) -> Result<Vec<Result<Key>>> {
        self.restarts += 1;
        if self.restarts <= RESTARTS {
            return Ok(Vec::new());
        }
        let message = "the servers were replaced again and again during the listing";
        Err(Error::new(ErrorKind::Unavailable, message))
    }
}

impl Pager for Listing {
    async fn next_page(&mut self) -> Result<Option<Vec<Result<Entry>>>> {
        if self.keys.is_empty() {
            let Some(keys) = self.step().await? else { return Ok(None) };
            let (to_read, page): (Vec<_>, Vec<_>) =
                keys.into_iter().partition(|key| self.values && key.is_ok());
            self.keys.extend(to_read.into_iter().flatten());
            return Ok(Some(page.into_iter().map(|key| key.map(Entry::key)).collect()));
        }
        let rest = self.keys.split_off(self.page.entries().min(self.wanted).min(self.keys.len()));
        let keys = std::mem::replace(&mut self.keys, rest);
        let records = self.driver.read_many(&keys, &ReadOptions::new().with_ttl()).await;
        let mut page = Vec::with_capacity(keys.len());
        let mut bytes = 0;
        for (key, record) in keys.into_iter().zip(records) {
            match record {
                Ok(Some(record)) => {
                    bytes += record.value.len();
                    self.wanted = self.wanted.saturating_sub(1).max(1);
                    page.push(Ok(Entry::new(key, record)));
                }
                // It has gone since it was found.
                Ok(None) => {}
                Err(error) if error.concerns_one_entry() => page.push(Err(error)),
                Err(error) => return Err(error),
            }
        }
        self.page.adapt(page.len(), bytes);
        Ok(Some(page))
    }
}
