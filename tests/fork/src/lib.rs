//! Nothing: this crate has tests only.
