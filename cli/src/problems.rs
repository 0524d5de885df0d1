//! Entries that fail by themselves: each is reported on standard error, and the command continues.

use std::fmt::Display;

use futures_util::StreamExt;
use indicatif::ProgressBar;
use larder::{Error, ErrorKind, Key, Store};

use super::output::say;

/// The number of entries that are read at once to find the damaged ones.
const READS: usize = 16;

/// The number of bytes that are shown of a name that is not a valid key.
const SHOWN: usize = 100;

/// Counts and prints the entries that failed.
#[derive(Debug)]
pub(super) struct Problems {
    bar: ProgressBar,
    count: u64,
    /// The number of damaged entries for which the listing gave no key.
    unnamed: u64,
    /// The error of the first of them.
    first: Option<Error>,
}

impl Problems {
    pub(super) fn new() -> Self {
        Self::above(ProgressBar::hidden())
    }

    /// Creates one that prints above `bar`.
    pub(super) fn above(bar: ProgressBar) -> Self {
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

    /// Prints a line that does not count as a problem.
    pub(super) fn note(&self, text: impl Display) {
        self.bar.suspend(|| say(text));
    }

    /// Returns an item of a listing, or `None` if only this entry failed. Any other error ends the listing.
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

    /// Counts an entry that a listing could not read. The keys of damaged entries are found
    /// [later](Self::name).
    pub(super) fn entry(&mut self, error: Error) {
        if error.kind() == ErrorKind::InvalidKey {
            match error.stored_name() {
                Some(name) => self.show(format_args!("not a valid key: {}: {error}", escaped(name))),
                None => self.show(format_args!("not a valid key: {error}")),
            }
        } else {
            self.count += 1;
            self.unnamed += 1;
            self.first.get_or_insert(error);
        }
    }

    /// Prints the keys of the damaged entries that listings met. Errors do not contain keys, so this reads
    /// every entry of `store` by itself to find them.
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
                "unreadable entries with an unknown key: {unnamed}; the first error: {first}"
            ));
        }
        Ok(())
    }

    fn damaged(&self, key: &Key, error: &Error) {
        self.note(format_args!("unreadable: {key}: {error}"));
    }
}

/// The beginning of `name`, with control characters and bytes that are not UTF-8 escaped.
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
    fn invalid_names_are_shown_on_one_line() {
        assert_eq!(escaped("a\n\u{7f}名前\"".as_bytes()), r#""a\n\u{7f}名前\"""#);
        assert_eq!(escaped(b"a\xff\x00"), r#""a\xff\0""#);
        assert_eq!(escaped(&[b'x'; 600]), format!("\"{}\"... (600 bytes)", "x".repeat(100)));
    }
}
