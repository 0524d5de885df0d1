//! Storages that wrap a storage.

use std::sync::Arc;

use crate::Storage;

/// Wraps a storage, for instance to encrypt, measure or cache. Applied by
/// [`Store::layer`](crate::Store::layer).
///
/// A storage that wraps a storage forwards every method, also those with a default: the adapter may do
/// it natively. `#[deny(clippy::missing_trait_methods)]` on the `impl` makes the compiler name a method
/// that was forgotten.
pub trait Layer {
    /// Wraps `inner`.
    fn layer(self, inner: Arc<dyn Storage>) -> Arc<dyn Storage>;
}

impl<F: FnOnce(Arc<dyn Storage>) -> Arc<dyn Storage>> Layer for F {
    fn layer(self, inner: Arc<dyn Storage>) -> Arc<dyn Storage> {
        self(inner)
    }
}
