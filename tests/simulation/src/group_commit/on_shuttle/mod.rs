//! The group commit on shuttle's primitives. At each use of one, another thread may continue.

pub(crate) mod runtime;

#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../../../../../kit/src/group_commit/mod.rs"]
mod group_commit;

crate::group_commit::builds!(group_commit);
