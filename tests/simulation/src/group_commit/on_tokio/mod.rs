//! The group commit as in production, except that each key has the same lane in every run.

pub(crate) mod runtime;

#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../../../../../kit/src/group_commit/mod.rs"]
mod group_commit;

crate::group_commit::builds!(group_commit);
