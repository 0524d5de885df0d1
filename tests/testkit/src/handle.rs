//! A store under test.

use std::{collections::BTreeSet, ops::Deref, str::FromStr};

use bytes::Bytes;
use futures_util::StreamExt;
use larder_core::{Action, Applied, Change, IntoStore, Key, ReadOptions, Record, Result, Store, Values};

use crate::Must;

/// A handle on a store under test. Creates values that the store accepts, and has assertions.
#[derive(Clone, Debug)]
pub struct Handle {
    store: Store,
}

impl Handle {
    /// Creates a handle.
    #[must_use]
    pub fn new(store: impl IntoStore) -> Self {
        Self { store: store.into() }
    }

    /// Converts `text` to a value that the storage accepts: the text itself, or a JSON string.
    #[must_use]
    pub fn value(&self, text: &str) -> Bytes {
        match self.info().values {
            Values::Bytes => Bytes::copy_from_slice(text.as_bytes()),
            _ => Bytes::from(serde_json::to_vec(text).must("write a JSON string")),
        }
    }

    /// Creates a value of exactly `length` bytes (at least 2): any bytes, or a JSON string. It is different for
    /// every `seed`, and does not compress.
    #[must_use]
    pub fn bulk(&self, length: usize, seed: u64) -> Bytes {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            // xorshift64: fast, and different for different seeds.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let json = self.info().values != Values::Bytes;
        let mut value = Vec::with_capacity(length + 8);
        while value.len() < length {
            let bytes = next().to_le_bytes();
            if json {
                value.extend(bytes.map(|byte| LETTERS[usize::from(byte % 64)]));
            } else {
                value.extend_from_slice(&bytes);
            }
        }
        value.truncate(length);
        if let (true, [first, .., last]) = (json, value.as_mut_slice()) {
            (*first, *last) = (b'"', b'"');
        }
        Bytes::from(value)
    }

    /// Returns whether the store may return `read` for the written value `written`. Depending on
    /// [`Info::values`](larder_core::Info::values), these are the same bytes, the same JSON text except for white
    /// space between tokens, or equal JSON values.
    #[must_use]
    pub fn same(&self, read: &[u8], written: &[u8]) -> bool {
        match self.info().values {
            Values::Bytes => read == written,
            Values::JsonText => squeeze(read) == squeeze(written),
            _ => match (serde_json::from_slice(read), serde_json::from_slice(written)) {
                (Ok(read), Ok(written)) => equal_json(&read, &written),
                _ => false,
            },
        }
    }

    /// Writes `value` under `key`, without expiry.
    ///
    /// # Panics
    ///
    /// If the write fails.
    pub async fn put(&self, key: &Key, value: &Bytes) {
        self.write(key, value.clone()).await.must("write");
    }

    /// Reads several entries. `operation` names the call in errors.
    ///
    /// # Panics
    ///
    /// If a read fails, or if the number of results is wrong.
    pub async fn read_all(&self, keys: &[Key], operation: &str) -> Vec<Option<Record>> {
        each(self.read_many(keys, &ReadOptions::new()).await, keys.len(), operation)
    }

    /// Applies a change as a single write, deletion or touch.
    ///
    /// # Errors
    ///
    /// The errors of that operation.
    pub async fn apply_single(&self, change: &Change) -> Result<Applied> {
        let (key, condition) = (&change.key, change.condition.clone());
        match &change.action {
            Action::Put(value, expiry) => {
                let write = self.write(key, value.clone()).expiry(*expiry).condition(condition);
                write.await.map(Applied::Put)
            }
            Action::Delete => self.delete(key).condition(condition).await.map(Applied::Deleted),
            Action::Touch(expiry) => {
                self.touch(key, *expiry).condition(condition).await.map(Applied::Touched)
            }
        }
    }

    /// Applies several changes. `operation` names the call in errors.
    ///
    /// # Panics
    ///
    /// If a change fails, or if the number of results is wrong.
    pub async fn apply_all(&self, changes: Vec<Change>, operation: &str) -> Vec<Applied> {
        let count = changes.len();
        each(self.apply(changes).await, count, operation)
    }

    /// Deletes several entries in one batch. Returns the number of entries that existed, by the results.
    ///
    /// # Panics
    ///
    /// As [`apply_all`](Handle::apply_all).
    pub async fn delete_all(&self, keys: &[Key], operation: &str) -> usize {
        let deleted = self.apply_all(keys.iter().cloned().map(Change::delete).collect(), operation).await;
        deleted.into_iter().filter(Applied::existed).count()
    }

    /// Asserts that a read of `key` returns `value`. `operation` names the read in errors.
    ///
    /// # Panics
    ///
    /// If the read returns another result.
    pub async fn holds(&self, key: &Key, value: &[u8], operation: &str) {
        let record = self.read(key).await.must(operation);
        let Some(record) = record else {
            panic!("{operation}: the entry is missing; expected {} bytes", value.len());
        };
        assert!(
            self.same(&record.value, value),
            "{operation}: the value differs from the expected one (read {} bytes, expected {})",
            record.value.len(),
            value.len(),
        );
    }

    /// Returns the numbers of the JSON array under `key`, each parsed from its own text.
    ///
    /// # Panics
    ///
    /// If the value is not such an array.
    pub async fn numbers<T: FromStr<Err: std::error::Error>>(&self, key: &Key) -> Vec<T> {
        let record = self.read(key).await.must("read").must("find the numbers");
        let text = str::from_utf8(&record.value).must("read the numbers as text").trim();
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).must("find an array");
        inner.split(',').map(|number| number.trim().parse().must("read a number")).collect()
    }

    /// Asserts that the entry under `key` does not exist. `operation` names the read in errors.
    ///
    /// # Panics
    ///
    /// If the entry exists.
    pub async fn lacks(&self, key: &Key, operation: &str) {
        let record = self.read(key).await.must(operation);
        assert!(record.is_none(), "{operation}: the entry exists, but must be absent");
    }

    /// Returns the keys that begin with `prefix`.
    ///
    /// # Panics
    ///
    /// If the listing fails, or contains a key twice although the store claims
    /// [`lists_once`](larder_core::Info::lists_once).
    pub async fn listed(&self, prefix: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut keys = self.keys(prefix);
        while let Some(key) = keys.next().await {
            let key = key.must("list keys");
            let new = found.insert(key.as_str().to_owned());
            assert!(new || !self.info().lists_once, "a listing contains a key twice");
        }
        found
    }
}

impl Deref for Handle {
    type Target = Store;

    fn deref(&self) -> &Self::Target {
        &self.store
    }
}

fn each<T>(results: Vec<Result<T>>, count: usize, operation: &str) -> Vec<T> {
    assert_eq!(results.len(), count, "{operation}: the number of results is wrong");
    results.into_iter().map(|result| result.must(operation)).collect()
}

/// Removes the white space between the tokens of a JSON text.
fn squeeze(text: &[u8]) -> Vec<u8> {
    let (mut quoted, mut escaped) = (false, false);
    text.iter()
        .copied()
        .filter(|&byte| {
            if quoted {
                quoted = escaped || byte != b'"';
                escaped = !escaped && byte == b'\\';
                true
            } else {
                quoted = byte == b'"';
                !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
            }
        })
        .collect()
}

/// Compares two JSON values: `1`, `1.0` and `1e0` are equal.
fn equal_json(left: &serde_json::Value, right: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (left, right) {
        (Number(left), Number(right)) => {
            left == right || left.as_f64() == right.as_f64() && !(left.is_i64() && right.is_i64())
        }
        (Array(left), Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal_json(left, right))
        }
        (Object(left), Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(name, left)| right.get(name).is_some_and(|right| equal_json(left, right)))
        }
        _ => left == right,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_white_space_between_tokens_is_removed() {
        let squeezed = squeeze(br#" { "a b" : [ 1, "\" c\\" , 2 ] } "#);
        assert_eq!(squeezed, br#"{"a b":[1,"\" c\\",2]}"#);
    }

    #[test]
    fn numbers_are_equal_by_value() {
        let equal = |left: &str, right: &str| {
            equal_json(&serde_json::from_str(left).unwrap(), &serde_json::from_str(right).unwrap())
        };
        assert!(equal(r#"{"a":[1.0,100]}"#, r#"{"a":[1,1e2]}"#));
        assert!(!equal("9007199254740993", "9007199254740992"));
        assert!(!equal(r#"{"a":1}"#, r#"{"a":1,"b":1}"#));
    }
}
