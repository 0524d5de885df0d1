//! The keys of the buckets.

use std::fmt::Write;

use larder_core::{Key, Result};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use sha2::{Digest, Sha256};

/// The prefix of all keys of the index.
const PREFIX: &str = "larder:owner:";

/// The number of buckets of an owner: one per digit.
const DIGITS: &str = "0123456789abcdef";

/// The characters that would end the namespace or the owner.
const SEPARATORS: &AsciiSet = &CONTROLS.add(b':').add(b'%');

/// The keys of the buckets of one owner, without the digit.
pub(crate) struct Name(String);

impl Name {
    /// `room` is the maximum length of a key.
    pub(crate) fn new(namespace: &str, owner: &str, room: usize) -> Self {
        let encode = |text| utf8_percent_encode(text, SEPARATORS);
        let plain = format!("{PREFIX}{}:{}:", encode(namespace), encode(owner));
        if plain.len() < room {
            return Self(plain);
        }
        // The digest has no `:`, so it differs from every plain name.
        let mut digest = PREFIX.to_owned();
        for byte in Sha256::digest(plain.as_bytes()) {
            let _ = write!(digest, "{byte:02x}");
        }
        Self(digest + ":")
    }

    /// Returns the key of the bucket for the session at `key`. The fingerprint of a key never changes.
    pub(crate) fn bucket(&self, key: &Key) -> Result<Key> {
        let fingerprint = key.fingerprint();
        self.with(&fingerprint[fingerprint.len() - 1..])
    }

    /// Returns the keys of all buckets.
    pub(crate) fn buckets(&self) -> Result<Vec<Key>> {
        (0..DIGITS.len()).map(|at| self.with(&DIGITS[at..=at])).collect()
    }

    fn with(&self, digit: &str) -> Result<Key> {
        Key::new(format!("{}{digit}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn buckets(namespace: &str, owner: &str) -> Vec<Key> {
        Name::new(namespace, owner, Key::MAX_BYTES).buckets().unwrap()
    }

    #[test]
    fn names_never_collide() {
        let mut names = HashSet::new();
        let long = "a".repeat(600);
        let texts = ["", "a", "a:", "a:b", "a%3Ab", ":", "b", "\n", "名前", &long, &format!("{long}:")];
        for namespace in texts {
            for owner in texts {
                names.extend(buckets(namespace, owner));
            }
        }
        assert_eq!(names.len(), 16 * texts.len() * texts.len());
    }

    #[test]
    fn the_names_are_stable() {
        assert_eq!(buckets("visit:", "ann")[10].as_str(), "larder:owner:visit%3A:ann:a");
        assert_eq!(
            buckets("", &"a".repeat(600))[0].as_str(),
            "larder:owner:96f636a2675ae392f0e76b0cd14eae665baa29e4180e2dd18515aa95d49ceba5:0"
        );
    }

    #[test]
    fn sessions_are_spread_over_all_buckets() {
        let numbers = |number: u64| format!("chat:{number}");
        let ids = |number: u64| format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for key in [&numbers as &dyn Fn(u64) -> String, &ids] {
            let name = Name::new("", "ann", Key::MAX_BYTES);
            let mut counts = HashMap::new();
            for number in 0..4_800 {
                let bucket = name.bucket(&Key::new(key(number)).unwrap()).unwrap();
                *counts.entry(bucket).or_insert(0) += 1;
            }
            assert_eq!(counts.len(), 16);
            assert!(counts.values().all(|count| (200..400).contains(count)), "{:?}", counts.values());
        }
    }
}
