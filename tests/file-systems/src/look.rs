//! The process that opens a store after a power cut, and reports its entries.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use futures_util::TryStreamExt;
use larder::{Key, Store};
use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};

use crate::{
    history::{Content, State},
    load::{Failure, read},
    value::content,
};

/// The beginning of the keys that this process writes. A second power cut may leave them.
const OWN: &str = "look-";

/// The options of a look.
#[derive(Clone, Debug, clap::Args)]
pub struct Look {
    /// The URL of the store.
    url: String,
}

impl Look {
    /// Prints a line per entry: its key and its state. Then checks that the store works. Reads keys, one per line, from
    /// the standard input. It reads these too if the listing does not contain them.
    ///
    /// # Errors
    ///
    /// If the store is damaged or fails.
    pub async fn run(self) -> Result<(), Failure> {
        let store = larder::open(&self.url).await?;
        let entries = entries(&store).await?;
        for (key, content) in &entries {
            println!("{key} {}", State::Present(*content));
        }
        write(&store, 1).await?;
        store.close().await?;
        if let Some(path) = self.url.strip_prefix("sqlite:") {
            check_integrity(path.split('?').next().unwrap_or(path).as_ref()).await?;
        }
        let store = larder::open(&self.url).await?;
        write(&store, 2).await?;
        store.close().await?;
        Ok(())
    }
}

/// Lists the entries, and reads each of them by its key.
async fn entries(store: &Store) -> Result<BTreeMap<Key, Content>, Failure> {
    let mut listed = BTreeMap::new();
    let mut entries = store.entries("");
    while let Some((key, record)) = entries.try_next().await? {
        if !key.as_str().starts_with(OWN) {
            let Content { serial, size, .. } = content(key.as_str(), &record)?;
            listed.insert(key, (serial, size));
        }
    }
    let mut keys: BTreeSet<_> = listed.keys().cloned().collect();
    for line in io::stdin().lines() {
        keys.insert(Key::new(line?)?);
    }
    let mut found = BTreeMap::new();
    for key in keys {
        let content = read(store, &key).await?;
        let listed = listed.get(&key).copied();
        if listed != content.map(|content| (content.serial, content.size)) {
            return Err(format!("{key} is {listed:?} in the listing, but {content:?} when it is read").into());
        }
        found.extend(content.map(|content| (key, content)));
    }
    Ok(found)
}

/// Writes, reads and deletes entries.
async fn write(store: &Store, round: u32) -> Result<(), Failure> {
    let long = "x".repeat(10_000);
    for text in ["\"short\"".to_owned(), format!("\"{round} {long}\"")] {
        for number in 0..3 {
            let key = Key::new(format!("{OWN}{number}"))?;
            store.write(&key, text.clone()).await?;
            let read = store.read(&key).await?;
            if read.is_none_or(|record| record.value != text) {
                return Err("a new entry does not have its value".into());
            }
        }
    }
    let key = Key::new(format!("{OWN}0"))?;
    if !store.delete(&key).await? || store.read(&key).await?.is_some() {
        return Err("a new entry was not deleted".into());
    }
    Ok(())
}

/// Asks SQLite for damage.
async fn check_integrity(path: &Path) -> Result<(), Failure> {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await?;
    let answer: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await?;
    if answer == "ok" { Ok(()) } else { Err(format!("the database is damaged: {answer}").into()) }
}
