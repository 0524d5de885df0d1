//! The primitives of the group commit, from shuttle.

pub(crate) use shuttle::sync::{Mutex, MutexGuard};
pub(crate) use shuttle_tokio::{
    runtime::{Handle, Id},
    sync::oneshot,
    task::yield_now,
};

pub(crate) use crate::group_commit::on_tokio::runtime::RandomState;
