//! Reads listings page by page.
//!
//! A listing reads the shards one after the other. It reads all names of a shard at once, and then the files, one page
//! at a time. So it has the names of one shard (1/256 of all names in Larder's own layout) and one page in memory.

use std::{ffi::OsString, sync::Arc, vec};

use larder_core::{Entry, ListOptions, ReadOptions, Result};
use larder_kit::{PageSize, Pager};

use crate::entries::{Entries, Found, call};

/// The number of files in the first page, and the maximum.
const PAGE: (usize, usize) = (32, 256);

/// A running listing.
pub(crate) struct Listing<E> {
    entries: Arc<E>,
    options: Arc<ListOptions>,
    size: PageSize,
    /// The remaining shards; `None` at first.
    shards: Option<vec::IntoIter<OsString>>,
    /// The remaining files of the current shard.
    files: vec::IntoIter<Result<Found>>,
}

impl<E> Listing<E> {
    pub(crate) fn new(entries: Arc<E>, options: ListOptions) -> Self {
        let size = PageSize::new(PAGE.0, PAGE.1);
        Self { entries, options: Arc::new(options), size, shards: None, files: Vec::new().into_iter() }
    }
}

impl<E: Entries> Pager for Listing<E> {
    async fn next_page(&mut self) -> Result<Option<Vec<Result<Entry>>>> {
        let options = Arc::clone(&self.options);
        let files: Vec<_> = self.files.by_ref().take(options.page(self.size.entries())).collect();
        if !files.is_empty() {
            let page = call(&self.entries, move |entries| {
                files.into_iter().filter_map(|found| look(entries, found, &options).transpose()).collect()
            });
            let page: Vec<Result<Entry>> = page.await?;
            let sizes = page.iter().flatten().filter_map(|entry| Some(entry.record.as_ref()?.value.len()));
            self.size.adapt(page.len(), sizes.sum());
            return Ok(Some(page));
        }
        let Some(shards) = &mut self.shards else {
            let shards = call(&self.entries, |entries| entries.tree().shards()).await?;
            self.shards = Some(shards.into_iter());
            return Ok(Some(Vec::new()));
        };
        let Some(shard) = shards.next() else {
            return Ok(None);
        };
        let files = call(&self.entries, move |entries| entries.files(&shard, &options.prefix)).await?;
        self.files = files.into_iter();
        Ok(Some(Vec::new()))
    }
}

/// Reads a file; `None` if the entry does not exist any more, or its key has another prefix.
///
/// # Errors
///
/// Errors that do not concern only this entry.
fn look<E: Entries>(
    entries: &E,
    found: Result<Found>,
    options: &ListOptions,
) -> Result<Option<Result<Entry>>> {
    let entry = found.and_then(|found| {
        entries.tree().look(&found.at, || {
            let Some(key) = entries.key(&found)?.filter(|key| key.as_str().starts_with(&options.prefix))
            else {
                return Ok(None);
            };
            if options.values {
                let record = entries.read(&found.at, &key, &ReadOptions::new().with_ttl())?;
                return Ok(record.map(|record| Entry::new(key, record)));
            }
            Ok(entries.is_alive(&found.at)?.then(|| Entry::key(key)))
        })
    });
    match entry {
        Err(error) if !error.concerns_one_entry() => Err(error),
        entry => Ok(entry.transpose()),
    }
}
