//! Keys that are changed on their way, and spaces that are not apart.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, TryStreamExt};
use larder_core::{Bytes, Capabilities, Expiry, Key, KeyStream, Record, Result, Storage, async_trait};
use larder_memory::MemoryStorage;
use larder_testkit::factory;

use crate::{Fault, fault, twist::Twist};

/// Keys go through a function first.
struct Mangles(fn(&str) -> String);

impl Mangles {
    fn key(&self, key: &Key) -> Key {
        Key::new((self.0)(key.as_str())).unwrap_or_else(|_| Key::new("empty").unwrap())
    }
}

#[async_trait]
impl Twist for Mangles {
    async fn read(&self, inner: &MemoryStorage, key: &Key) -> Result<Option<Record>> {
        inner.read(&self.key(key)).await
    }

    async fn write(&self, inner: &MemoryStorage, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        inner.write(&self.key(key), value, expiry).await
    }

    async fn delete(&self, inner: &MemoryStorage, key: &Key) -> Result<bool> {
        inner.delete(&self.key(key)).await
    }

    async fn contains(&self, inner: &MemoryStorage, key: &Key) -> Result<bool> {
        inner.contains(&self.key(key)).await
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

/// A prefix before each key, with nothing between.
#[derive(Debug)]
struct Prefixed {
    inner: MemoryStorage,
    prefix: String,
}

impl Prefixed {
    fn key(&self, key: &Key) -> Key {
        Key::new(format!("{}{key}", self.prefix)).unwrap()
    }
}

#[async_trait]
impl Storage for Prefixed {
    fn capabilities(&self) -> Capabilities {
        Capabilities::minimal().with_listing()
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        Ok(self.inner.read(&self.key(key)).await?.map(|record| Record::new(record.value)))
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.inner.write(&self.key(key), value, expiry).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.inner.delete(&self.key(key)).await
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        let begins = format!("{}{prefix}", self.prefix);
        let keys: Vec<_> = futures_util::FutureExt::now_or_never(async {
            self.inner.keys(&begins).try_collect::<Vec<_>>().await
        })
        .unwrap()
        .unwrap_or_default();
        let length = self.prefix.len();
        futures_util::stream::iter(keys).map(move |key| Key::new(&key.as_str()[length..])).boxed()
    }
}

/// Spaces are prefixes in one store: `app` and `app-one` overlap.
fn prefixes_that_overlap() -> Fault {
    let shared = Mutex::new(MemoryStorage::new());
    let open = move |prefix: String| {
        let inner = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
        async move { Ok(Arc::new(Prefixed { inner, prefix }) as Arc<dyn Storage>) }
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
        fault("knows ASCII only", || Mangles(ascii), &["keys_in_any_script"]),
        fault("takes keys for paths", || Mangles(path), &["keys_that_look_like_paths"]),
        fault(
            "takes quotes for quoted",
            || Mangles(|key| key.replace("''", "'")),
            &["keys_that_look_like_sql"],
        ),
        fault(
            "takes `%` for a character",
            || Mangles(|key| key.replace('%', "*")),
            &["keys_that_look_like_patterns"],
        ),
        fault("leaves out dollars", || Mangles(|key| key.replace('$', "")), &["keys_with_dollars_and_dots"]),
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
            "replaces what is no letter and no digit",
            || Mangles(sanitised),
            &["keys_that_sanitise_alike", "keys_that_are_device_names", "keys_that_look_like_patterns"],
        ),
        fault(
            "cuts keys off at 255 characters",
            || Mangles(truncated),
            &["keys_of_one_and_of_512_bytes", "long_keys_that_differ_at_the_end"],
        ),
        prefixes_that_overlap(),
    ]
}
