//! The targets.

mod codecs;
mod files;
mod keys;
mod listings;
#[cfg(feature = "drivers")]
mod mongodb;
mod sessions;
mod urls;
mod web;
mod wechat;

use std::cell::LazyCell;

use larder_core::{Bytes, Key, Store};
use tokio::runtime::{Builder, Runtime};

use crate::{SECRET, Target};

macro_rules! targets {
    ($($(#[$attribute:meta])* $name:literal: $module:ident::$parse:ident;)+) => {
        /// All targets.
        pub const TARGETS: &[Target] =
            &[$($(#[$attribute])* Target { name: $name, parse: $module::$parse }),+];
    };
}

targets! {
    "codec-json": codecs::json;
    "codec-msgpack": codecs::msgpack;
    "codec-cbor": codecs::cbor;
    "surrogates": codecs::surrogates;
    "values-json": codecs::values_json;
    "key": keys::key;
    "session-key": keys::session_key;
    "file-entry": files::entry;
    "file-entry-repaired": files::entry_repaired;
    "file-entry-json": files::entry_json;
    "file-entry-grammy": files::entry_grammy;
    "file-name": files::name;
    "file-name-grammy": files::name_grammy;
    "file-marker": files::marker;
    "file-snapshot": files::snapshot;
    "listing": listings::listing;
    #[cfg(feature = "drivers")]
    "mongodb-json": mongodb::json;
    #[cfg(feature = "drivers")]
    "mongodb-bson": mongodb::bson;
    "session-json": sessions::json;
    "session-migrated": sessions::migrated;
    "session-msgpack": sessions::msgpack;
    "session-cbor": sessions::cbor;
    "session-marker": sessions::marker;
    "lease": sessions::lease;
    "owners": sessions::owners;
    "url": urls::url;
    "url-password": urls::password;
    "options": urls::options;
    "web-tower": web::tower;
    "web-actix": web::actix;
    "wechat-session": wechat::session;
    "wechat-request": wechat::request;
}

/// Runs a future on the runtime of this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: LazyCell<Runtime> =
            LazyCell::new(|| Builder::new_current_thread().enable_all().build().unwrap());
    }
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let done = future.await;
            // The tasks of dropped stores end in between. Otherwise they would fill the memory.
            tokio::task::yield_now().await;
            done
        })
    })
}

/// Returns a key that contains the secret.
fn secret_key() -> Key {
    Key::new(SECRET).unwrap()
}

/// Returns the stored bytes.
async fn stored(store: &Store, key: &Key) -> Option<Bytes> {
    store.read(key).await.unwrap().map(|record| record.value)
}

/// Splits an input into its parts, which NUL separates.
fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut parts = input.splitn(N, |byte| *byte == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}
