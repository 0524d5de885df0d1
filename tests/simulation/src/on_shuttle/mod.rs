//! The group commit on shuttle's primitives: each use of one is a point at which another thread may go on.

pub(crate) mod runtime;

#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../../../../kit/src/group_commit/mod.rs"]
mod group_commit;

crate::builds!(group_commit);
