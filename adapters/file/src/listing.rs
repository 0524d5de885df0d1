//! Listings, page by page.
//!
//! A listing goes through the shards one after the other. It takes the names in one at once, and looks
//! at the files after that, a page at a time. So it holds the names of one shard (a 256th of all in
//! Larder's own layout) and a page in memory.

use std::{sync::Arc, vec};

use larder_core::{Entry, ListOptions, Result, clock::unix_millis};
use larder_kit::Pager;

use crate::{directory::Directory, error::blocking, tree::Found};

/// How many files are looked at in one go.
const PAGE: usize = 256;
/// After how many bytes of values a page is full.
const PAGE_BYTES: usize = 1 << 20;

/// A listing under way; `None` while it is on another thread, and after an error that ends it.
pub(crate) struct Listing(Option<Position>);

struct Position {
    directory: Arc<Directory>,
    options: ListOptions,
    shards: Option<vec::IntoIter<String>>,
    files: vec::IntoIter<Found>,
}

impl Listing {
    pub(crate) fn new(directory: Arc<Directory>, options: ListOptions) -> Self {
        Self(Some(Position { directory, options, shards: None, files: Vec::new().into_iter() }))
    }
}

impl Pager for Listing {
    async fn next_page(&mut self) -> Result<Option<Vec<Result<Entry>>>> {
        let Some(mut position) = self.0.take() else {
            return Ok(None);
        };
        let (position, page) = blocking(move || {
            let page = position.next_page()?;
            Ok((position, page))
        })
        .await?;
        self.0 = Some(position);
        Ok(page)
    }
}

impl Position {
    /// The next entries; `None` at the end. Blocks the thread.
    fn next_page(&mut self) -> Result<Option<Vec<Result<Entry>>>> {
        if !self.files.as_slice().is_empty() {
            return self.look_at_files().map(Some);
        }
        let refused = match &mut self.shards {
            None => {
                let (shards, refused) = self.directory.tree.shards()?;
                self.shards = Some(shards.into_iter());
                refused
            }
            Some(shards) => {
                let Some(shard) = shards.next() else {
                    return Ok(None);
                };
                let (files, refused) = self.directory.files(&shard, &self.options.prefix)?;
                self.files = files.into_iter();
                refused
            }
        };
        Ok(Some(refused.into_iter().map(Err).collect()))
    }

    fn look_at_files(&mut self) -> Result<Vec<Result<Entry>>> {
        let mut page = Vec::new();
        let mut bytes = 0;
        for found in self.files.by_ref().take(self.options.page(PAGE)) {
            match self.directory.look(&found.at, || look(&self.directory, &found, &self.options)) {
                Ok(None) => {}
                Ok(Some(entry)) => {
                    bytes += entry.record.as_ref().map_or(0, |record| record.value.len());
                    page.push(Ok(entry));
                }
                Err(error) if error.concerns_one_entry() => page.push(Err(error)),
                Err(error) => return Err(error),
            }
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        Ok(page)
    }
}

/// Looks at a file; `None` if there is no entry (any more) or its key has another prefix.
fn look(directory: &Directory, found: &Found, options: &ListOptions) -> Result<Option<Entry>> {
    let tree = &directory.tree;
    let Some(key) = tree.key(found)?.filter(|key| key.as_str().starts_with(&options.prefix)) else {
        return Ok(None);
    };
    if options.values {
        let stored = tree.format.load(&tree.path(&found.at), &key, true)?;
        let record = stored.and_then(|stored| stored.record(true, unix_millis()));
        return Ok(record.map(|record| Entry::new(key, record)));
    }
    Ok((tree.is_alive(&found.at)? == Some(true)).then(|| Entry::key(key)))
}
