//! Larder storage in a MongoDB collection, on the official driver.
//!
//! ```no_run
//! use larder_core::{Expiry, Key, Result, Storage, StorageExt};
//! use larder_mongodb::MongoStorage;
//!
//! # async fn example() -> Result<()> {
//! let storage = MongoStorage::connect("mongodb://localhost:27017/bot?collection=sessions").await?;
//! let key = Key::new("chat:42")?;
//! storage.write_as(&key, &vec!["Rex".to_owned()], Expiry::after_secs(3600)).await?;
//! let names: Option<Vec<String>> = storage.read_as(&key).await?;
//! storage.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Options
//!
//! In the URL, `mongodb://user:password@host1,host2/database?option=value&...`; on a
//! [`MongoBuilder`] there is a method for each.
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `database` | the URL's path, else `larder` | the database |
//! | `collection` | `larder` | the collection |
//! | `values` | `binary` | `binary`: any bytes; `document`: JSON, stored as BSON |
//! | `layout` | `larder` | `grammy`: the documents of grammY's MongoDB adapter |
//! | `setup` | `true` | check the collection and create its index |
//! | `timeout` | `30s` | how long any one call may take |
//!
//! The [standard options](DRIVER_OPTIONS) of MongoDB connection strings go to the driver, such as
//! `replicaSet`, `tls`, `authSource`, `readPreference` and `maxPoolSize`. Two have other defaults
//! than the driver's: `serverSelectionTimeoutMS` is 5000 (not 30000), and the write concern, unless
//! `w` or `journal` is given, is `w=majority` with `journal=true`: an acknowledged write survives a
//! power cut and a change of the primary. `w=0` is refused. Reads go to the primary; whoever sets
//! another `readPreference` may read what has been overwritten.
//!
//! `mongodb+srv://` needs the feature `srv`, which compiles a DNS resolver.
//!
//! # What is stored
//!
//! ```js
//! { _id: "chat:42",                          // the key; its index is unique and always there
//!   value: BinData(0, "WyJSZXgiXQ=="),       // values=document: ["Rex"]
//!   version: NumberLong("81985529216486895"),  // drawn anew by every write
//!   expires_at: ISODate("2027-01-01T00:00:00Z") }  // absent: never
//! ```
//!
//! The set-up creates one index, which makes the server remove expired documents:
//! `db.larder.createIndex({expires_at: 1}, {expireAfterSeconds: 0})`. The server does that about
//! once a minute; until then no operation sees them, by the server's own clock. The collection must
//! have no collation, or different keys would be one: the set-up refuses such a one. On a sharded
//! cluster shard it by `_id`.
//!
//! Who changes a value by hand should also draw a new `version`, or unset it.
//!
//! With `values=document` JSON becomes BSON of the same meaning: objects keep the order of their
//! members, integers become int32 or int64, other numbers a double; a number that a double cannot
//! hold digit for digit becomes a decimal128. It comes back as an equal JSON value. Refused, as
//! [`InvalidValue`](larder_core::ErrorKind::InvalidValue), is what BSON cannot hold: a member name
//! twice in one object or with a NUL in it, a number of more than 34 digits, more than 99 levels of
//! nesting. BSON types that JSON has not, written by others, are read as relaxed Extended JSON, such
//! as `{"$oid": "..."}`; writing that back stores what it says, not the type.
//!
//! `layout=grammy` reads and writes `{_id: ObjectId, key, value}` as grammY's adapter does, doubles
//! with no fraction being integers there, and integers beyond ±(2^53 - 1) doubles where that keeps
//! every digit. The set-up adds what grammY leaves out, a unique index:
//! `db.larder.createIndex({key: 1}, {unique: true})`. There is no expiry in this layout (grammY
//! would keep a stale one when it writes), and versions are the content.
//!
//! # Limits
//!
//! MongoDB 5.0 or later. A value has at most 16 776 192 bytes (16 MiB for the document, less 1 KiB),
//! and its BSON, which is often longer than the JSON, has to fit too. In grammY's layout a
//! compare-and-swap sends the old value along, and the two together must fit.

mod batch;
mod clear;
mod config;
mod driver;
mod error;
mod json;
mod listing;
mod model;
mod options;
mod setup;
mod shape;
mod storage;
mod stragglers;

/// The adapter's name, in errors and traces.
const NAME: &str = "mongodb";

pub use crate::{
    config::{Form, Layout, MongoBuilder},
    options::{DRIVER_OPTIONS, OPTIONS},
    storage::MongoStorage,
};
