//! URLs: those that are known, and what is said about the others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use larder::{ErrorKind, SCHEMES};
use larder_kit::OptionInfo;

const URLS: &str = include_str!("../URLS.md");

fn names(options: &[OptionInfo]) -> Vec<&'static str> {
    options.iter().map(|option| option.name).collect()
}

#[tokio::test]
async fn an_unknown_scheme_names_the_known_ones() {
    let error = larder::open("mysql://u:hunter2@h/d").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    for scheme in SCHEMES {
        assert!(error.message().contains(&format!("{}:", scheme.name)), "{error}");
    }
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn an_unknown_option_names_the_known_ones() {
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
        ("redis://127.0.0.1:9".to_owned(), names(larder::redis::Config::OPTIONS)),
        ("mongodb://127.0.0.1:9".to_owned(), names(larder::mongodb::Config::OPTIONS)),
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
async fn open_existing_opens_what_open_has_made() {
    let home = tempfile::tempdir().unwrap();
    for place in ["file:DIR/entries", "file:DIR/a.json", "sqlite:DIR/a.db"] {
        let url = place.replace("DIR", &home.path().display().to_string());
        let store = larder::open(&url).await.unwrap();
        store.write("a", "1").await.unwrap();
        store.close().await.unwrap();
        let store = larder::open_existing(&url).await.unwrap();
        assert_eq!(store.read("a").await.unwrap().unwrap().value, "1", "{url}");
        store.close().await.unwrap();
    }
    assert!(larder::open_existing("memory:").await.is_ok());
    let error = larder::open_existing("mysql://h").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}

#[test]
fn the_table_has_every_scheme() {
    for scheme in SCHEMES {
        assert!(URLS.contains(&format!("`{}:", scheme.name)), "no URL for `{}`", scheme.name);
    }
}
