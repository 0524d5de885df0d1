//! The stores under test.

use std::path::Path;

use crate::disk::Flushes;

/// A store, and what a power cut may do to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The URL, with `{}` for the mounted directory.
    url: &'static str,
    /// Whether the load acknowledges changes only after a flush of the store.
    pub(crate) flush: bool,
    pub(crate) flushes: Flushes,
    pub(crate) expected: Expected,
}

/// The result of a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Every acknowledged change is kept.
    Kept,
    /// A control: some acknowledged changes are lost, but nothing is damaged.
    Lost,
    /// A control: some acknowledged changes are lost or damaged.
    Broken,
}

const fn kept(name: &'static str, url: &'static str) -> Case {
    Case { name, url, flush: false, flushes: Flushes::Honoured, expected: Expected::Kept }
}

/// Every store, and for each a control that differs in what makes it durable.
pub(crate) const CASES: &[Case] = &[
    kept("directory", "file:{}/data/sessions"),
    kept("directory-json", "file:{}/data/sessions?values=json"),
    kept("directory-grammy", "file:{}/data/sessions?layout=grammy"),
    Case { flush: true, ..kept("snapshot", "file:{}/data/sessions.json?interval=1s") },
    kept("sqlite", "sqlite:{}/sessions.db"),
    kept("sqlite-json", "sqlite:{}/sessions.db?values=json"),
    Case { expected: Expected::Broken, ..kept("directory-without-sync", "file:{}/data/sessions?sync=false") },
    Case {
        flushes: Flushes::Ignored,
        expected: Expected::Broken,
        ..kept("directory-on-a-disk-that-ignores-flushes", "file:{}/data/sessions")
    },
    Case {
        expected: Expected::Lost,
        ..kept("snapshot-without-flush", "file:{}/data/sessions.json?interval=1s")
    },
    Case { expected: Expected::Lost, ..kept("sqlite-normal", "sqlite:{}/sessions.db?synchronous=normal") },
];

impl Case {
    pub(crate) fn url(&self, directory: &Path) -> String {
        self.url.replace("{}", &directory.display().to_string())
    }
}
