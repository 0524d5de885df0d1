//! Copies between any two stores.
//!
//! [`copy`] streams: it holds a few batches in memory, whatever the size of the store. Each entry keeps its
//! remaining time to live. [`verify`] reads both stores and reports the differences.
//!
#![cfg_attr(feature = "memory", doc = "```")]
#![cfg_attr(not(feature = "memory"), doc = "```ignore")]
//! use larder::transfer::{self, CopyOptions};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> larder::Result<()> {
//! let (from, to) = (larder::open("memory:").await?, larder::open("memory:").await?);
//! from.write("chat:1", "{}").await?;
//!
//! let report = transfer::copy(&from, &to, &CopyOptions::default(), |_| {}).await?;
//! assert_eq!((report.copied, report.failed), (1, 0));
//! # Ok(())
//! # }
//! ```

mod batch;
mod copy;
mod equal;
mod scope;
mod verify;

pub use self::{
    copy::{CopyOptions, CopyReport, Event, copy},
    verify::{Difference, VerifyOptions, VerifyReport, verify},
};
