//! Layers, which wrap a storage.

use std::sync::Arc;

use crate::Storage;

/// Wraps a storage, for instance to encrypt, measure or cache. [`Store::layer`](crate::Store::layer) applies
/// it.
///
/// The outer storage must forward every method, also those with a default, because the adapter may override
/// them. With `#[deny(clippy::missing_trait_methods)]` on the `impl`, Clippy names each missing method.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a layer",
    label = "expected a layer",
    note = "a layer implements `Layer`, or is a closure: `|inner: Arc<dyn Storage>| -> Arc<dyn Storage> {{ ... }}`"
)]
pub trait Layer {
    /// Wraps `inner`.
    fn layer(self, inner: Arc<dyn Storage>) -> Arc<dyn Storage>;
}

#[diagnostic::do_not_recommend]
impl<F: FnOnce(Arc<dyn Storage>) -> Arc<dyn Storage>> Layer for F {
    fn layer(self, inner: Arc<dyn Storage>) -> Arc<dyn Storage> {
        self(inner)
    }
}
