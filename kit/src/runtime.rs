//! The runtime that group commit runs on, in one place: the simulation puts others in its stead.

pub(crate) use std::{
    hash::RandomState,
    sync::{Mutex, MutexGuard},
};

pub(crate) use tokio::{
    runtime::{Handle, Id},
    sync::oneshot,
    task::yield_now,
};
