//! Keys that are changed before they are stored, and spaces that are not separate.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use larder_core::{
    Bytes, DeleteOptions, EntryStream, Info, Key, ListOptions, ReadOptions, Record, Result, Storage, Store,
    WriteOptions, Written, async_trait,
};
use larder_testkit::factory;

use crate::{Fault, common::Spaces, fault, twist::Twist};

/// Changes keys by means of the function `0`.
struct Mangles(fn(&str) -> String);

impl Mangles {
    fn key(&self, key: &Key) -> Key {
        Key::new((self.0)(key.as_str())).unwrap_or_else(|_| Key::new("empty").unwrap())
    }
}

#[async_trait]
impl Twist for Mangles {
    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        inner.read_with(&self.key(key), options).await
    }

    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        inner.write_with(&self.key(key), value, options).await
    }

    async fn delete(&self, inner: &Store, key: &Key, options: &DeleteOptions) -> Result<bool> {
        inner.delete_with(&self.key(key), options).await
    }
}

fn path(key: &str) -> String {
    let mut parts = Vec::new();
    for part in key.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn sanitised(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn truncated(key: &str) -> String {
    key.chars().take(255).collect()
}

fn composed(key: &str) -> String {
    key.replace("e\u{301}", "\u{e9}").replace("A\u{30a}", "\u{c5}").replace('\u{212b}', "\u{c5}")
}

fn ascii(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
}

/// Puts a prefix before each key, without a separator.
#[derive(Debug)]
struct Prefixed {
    inner: Store,
    prefix: String,
}

impl Prefixed {
    fn key(&self, key: &Key) -> Key {
        Key::new(format!("{}{key}", self.prefix)).unwrap()
    }
}

#[async_trait]
impl Storage for Prefixed {
    fn info(&self) -> Info {
        Info::minimal("prefixed").with_listing()
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let record = self.inner.read_with(&self.key(key), options).await?;
        Ok(record.map(|record| Record::new(record.value)))
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.inner.write_with(&self.key(key), value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.inner.delete_with(&self.key(key), options).await
    }

    fn list(self: Arc<Self>, mut options: ListOptions) -> EntryStream {
        options.prefix.insert_str(0, &self.prefix);
        let entries = self.inner.list(options);
        let strip = move |mut entry: larder_core::Entry| {
            entry.key = Key::new(&entry.key.as_str()[self.prefix.len()..]).unwrap();
            entry
        };
        entries.map_ok(strip).boxed()
    }
}

/// Uses spaces as prefixes in one store: `app` and `app-one` overlap.
fn prefixes_that_overlap() -> Fault {
    let shared = Arc::new(Spaces::default());
    let open = move |prefix: String| {
        let shared = Arc::clone(&shared);
        async move { Ok(Store::from(Prefixed { inner: shared.store("shared").await, prefix })) }
    };
    Fault {
        name: "has prefixes that overlap",
        factory: Arc::new(factory(open)),
        caught_by: &["spaces_do_not_share_keys", "clearing_one_space_leaves_the_others"],
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        fault("folds case", || Mangles(str::to_lowercase), &["keys_differ_by_case"]),
        fault("composes accents", || Mangles(composed), &["keys_differ_by_normalisation"]),
        fault("stores only ASCII", || Mangles(ascii), &["keys_in_any_script"]),
        fault("interprets keys as paths", || Mangles(path), &["keys_that_look_like_paths"]),
        fault(
            "interprets doubled quotes as one",
            || Mangles(|key| key.replace("''", "'")),
            &["keys_that_look_like_sql"],
        ),
        fault("replaces `%`", || Mangles(|key| key.replace('%', "*")), &["keys_that_look_like_patterns"]),
        fault(
            "removes dollar signs",
            || Mangles(|key| key.replace('$', "")),
            &["keys_with_dollars_and_dots"],
        ),
        fault(
            "trims keys",
            || Mangles(|key| key.trim().to_owned()),
            &["keys_with_spaces_and_dots_at_the_ends", "illegal_keys_are_refused"],
        ),
        fault(
            "trims dots",
            || Mangles(|key| key.trim_end_matches('.').to_owned()),
            &["keys_with_spaces_and_dots_at_the_ends"],
        ),
        fault(
            "replaces characters other than letters and digits",
            || Mangles(sanitised),
            &["keys_that_sanitise_alike", "keys_that_are_device_names", "keys_that_look_like_patterns"],
        ),
        fault(
            "truncates keys to 255 characters",
            || Mangles(truncated),
            &["keys_of_one_and_of_512_bytes", "long_keys_that_differ_at_the_end"],
        ),
        prefixes_that_overlap(),
    ]
}
