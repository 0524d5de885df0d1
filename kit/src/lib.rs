//! Building blocks for Larder adapters, for authors of adapters.
//!
//! | item | purpose |
//! |---|---|
//! | [`GroupCommit`] | sharing commits between concurrent writes |
//! | [`Batch`] | splitting a batch of changes into statements, with one result per change |
//! | [`read_chunks`] | reading many entries, with one result per key |
//! | [`side_by_side`] | running several calls at once, with one result per call |
//! | [`ranges`], [`Ranged`], [`KeyRange`] | listings of stores that read their keys in order |
//! | [`pages`], [`Pager`], [`PageSize`] | other listings that read page by page |
//! | [`prefix_end`] | the range of keys that begin with a prefix |
//! | [`stored_key`] | keys that another program may have written |
//! | [`check_json`], [`json_members`] | stores that hold JSON (feature `json`) |
//! | [`Sweeper`] | removing expired entries at regular intervals |
//! | [`config!`], [`choices!`] | the adapter's configuration, in code, in URLs and in files |
//! | [`Layout`], [`ValueFormat`], [`Interval`], [`Timeout`], [`Secret`], [`Permissions`] | option types that several adapters use |
//! | [`StoreUrl`], [`redact`] | storage URLs |
//! | [`Adapter`], [`is_scheme`] | opening stores by URL, together with other adapters |

mod adapter;
mod batch;
mod config;
pub mod group_commit;
#[cfg(feature = "json")]
mod json;
mod keys;
mod options;
mod pages;
mod runtime;
mod sweep;
mod url;

// For the code that the macros generate.
#[doc(hidden)]
pub use larder_core::Result;
#[doc(hidden)]
pub use serde;

#[cfg(feature = "json")]
pub use crate::json::{check_json, json_members};
pub use crate::{
    adapter::{Adapter, is_scheme},
    batch::{Batch, Limits, Round, is_plain_put, read_chunks, side_by_side},
    config::{Configure, OptionInfo, default_option, deserialize, invalid_option},
    group_commit::GroupCommit,
    keys::{prefix_end, stored_key},
    options::{Interval, IntoOption, Layout, OptionValue, Permissions, Secret, Timeout, ValueFormat},
    pages::{KeyRange, PageSize, Pager, Ranged, StoredEntry, pages, ranges},
    sweep::Sweeper,
    url::{StoreUrl, redact},
};
