//! A Larder storage in a table of Amazon DynamoDB, built on the official SDK.
//!
//! ```no_run
//! use larder_core::{Expiry, Key, Result};
//!
//! # async fn count() -> Result<()> {
//! let store = larder_dynamodb::connect("dynamodb:sessions?region=eu-central-1").await?;
//! let key = Key::new("chat:42")?;
//! let visits = store
//!     .update(&key, Expiry::after_secs(86_400), |seen: Option<u64>| Some(seen.unwrap_or(0) + 1))
//!     .await?;
//! println!("{visits:?}");
//! # Ok(())
//! # }
//! ```
//!
//! # Options
//!
//! See [`Config`]. It is made from a URL, in code, or from a configuration file. The URL is
//! `dynamodb:TABLE?option=value&...`.
//!
//! The credentials come from the SDK's chain: the environment, the profile, a web identity, the container or the
//! instance. Profiles of IAM Identity Center need the feature `sso`. The SDK fetches credentials when they are needed
//! for the first time and before they expire, not for each request. For anything else, pass your own client
//! ([`Config::connect_with`]).
//!
//! # Attributes
//!
//! One item per entry, in a table whose partition key is `id` (String), without a sort key:
//!
//! | attribute | type | contents |
//! |---|---|---|
//! | `id` | String | the key |
//! | `value` | Binary | the value |
//! | `version` | Number | a random number, new at each write, for conditions |
//! | `expires_at` | Number, or missing for never | the expiry in Unix milliseconds |
//! | `remove_at` | Number, or missing for never | five minutes later in Unix seconds, for DynamoDB's time to live |
//!
//! Other programs may use the table too. A program that writes an item must set `version` to a new random number, or
//! conditions miss the change. A write replaces the whole item, so it removes attributes of other programs.
//!
//! # The table
//!
//! If the table is missing, opening creates it, with on-demand billing and with time to live for `remove_at`, and waits
//! until it is ready. An existing table is never changed, and only its key is checked. So if the creation fails or is
//! interrupted, enable time to live yourself. To create the table yourself:
//!
//! ```sh
//! aws dynamodb create-table --table-name larder --billing-mode PAY_PER_REQUEST \
//!     --attribute-definitions AttributeName=id,AttributeType=S --key-schema AttributeName=id,KeyType=HASH
//! aws dynamodb wait table-exists --table-name larder
//! aws dynamodb update-time-to-live --table-name larder \
//!     --time-to-live-specification Enabled=true,AttributeName=remove_at
//! ```
//!
//! Without time to live, expired items stay in the table until they are overwritten, and cost storage. They are never
//! returned.
//!
//! # Requests
//!
//! A read, a write, a deletion and a touch are one request each, on any condition. A read that touches is one request
//! too. The conditions are those of DynamoDB, so of any number of clients that change an entry at the same version, one
//! succeeds. The README lists what each operation costs.
//!
//! [`read_many`](larder_core::Storage::read_many) reads 100 entries with one request. A batch of changes writes 25
//! entries with one request if the puts have no condition. Each other change is a request of its own. Up to 16 requests
//! of a call run at the same time. DynamoDB may process a part of a request; the rest is sent again.
//!
//! A listing reads the whole table (`Scan`), 1 MB with each request, whatever its prefix is. It is not ordered. So
//! listing and clearing are for administration, not for requests of users.
//!
//! # Clocks
//!
//! DynamoDB's conditions cannot use the time of the server, so expiry is decided by the clocks of the clients. If the
//! clocks of two clients differ by a second, an entry may expire for one of them a second earlier. A client whose clock
//! is ahead may take over a lease or replace an entry that another client still regards as live. For leases, check the
//! token. Synchronize the clocks (NTP), and use times to live that are much longer than their difference. AWS rejects
//! requests from clocks that are off by more than about five minutes. A request that is repeated because the table is
//! throttled has the time of its first attempt.
//!
//! DynamoDB removes expired items some time after their `remove_at`, usually within a few days. Reads, listings and
//! conditions treat an expired item as absent. `remove_at` is five minutes after `expires_at`, so no entry is removed
//! while it is live by the clock of some client.
//!
//! # Retries, timeouts and failures
//!
//! The SDK sends a request again only if DynamoDB has rejected it because the table is throttled. It makes up to 10
//! attempts, and fewer if many requests of the process are throttled at once. Then the change fails as
//! [`Unavailable`](larder_core::ErrorKind::Unavailable) and is not applied. If the option `timeout` passes first, the
//! change fails as [`Timeout`](larder_core::ErrorKind::Timeout), and its outcome is unknown. Other failures are not
//! retried: the change may have been made, and a retry would find its own change and report a conflict.
//!
//! DynamoDB may return some puts of a batch, because they were throttled or failed in the service. They are sent again
//! until `timeout` has passed. Then they fail as `Unavailable`, and their outcome is unknown.
//!
//! If the service closes a connection while a request is sent, the request fails as
//! [`Unavailable`](larder_core::ErrorKind::Unavailable). This is rare, because connections that were unused for 20
//! seconds are not used again.
//!
//! A change that was dropped, or failed as `Timeout` or `Unavailable`, may be made later, and may then overwrite a newer
//! one ([`Info::fenced`](larder_core::Info::fenced) is not claimed). Usually it arrives within seconds. AWS rejects a
//! request about five minutes after it was signed. If this matters, write with a condition: a late write that expects a
//! version finds another one, and changes nothing.
//!
//! # Guarantees and limits
//!
//! - An acknowledged write is stored in several availability zones.
//! - With `consistent=true`, the default, a read sees every earlier write. With `consistent=false`, reads and listings
//!   may return old values. Conditions are exact nevertheless, so `update` may then need more attempts.
//! - A value has at most 408,576 bytes: DynamoDB's 400 KB for an item, less 1 KB for the key and the other attributes.
//! - Replicas of global tables are other tables with their own locations. Two regions that change an entry at the same
//!   time may both succeed, unless the table has multi-region strong consistency.
//! - Indexes and streams of the table have no effect on Larder.
//!
//! The SDK logs whole requests at the level `TRACE`. What it logs for the requests of a store is discarded, because it
//! contains keys and values.
//!
//! # TLS
//!
//! rustls with ring, and the root certificates of the operating system.

mod adapter;
mod batch;
mod config;
mod connect;
mod error;
mod item;
mod listing;
mod pauses;
mod quiet;
mod schema;
mod storage;

pub use aws_sdk_dynamodb;
use larder_core::{Result, Store};
pub use larder_kit::{Secret, Timeout};

pub use crate::{adapter::Adapter, config::Config};

/// Connects to DynamoDB, creates the table if it is missing, and opens the store.
///
/// # Errors
///
/// Fails as [`Config::from_url`] and [`Config::connect`] do.
pub async fn connect(url: &str) -> Result<Store> {
    Config::from_url(url)?.connect().await
}

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
