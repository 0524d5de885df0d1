//! Reads listings: `SCAN` over every master, page by page.

use std::{num::NonZeroUsize, sync::Arc};

use larder_core::{Entry, Error, ErrorKind, Key, ListOptions, ReadOptions, Result, Storage};
use larder_kit::{PageSize, Pager};

use crate::{
    driver::{CHUNK, Driver},
    keyspace::Route,
    topology::{self, Masters},
};

/// The number of values in the first page.
const FIRST_PAGE: usize = 32;

/// The maximum number of times that a listing starts again because a server was replaced.
const RESTARTS: u32 = 8;

/// A running listing of all keys of a prefix.
///
/// A cursor is a position in the hash table of one server process, whose hash function is seeded at its start. If
/// another process answers during the listing (after a restart or a failover), the cursor is meaningless to it, and
/// keys would be missed. Therefore the listing compares the server's `run_id` at the start and the end of each master,
/// and starts again if it changed. Keys may then repeat, which this adapter's listings allow.
pub(crate) struct Listing {
    driver: Arc<Driver>,
    pattern: Vec<u8>,
    values: bool,
    /// `None` before the listing starts.
    masters: Option<Masters>,
    /// The index of the current master, and the position in it.
    master: usize,
    cursor: Option<u64>,
    /// The number of keys that the server looks at in the next step.
    count: usize,
    /// The server process at the start of the current master.
    run_id: Option<String>,
    restarts: u32,
    /// The keys whose values have not been read yet.
    keys: Vec<Key>,
    page: PageSize,
    /// The maximum number of values to read at once, so that no more are read than the limit allows. `Store` ends the
    /// listing at the limit.
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

    /// Returns the keys that one step finds; `None` at the end. An invalid key is an error.
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
            // Slots have moved: keys may have moved to a node that was already listed.
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
            // The end of this master.
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
        // Grows, because few of the server's keys may have the prefix: a low limit would take many steps.
        self.count = self.count.saturating_mul(2).min(self.driver.scan_count);
        Ok(Some(keys.iter().filter_map(|full| self.driver.keyspace.parse(full)).collect()))
    }

    /// Counts a restart of one master, or of all. Fails after too many.
    fn restart(&mut self) -> Result<Vec<Result<Key>>> {
        self.restarts += 1;
        if self.restarts <= RESTARTS {
            return Ok(Vec::new());
        }
        let message = "the servers were replaced too often during the listing";
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
                // The entry was deleted or expired in the meantime.
                Ok(None) => {}
                Err(error) if error.concerns_one_entry() => page.push(Err(error)),
                Err(error) => return Err(error),
            }
        }
        self.page.adapt(page.len(), bytes);
        Ok(Some(page))
    }
}
