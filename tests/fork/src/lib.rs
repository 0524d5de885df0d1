//! Empty: this crate has only tests.
