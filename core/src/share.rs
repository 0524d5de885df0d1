//! A storage behind one shared pointer.

use std::{any::Any, sync::Arc};

use crate::Storage;

/// `storage` behind one shared pointer, also where it is an `Arc<dyn Storage>` or a `Box<dyn Storage>`
/// already: wrapped once more, each of its operations would allocate a second future.
///
/// For what is built on a storage and takes an `impl Storage`.
pub fn share<S: Storage + 'static>(storage: S) -> Arc<dyn Storage> {
    let mut storage = Some(storage);
    let any: &mut dyn Any = &mut storage;
    if let Some(shared) = any.downcast_mut::<Option<Arc<dyn Storage>>>().and_then(Option::take) {
        return shared;
    }
    let any: &mut dyn Any = &mut storage;
    if let Some(boxed) = any.downcast_mut::<Option<Box<dyn Storage>>>().and_then(Option::take) {
        return Arc::from(boxed);
    }
    // Neither has taken it.
    storage.map_or_else(|| unreachable!("the storage is still there"), |storage| Arc::new(storage))
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use bytes::Bytes;

    use super::*;
    use crate::{Expiry, Key, Record, Result};

    #[derive(Debug)]
    struct Nothing;

    #[async_trait]
    impl Storage for Nothing {
        async fn read(&self, _key: &Key) -> Result<Option<Record>> {
            Ok(None)
        }

        async fn write(&self, _key: &Key, _value: Bytes, _expiry: Expiry) -> Result<()> {
            Ok(())
        }

        async fn delete(&self, _key: &Key) -> Result<bool> {
            Ok(false)
        }

        fn name(&self) -> &'static str {
            "nothing"
        }
    }

    #[test]
    fn what_is_shared_already_is_not_wrapped_again() {
        let shared: Arc<dyn Storage> = Arc::new(Nothing);
        assert!(Arc::ptr_eq(&share(Arc::clone(&shared)), &shared));
        // A pointer within the pointer would have a size.
        let boxed: Box<dyn Storage> = Box::new(Nothing);
        assert_eq!(size_of_val(&*share(boxed)), 0);
        assert_eq!(share(Nothing).name(), "nothing");
    }
}
