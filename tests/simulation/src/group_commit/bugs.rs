//! The group commit with planted bugs, which the checker must find; see `build/group_commit.rs`.

include!(concat!(env!("OUT_DIR"), "/group_commit.rs"));
