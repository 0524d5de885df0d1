//! The group commit with planted bugs, which the checker must find; see `build.rs`.

include!(concat!(env!("OUT_DIR"), "/group_commit.rs"));
