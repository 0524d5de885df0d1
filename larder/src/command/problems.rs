//! Entries that fail alone: each is named on standard error, and the command goes on.

use std::fmt::Display;

use futures_util::StreamExt;
use indicatif::ProgressBar;
use larder::{Error, ErrorKind, Key, Store};

use super::output::say;

/// How many entries are read at the same time to find out which cannot be.
const READS: usize = 16;

/// How many bytes of a name that is not a key are shown.
const SHOWN: usize = 100;

/// Counts and prints the entries that failed.
#[derive(Debug)]
pub(super) struct Problems {
    bar: ProgressBar,
    count: u64,
    /// Entries that could not be read in a listing that did not say their keys, and the first error.
    unnamed: u64,
    first: Option<Error>,
}

impl Problems {
    pub(super) fn new() -> Self {
        Self::beside(ProgressBar::hidden())
    }

    /// Prints beside `bar`.
    pub(super) fn beside(bar: ProgressBar) -> Self {
        Self { bar, count: 0, unnamed: 0, first: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Counts a problem and prints it.
    pub(super) fn show(&mut self, problem: impl Display) {
        self.count += 1;
        self.note(problem);
    }

    /// Prints something that is not a problem.
    pub(super) fn note(&self, text: impl Display) {
        self.bar.suspend(|| say(text));
    }

    /// Returns the item of a listing, or nothing if this one entry failed. Any other error ends the listing.
    pub(super) fn check<T>(&mut self, found: larder::Result<T>) -> larder::Result<Option<T>> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.concerns_one_entry() => {
                self.entry(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Counts an entry that a listing could not give. A damaged one is named [later](Self::name).
    pub(super) fn entry(&mut self, error: Error) {
        if error.kind() == ErrorKind::InvalidKey {
            match error.stored_name() {
                Some(name) => self.show(format_args!("not a key: {}: {error}", escaped(name))),
                None => self.show(format_args!("not a key: {error}")),
            }
        } else {
            self.count += 1;
            self.unnamed += 1;
            self.first.get_or_insert(error);
        }
    }

    /// Names the damaged entries that listings met. Errors hold no keys, so that a log may have
    /// them; here the keys are looked for, by reading every entry of `store` by itself.
    pub(super) async fn name(&mut self, store: &Store, prefix: &str) -> larder::Result<()> {
        let Some(first) = self.first.take() else { return Ok(()) };
        let mut reads = store
            .keys(prefix)
            .filter_map(|key| std::future::ready(key.ok()))
            .map(|key| async move {
                let record = store.read(&key).await;
                (key, record)
            })
            .buffer_unordered(READS);
        let mut named = 0;
        while let Some((key, record)) = reads.next().await {
            if let Err(error) = record {
                if !error.concerns_one_entry() {
                    return Err(error);
                }
                named += 1;
                self.damaged(&key, &error);
            }
        }
        let unnamed = std::mem::take(&mut self.unnamed).saturating_sub(named);
        if unnamed > 0 {
            self.note(format_args!(
                "unreadable, and without a key: {unnamed} entries; the first error: {first}"
            ));
        }
        Ok(())
    }

    fn damaged(&self, key: &Key, error: &Error) {
        self.note(format_args!("unreadable: {key}: {error}"));
    }
}

/// The beginning of `name`, with escapes for control characters and for bytes that are not UTF-8.
fn escaped(name: &[u8]) -> String {
    let mut shown = String::from("\"");
    for chunk in name[..name.len().min(SHOWN)].utf8_chunks() {
        shown.extend(chunk.valid().escape_debug());
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown.push('"');
    if name.len() > SHOWN {
        shown.push_str(&format!("... ({} bytes)", name.len()));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn names_that_are_not_keys_are_shown_on_one_line() {
        assert_eq!(escaped("a\n\u{7f}名前\"".as_bytes()), r#""a\n\u{7f}名前\"""#);
        assert_eq!(escaped(b"a\xff\x00"), r#""a\xff\0""#);
        assert_eq!(escaped(&[b'x'; 600]), format!("\"{}\"... (600 bytes)", "x".repeat(100)));
    }
}
