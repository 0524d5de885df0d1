//! Listings in pages, whose next page begins after a key that another program may have written.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use futures_util::StreamExt;
use larder_core::{ErrorKind, ListOptions, Record, Result};
use larder_kit::{KeyRange, Ranged, StoredEntry, ranges};

use super::block_on;
use crate::{Verdict, refused};

/// A store of these keys, which counts its pages.
struct Keys {
    keys: BTreeSet<Vec<u8>>,
    pages: Mutex<usize>,
}

impl Ranged for Keys {
    async fn read_range(&self, range: KeyRange<'_>) -> Result<Vec<StoredEntry>> {
        *self.pages.lock().unwrap() += 1;
        let record = |key: &[u8]| range.values.then(|| Ok(Record::new(key.to_vec().into())));
        let from = self.keys.range(range.from.to_vec()..);
        let found = from.filter(|key| !(range.after && *key == range.from));
        let found = found.take_while(|key| range.end.is_none_or(|end| key.as_slice() < end.as_bytes()));
        Ok(found.take(range.limit).map(|key| (key.clone(), record(key))).collect())
    }
}

/// The first byte is the size of a page, and the rest the prefix and the keys, which NUL separates.
pub(super) fn listing(input: &[u8]) -> Verdict {
    let Some((&size, rest)) = input.split_first() else { return Verdict::Refused };
    let mut keys = rest.split(|byte| *byte == 0).map(<[u8]>::to_vec);
    let Some(Ok(prefix)) = keys.next().map(String::from_utf8) else { return Verdict::Refused };
    let keys: BTreeSet<_> = keys.collect();
    let stored = keys.len();
    let expected: Vec<_> = keys.iter().filter(|key| key.starts_with(prefix.as_bytes())).cloned().collect();
    let (size, count) = (usize::from(size % 8).max(1), expected.len());
    let storage = Arc::new(Keys { keys, pages: Mutex::new(0) });
    let mut options = ListOptions::new().prefix(&prefix);
    options.values = size % 2 == 0;
    let listed: Vec<_> = block_on(ranges(Arc::clone(&storage), options, size).take(count + 1).collect());
    let mut verdict = Verdict::Accepted;
    let names = listed.iter().map(|entry| match entry {
        Ok(entry) => entry.key.as_bytes().to_vec(),
        Err(error) => {
            verdict = refused(error, &[ErrorKind::InvalidKey]);
            error.stored_name().unwrap().to_vec()
        }
    });
    assert!(names.eq(expected), "a listing has each key once, in order");
    assert!(*storage.pages.lock().unwrap() <= stored / size + 1, "no page is read twice");
    verdict
}
