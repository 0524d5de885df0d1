//! The group commit with bugs in it, which the checker has to find; see `build.rs`.

include!(concat!(env!("OUT_DIR"), "/bugs.rs"));
