//! A Larder storage in a MongoDB collection, built on the official driver.
//!
//! ```no_run
//! use larder_core::{Expiry, Key, Result};
//!
//! # async fn example() -> Result<()> {
//! let store = larder_mongodb::connect("mongodb://localhost:27017/bot?collection=sessions").await?;
//! let key = Key::new("chat:42")?;
//! store.write_as(&key, &vec!["Rex".to_owned()], Expiry::after_secs(3600)).await?;
//! let names: Option<Vec<String>> = store.read_as(&key).await?;
//! store.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Options
//!
//! The options are set in the URL, `mongodb://user:password@host1,host2/database?option=value&...`, in a configuration
//! file, or in code: see [`Config`].
//!
//! The standard options of MongoDB connection strings are passed to the driver, such as `replicaSet`, `tls`,
//! `authSource`, `readPreference` and `maxPoolSize`. Unknown options are rejected. Two defaults differ from the
//! driver's:
//!
//! - `serverSelectionTimeoutMS` is 5000, not 30000.
//! - The write concern is `w=majority` with `journal=true`, unless `w` or `journal` is given: an acknowledged write
//!   survives a power cut and a change of the primary. `w=0` is rejected.
//!
//! Reads go to the primary. With another `readPreference` they may return outdated values.
//!
//! `mongodb+srv://` needs the feature `srv`, which adds a DNS resolver.
//!
//! # Stored data
//!
//! ```js
//! { _id: "chat:42",                          // the key; MongoDB always indexes `_id` uniquely
//!   value: BinData(0, "WyJSZXgiXQ=="),       // values=json: ["Rex"]
//!   version: NumberLong("81985529216486895"),  // random, new at each write
//!   expires_at: ISODate("2027-01-01T00:00:00Z") }  // absent: never
//! ```
//!
//! Set-up creates one index, which makes the server remove expired documents:
//! `db.larder.createIndex({expires_at: 1}, {expireAfterSeconds: 0})`. The server does this about once a minute. Until
//! then, operations ignore expired documents, by the server's own clock. The collection must not have a collation,
//! because different keys could then be equal: set-up rejects such a collection. On a sharded cluster, shard it by
//! `_id`.
//!
//! If you change a value by hand, also set a new random `version`, or unset it.
//!
//! # Collections of other programs
//!
//! The index would remove another program's documents. Therefore set-up creates it only in a collection that is new,
//! empty, or Larder's. Set-up looks at the first ten and the last ten documents by `_id` (at the names and types of
//! their fields, not at their values), at the indexes, and at the options of the collection. If the index is missing
//! and the collection has documents, the server checks all of them before the index is created. Connecting fails with
//! [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig), and changes nothing, in these cases:
//!
//! - None of these documents has the fields above, or the index is missing and any document has other fields or no
//!   `version`.
//! - The documents have the other `layout`, or their values have the other format (`values`).
//! - The collection is empty and has the other layout's index, an index on other fields, or validation rules.
//! - A unique index on other fields would reject the second entry.
//!
//! [`Config::existing`] opens only an existing collection. It makes the same checks of the documents and the layout,
//! creates nothing, and fails if the collection does not exist. The role `read` is enough.
//!
//! `setup=false` creates nothing, and allows documents of another program. It rejects a collection whose documents have
//! the other layout or format, if the user may read them.
//!
//! A listing of all keys returns an error of kind [`InvalidKey`](larder_core::ErrorKind::InvalidKey) for each document
//! whose key is not a string or not a valid [`Key`](larder_core::Key), and continues. The error has the
//! [name](larder_core::Error::stored_name) if that is text or binary data. [`clear`](larder_core::Store::clear) does
//! not delete such documents. A listing with values returns [`Corrupt`](larder_core::ErrorKind::Corrupt) for a document
//! without a readable value.
//!
//! # JSON and BSON
//!
//! With `values=json`, and in grammY's layout, JSON becomes BSON with the same meaning. Objects keep the order of their
//! members. Integers become int32 or int64, and other numbers a double, or a decimal128 if a double cannot represent
//! all digits. Reading returns an equal JSON value. Values that BSON cannot represent are rejected as
//! [`InvalidValue`](larder_core::ErrorKind::InvalidValue): a repeated member name in one object, a member name with a
//! NUL, a number of more than 34 digits, and more than 99 levels of nesting.
//!
//! A BSON type that JSON lacks is read as relaxed
//! [Extended JSON](https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/): a date as
//! `{"$date": "2027-01-01T00:00:00Z"}`, an ObjectId as `{"$oid": "..."}`, a NaN as `{"$numberDouble": "NaN"}`. Writing
//! that object stores the type again. So members that an update does not change keep their types, and so does a copy to
//! another MongoDB collection. An object becomes a type only if it is exactly the object that reading the type returns,
//! so it also reads back unchanged. A stored *document* that looks like a type, such as `{$oid: "..."}`, is read as
//! `{"$literal": {"$oid": "..."}}`, and this is written as the document again.
//!
//! Numbers keep their value, and their type within limits. An integer is stored as int32 if it fits, otherwise as
//! int64; a double remains a double (`5.0`). In grammY's layout int32, int64 and double are one type, as in JavaScript.
//! Numbers are stored as its driver stores them, so an integer of more than 32 bits becomes a double. An int64 beyond
//! ±(2^53 - 1), the range of safe integers in JavaScript, remains an int64; if a double could represent it, it is read
//! as `{"$numberLong": "..."}`.
//!
//! The whole value cannot be an empty timestamp (the server would replace it), or, with `values=json`, binary data.
//!
//! # grammY's layout
//!
//! `layout=grammy` reads and writes `{_id: ObjectId, key, value}` as grammY's adapter does. Set-up adds a unique index,
//! which grammY does not create: `db.larder.createIndex({key: 1}, {unique: true})`. It fails if several documents have
//! the same `key`; a listing returns an error for each such key. Entries do not expire in this layout, because grammY
//! would keep an outdated expiry when it writes. Versions are the content.
//!
//! # Writes that fail with a timeout
//!
//! A write that failed with [`Timeout`](larder_core::ErrorKind::Timeout) or
//! [`Unavailable`](larder_core::ErrorKind::Unavailable) may still happen. While its connection is open, later writes of
//! the same key through this store wait for it. If the connection broke, the server may execute a write that it has
//! received, even after a later write of that key was acknowledged. The adapter cannot confirm that an operation of a
//! lost connection has ended, so it does not claim [`fenced`](larder_core::Info::fenced). A late write with a condition
//! changes nothing, because the version has changed by then.
//!
//! Such an error is marked as [not applied](larder_core::Outcome::NotApplied) if nothing was sent: no server could be
//! found or connected to, its name could not be resolved, or the write was still waiting for an earlier one.
//!
//! # Batches
//!
//! [`read_many`](larder_core::Store::read_many) sends one query for up to 1000 keys. Up to 500 changes of a batch, of
//! any kind, are sent in one command. MongoDB before 8.0 does not have that command: each change is then a command of
//! its own, and up to 16 run concurrently. [`clear`](larder_core::Store::clear) deletes 500 entries with one command.
//!
//! # Limits
//!
//! MongoDB 5.0 or later. A value has at most 16 776 192 bytes (16 MiB for the document, less 1 KiB). Its BSON, which is
//! often longer than the JSON, must also fit. In grammY's layout, a compare-and-swap also sends the old value, and the
//! two together must fit.

mod adapter;
mod batch;
mod bson;
mod config;
mod connect;
mod driver;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod grammy;
mod in_flight;
mod larder;
mod listing;
mod model;
mod schema;
mod storage;
mod value;

use larder_core::{Result, Store};
pub use larder_kit::{Layout, ValueFormat};

pub use crate::{adapter::Adapter, config::Config};

/// Connects to the URL with the options of [`Config`], and creates the index if it is missing.
///
/// # Errors
///
/// Fails as [`Config::from_url`] and [`Config::connect`] do.
pub async fn connect(url: &str) -> Result<Store> {
    Config::from_url(url)?.connect().await
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
