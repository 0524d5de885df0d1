//! The callers that have not ended.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Counts a caller until it is dropped.
pub(crate) struct Living(Arc<AtomicUsize>);

impl Living {
    pub(crate) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
