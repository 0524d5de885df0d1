//! Larder storage in a MongoDB collection, on the official driver.
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
//! In the URL, `mongodb://user:password@host1,host2/database?option=value&...`, in a configuration file, or
//! in code: see [`Config`].
//!
//! The standard options of MongoDB connection strings go to the driver, such as `replicaSet`, `tls`,
//! `authSource`, `readPreference` and `maxPoolSize`; an unknown one is refused. Two have other defaults
//! than the driver's: `serverSelectionTimeoutMS` is 5000 (not 30000), and the write concern, unless
//! `w` or `journal` is given, is `w=majority` with `journal=true`: an acknowledged write survives a
//! power cut and a change of the primary. `w=0` is refused. Reads go to the primary; with
//! another `readPreference` they may return overwritten values.
//!
//! `mongodb+srv://` needs the feature `srv`, which compiles a DNS resolver.
//!
//! # What is stored
//!
//! ```js
//! { _id: "chat:42",                          // the key; its index is unique and always there
//!   value: BinData(0, "WyJSZXgiXQ=="),       // values=json: ["Rex"]
//!   version: NumberLong("81985529216486895"),  // drawn by every write
//!   expires_at: ISODate("2027-01-01T00:00:00Z") }  // absent: never
//! ```
//!
//! The set-up creates one index, which makes the server remove expired documents:
//! `db.larder.createIndex({expires_at: 1}, {expireAfterSeconds: 0})`. The server does that about
//! once a minute; until then no operation sees them, by the server's own clock. The collection must
//! have no collation, or different keys would be one: the set-up refuses such a one. On a sharded
//! cluster shard it by `_id`.
//!
//! To change a value by hand, also draw a new `version`, or unset it.
//!
//! # Collections of other programs
//!
//! The index would remove another program's documents, so the set-up creates it only in a collection
//! that is new, empty, or Larder's. It looks at the ten documents with the least and the ten with the
//! greatest `_id` (at the names and types of their fields, not at their values), at the indexes and at the
//! options of the collection. If the index is missing and there are documents, the server checks all of
//! them before the index is created. Connecting fails with
//! [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig), and changes nothing,
//!
//! - if none of the documents looked at has the fields above, or if the index is missing and any document
//!   has other fields or no `version`;
//! - if the documents are of the other `layout`, or their values of the other form (`values`);
//! - if the collection is empty and has the other layout's index, an index on other fields, or
//!   validation rules;
//! - if a unique index on other fields would refuse the second entry.
//!
//! [`Config::existing`] opens an existing collection only: it makes the same checks of the documents and the
//! layout, creates nothing, and fails if there is no such collection. The role `read` is enough.
//!
//! `setup=false` creates nothing and allows documents of another program, but refuses a collection whose
//! documents are of the other layout or format, if the user may read it.
//!
//! A listing of all keys yields an error of the kind
//! [`InvalidKey`](larder_core::ErrorKind::InvalidKey) for each document whose key is not a string or not a
//! valid [`Key`](larder_core::Key), and goes on; the error has the
//! [name](larder_core::Error::stored_name), if it is text or binary data.
//! [`clear`](larder_core::Store::clear) leaves such documents alone. A listing with values yields
//! [`Corrupt`](larder_core::ErrorKind::Corrupt) for a document without a readable value.
//!
//! # JSON and BSON
//!
//! With `values=json`, and in grammY's layout, JSON becomes BSON of the same meaning: objects keep the
//! order of their members, integers become int32 or int64, other numbers a double; a number that a double
//! cannot hold digit for digit becomes a decimal128. It comes back as an equal JSON value. Refused, as
//! [`InvalidValue`](larder_core::ErrorKind::InvalidValue), is what BSON cannot hold: a member name
//! twice in one object or with a NUL in it, a number of more than 34 digits, more than 99 levels of
//! nesting.
//!
//! A BSON type that JSON does not have is read as relaxed
//! [Extended JSON](https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/): a date as
//! `{"$date": "2027-01-01T00:00:00Z"}`, an ObjectId as `{"$oid": "..."}`, a NaN as
//! `{"$numberDouble": "NaN"}`. Writing that object stores the type again, so the members that an update
//! leaves alone keep their types, and so does a copy to another MongoDB collection. Only an object that is
//! exactly what reading a type gives becomes that type, and it reads back unchanged. A stored *document*
//! that looks like a type, such as `{$oid: "..."}`, is read as `{"$literal": {"$oid": "..."}}`, and that is
//! written as the document again.
//!
//! Of numbers the value is kept, and this much of the type: an integer is stored as the smallest of int32
//! and int64 that holds it, and a double stays a double (`5.0`). In grammY's layout int32, int64 and double
//! are one type, as they are in JavaScript: numbers are stored as its driver does, which makes an integer of
//! more than 32 bits a double. An int64 beyond ±(2^53 - 1), which JavaScript does not count to, stays
//! an int64; where a double could hold it, it reads as `{"$numberLong": "..."}`.
//!
//! An empty timestamp cannot be written as the whole value (the server
//! would replace it), nor can binary data with `values=json`.
//!
//! # grammY's layout
//!
//! `layout=grammy` reads and writes `{_id: ObjectId, key, value}` as grammY's adapter does. The set-up adds
//! what grammY leaves out, a unique index: `db.larder.createIndex({key: 1}, {unique: true})`. It fails if
//! several documents have the same `key`; a listing yields an error for each such key. There is no expiry in
//! this layout (grammY would keep a stale one when it writes), and versions are the content.
//!
//! # Writes that fail with a time-out
//!
//! A write that failed with [`Timeout`](larder_core::ErrorKind::Timeout) or
//! [`Unavailable`](larder_core::ErrorKind::Unavailable) may still happen. As long as its connection is open,
//! later writes of the same key through this store wait for it. If the connection broke, the server may
//! still carry out what it has received, even after a later write of that key was acknowledged: the adapter
//! has no way to confirm that an operation of a lost connection has ended, so it does not claim
//! [`fenced`](larder_core::Info::fenced). A late write on a condition changes nothing,
//! because the version is another one by then.
//!
//! Such an error is marked as [not applied](larder_core::Outcome::NotApplied) if nothing was sent: no
//! server could be found or connected to, its name could not be resolved, or the write still waited for an
//! earlier one.
//!
//! # Batches
//!
//! [`read_many`](larder_core::Store::read_many) sends one query for up to 1000 keys. Of a batch of
//! changes, up to 500 are sent in one command, whatever they are. A MongoDB older than 8.0 does not have that
//! command: there each change is a command of its own, and 16 are sent at a time.
//! [`clear`](larder_core::Store::clear) deletes 500 entries with one command.
//!
//! # Limits
//!
//! MongoDB 5.0 or later. A value has at most 16 776 192 bytes (16 MiB for the document, less 1 KiB),
//! and its BSON, which is often longer than the JSON, has to fit too. In grammY's layout a
//! compare-and-swap sends the old value along, and the two together must fit.

mod batch;
mod bson;
mod config;
mod connect;
mod driver;
mod error;
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

pub use crate::config::Config;

/// Connects to the URL, with the options of [`Config`], and sets up what is missing.
///
/// # Errors
///
/// As [`Config::from_url`] and [`Config::connect`].
pub async fn connect(url: &str) -> Result<Store> {
    Config::from_url(url)?.connect().await
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
