//! What the suites on real servers share.

mod writers;

pub use crate::writers::Writers;
