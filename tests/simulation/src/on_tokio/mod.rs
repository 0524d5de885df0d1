//! The group commit as it is in production, except that its lanes are drawn alike in every run.

pub(crate) mod runtime;

#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../../../../kit/src/group_commit/mod.rs"]
mod group_commit;

crate::builds!(group_commit);
