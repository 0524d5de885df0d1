//! The runtime of the group commit. The simulation replaces this module by others.

pub(crate) use std::{
    hash::RandomState,
    sync::{Mutex, MutexGuard},
};

pub(crate) use tokio::{
    runtime::{Handle, Id},
    sync::oneshot,
    task::yield_now,
};
