//! Opening stores by URL, with the built-in adapters and with others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use larder::{Adapter, ErrorKind, Registry, Result, Store};
use larder_kit::OptionInfo;
use larder_memory::MemoryStorage;

const URLS: &str = include_str!("../URLS.md");

fn names(options: &[OptionInfo]) -> Vec<&'static str> {
    options.iter().map(|option| option.name).collect()
}

#[tokio::test]
async fn error_for_an_unknown_scheme_lists_the_known_schemes() {
    let error = larder::open("oracle://u:hunter2@h/d").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    for scheme in Registry::builtin().schemes() {
        assert!(error.message().contains(&format!("{scheme}:")), "{error}");
    }
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn error_for_an_unknown_option_lists_the_known_options() {
    let home = tempfile::tempdir().unwrap();
    let urls = [
        ("memory:".to_owned(), names(larder::memory::Config::OPTIONS)),
        (format!("file:{}", home.path().join("dir").display()), names(larder::file::Config::OPTIONS)),
        (
            format!("file:{}", home.path().join("a.json").display()),
            names(larder::file::SnapshotConfig::OPTIONS),
        ),
        (format!("sqlite:{}", home.path().join("a.db").display()), names(larder::sqlite::Config::OPTIONS)),
        ("postgres://u@127.0.0.1:9/d".to_owned(), names(larder::postgres::Config::OPTIONS)),
        ("mysql://u@127.0.0.1:9/d".to_owned(), names(larder::mysql::Config::OPTIONS)),
        ("redis://127.0.0.1:9".to_owned(), names(larder::redis::Config::OPTIONS)),
        ("mongodb://127.0.0.1:9".to_owned(), names(larder::mongodb::Config::OPTIONS)),
        ("dynamodb:sessions".to_owned(), names(larder::dynamodb::Config::OPTIONS)),
    ];
    for (url, options) in urls {
        let error = larder::open(&format!("{url}?colour=red")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}: {error}");
        assert!(error.message().contains("`colour`"), "{error}");
        for option in options {
            assert!(error.message().contains(option), "{url} does not name `{option}`: {error}");
        }
    }
}

#[tokio::test]
async fn open_existing_opens_only_a_store_that_exists() {
    let home = tempfile::tempdir().unwrap();
    for path in ["file:DIR/entries", "file:DIR/a.json", "sqlite:DIR/a.db"] {
        let url = path.replace("DIR", &home.path().display().to_string());
        let error = larder::open_existing(&url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}: {error}");
        let store = larder::open(&url).await.unwrap();
        store.write("a", "1").await.unwrap();
        store.close().await.unwrap();
        let store = larder::open_existing(&url).await.unwrap();
        assert_eq!(store.read("a").await.unwrap().unwrap().value, "1", "{url}");
        store.close().await.unwrap();
    }
    assert!(larder::open_existing("memory:").await.is_ok());
    let error = larder::open_existing("oracle://h").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}

#[test]
fn documents_have_a_url_for_every_scheme() {
    for scheme in Registry::builtin().schemes() {
        assert!(URLS.contains(&format!("`{scheme}:")), "no URL for `{scheme}`");
    }
}

/// An adapter for one store, which an application has opened already.
struct Shared(Store);

impl Adapter for Shared {
    const SCHEMES: &'static [&'static str] = &["shared", "redis"];
    const URLS: &'static [(&'static str, &'static str)] =
        &[("shared:", "the shared store"), ("redis:", "the shared store, too")];

    async fn connect(&self, _: &str) -> Result<Store> {
        Ok(self.0.clone())
    }

    async fn connect_existing(&self, url: &str) -> Result<Store> {
        self.connect(url).await
    }
}

async fn shared(value: &str) -> Shared {
    let store = Store::from(MemoryStorage::new());
    store.write("name", value.to_owned()).await.unwrap();
    Shared(store)
}

async fn name(registry: &Registry, url: &str) -> String {
    let record = registry.open(url).await.unwrap().read("name").await.unwrap().unwrap();
    String::from_utf8(record.value.to_vec()).unwrap()
}

#[tokio::test]
async fn the_adapter_that_was_added_last_opens_a_scheme() {
    let registry = Registry::builtin().with(shared("first").await);
    assert_eq!(name(&registry, "SHARED:").await, "first");
    // A built-in scheme is replaced, in its place; the other schemes of that adapter stay.
    assert_eq!(name(&registry, "redis://127.0.0.1:9").await, "first");
    assert!(registry.open("valkey://127.0.0.1:9?colour=red").await.unwrap_err().message().contains("tls_ca"));
    let (before, after): (Vec<_>, Vec<_>) =
        (Registry::builtin().schemes().collect(), registry.schemes().collect());
    assert_eq!(after, [&before[..], &["shared"]].concat());

    let registry = registry.with(shared("second").await);
    assert_eq!(name(&registry, "shared:").await, "second");
    assert_eq!(registry.schemes().count(), after.len());
    let redis: Vec<_> = registry.urls().filter(|(form, _)| form.starts_with("redis:")).collect();
    assert_eq!(redis, [("redis:", "the shared store, too")]);
}

#[tokio::test]
async fn an_empty_registry_opens_only_the_adapters_that_were_added() {
    let error = Registry::new().open("memory:").await.unwrap_err();
    assert_eq!(error.message(), "no adapter opens `memory:` URLs, and no adapter is registered");
    let registry = Registry::new().with(shared("only").await);
    let error = registry.open("memory:").await.unwrap_err();
    assert_eq!(error.message(), "no adapter opens `memory:` URLs; the known schemes are: shared: redis:");
    assert_eq!(format!("{registry:?}"), r#"Registry(["shared", "redis"])"#);
}
