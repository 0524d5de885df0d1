//! The keys that a copy or comparison considers.

use std::collections::HashSet;

use futures_util::{
    StreamExt, TryStreamExt, future,
    stream::{self, BoxStream, Fuse},
};
use larder_core::{Key, Overlap, ReadOptions, Record, Result, Store};

/// The number of entries of an overlapping source that are read at once.
const READS: usize = 64;

/// The entries of a source.
pub(super) type Entries = Fuse<BoxStream<'static, Result<(Key, Record)>>>;

/// The prefix of the keys, and the entries that are left out if one store is a part of the other store, as with two
/// layouts of one Redis database.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) prefix: String,
    /// The relation between source and target, or `None` if the stores do not tell.
    pub(super) overlap: Option<Overlap>,
}

impl Scope {
    pub(super) async fn between(from: &Store, to: &Store, prefix: &str) -> Result<Self> {
        let overlap = if from.info().name == to.info().name {
            let (here, there) = (from.location().await?, to.location().await?);
            here.zip(there).map(|(here, there)| here.overlap(&there))
        } else {
            Some(Overlap::Disjoint)
        };
        Ok(Self { prefix: prefix.to_owned(), overlap })
    }

    /// Whether `key`, as the source spells it, is an entry of the target.
    pub(super) fn is_of_target(&self, key: &Key) -> bool {
        matches!(&self.overlap, Some(Overlap::Contains(start)) if key.as_str().starts_with(start))
    }

    /// Whether `key`, as the target spells it, is an entry of the source.
    pub(super) fn is_of_source(&self, key: &Key) -> bool {
        matches!(&self.overlap, Some(Overlap::Within(start)) if key.as_str().starts_with(start))
    }

    /// The entries of the source.
    ///
    /// If the two stores overlap, a listing may contain entries that the copy writes. Then the keys are listed first,
    /// each once, and the entries are read afterwards.
    pub(super) fn entries(&self, from: &Store) -> Entries {
        if matches!(self.overlap, None | Some(Overlap::Disjoint)) {
            return from.entries(&self.prefix).fuse();
        }
        let (scope, store, from) = (self.clone(), from.clone(), from.clone());
        let keys = async move { scope.keys_once(&store).await.unwrap_or_else(|error| vec![Err(error)]) };
        stream::once(keys)
            .map(stream::iter)
            .flatten()
            .map(move |key| read(from.clone(), key))
            .buffered(READS)
            .try_filter_map(future::ok)
            .boxed()
            .fuse()
    }

    async fn keys_once(&self, from: &Store) -> Result<Vec<Result<Key>>> {
        let (mut seen, mut listed) = (HashSet::new(), Vec::new());
        let mut keys = from.keys(&self.prefix);
        while let Some(key) = keys.next().await {
            match key {
                Ok(key) if self.is_of_target(&key) => {}
                Ok(key) => {
                    if seen.insert(key.clone()) {
                        listed.push(Ok(key));
                    }
                }
                Err(error) if error.concerns_one_entry() => listed.push(Err(error)),
                Err(error) => return Err(error),
            }
        }
        Ok(listed)
    }
}

async fn read(from: Store, key: Result<Key>) -> Result<Option<(Key, Record)>> {
    let key = key?;
    let record = from.read_with(&key, &with_ttl(&from)).await?;
    Ok(record.map(|record| (key, record)))
}

/// The options that read the time to live together with the value, if `store` has expiry.
pub(super) fn with_ttl(store: &Store) -> ReadOptions {
    if store.info().expiry { ReadOptions::new().with_ttl() } else { ReadOptions::new() }
}
