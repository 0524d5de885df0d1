//! Factories, which open stores for the suite.

use std::{collections::HashMap, future::Future, ops::Deref, sync::Arc};

use larder_core::{Error, ErrorKind, Key, Store, async_trait};
use tokio::sync::Mutex;

use crate::Line;

/// Opens handles on a store, for the suite.
///
/// The suite gives every case its own space, so cases can run concurrently on one server. The factory defines the
/// meaning of a space: a table, a key prefix, a directory, a database.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not open stores for the suite",
    label = "does not implement `Factory`",
    note = "implement `larder_testkit::Factory` with `#[async_trait]`; `open` is the only method that is required"
)]
#[async_trait]
pub trait Factory: Send + Sync + 'static {
    /// Opens a handle on a space. The name has 1 to 24 characters of `a-z`, `0-9` and `-`. The space is
    /// empty when it is opened for the first time.
    ///
    /// Opening the same name again returns a second handle on the same data, with another connection or
    /// pool if the store has connections. After all handles were closed, it returns a new handle.
    /// If the storage is persistent, the data must still exist.
    ///
    /// # Errors
    ///
    /// The errors of the adapter; the case fails with them.
    async fn open(&self, space: &str) -> Result<Store, Error>;

    /// Opens another handle on the space. All its connections go over a line that the law can hold
    /// and cut, such as a [`Proxy`](crate::Proxy). Each call creates a new line. The timeouts of the handle
    /// should be short, such as half a second, because laws wait for them.
    ///
    /// Every adapter of a server should implement this method: the laws about lost changes need it. A
    /// storage that claims [`fenced`](larder_core::Info::fenced) must implement it. The default returns `None`.
    ///
    /// # Errors
    ///
    /// As [`open`](Factory::open).
    async fn open_over_line(&self, space: &str) -> Result<Option<(Store, Arc<dyn Line>)>, Error> {
        let _ = space;
        Ok(None)
    }

    /// Damages the entry under `key` without using the adapter. A read of it must then fail with
    /// [`Corrupt`](larder_core::ErrorKind::Corrupt). For example, truncates a file, or writes data that the adapter
    /// never writes. Returns whether the entry was damaged.
    ///
    /// The default returns `false`, and the laws about damage are skipped.
    ///
    /// # Errors
    ///
    /// Any error; the case fails with it.
    async fn damage(&self, space: &str, key: &Key) -> Result<bool, Error> {
        let _ = (space, key);
        Ok(false)
    }

    /// Returns the reason why the law (or case) `law` cannot hold on this server, although the adapter is correct:
    /// for example, the server is not the original product. The law is then reported as ignored, with the reason.
    ///
    /// The default returns `None`: all laws must hold.
    fn excuse(&self, law: &str) -> Option<String> {
        let _ = law;
        None
    }

    /// Removes the space after a case has succeeded. All handles on it are closed before.
    ///
    /// The default opens the space again, clears it if the storage supports listings, and closes it. Override
    /// this method to drop the table or remove the directory.
    ///
    /// # Errors
    ///
    /// Any error; the case fails with it.
    async fn remove(&self, space: &str) -> Result<(), Error> {
        let store = self.open(space).await?;
        if store.info().listing {
            store.clear("").await?;
        }
        store.close().await
    }
}

#[async_trait]
impl<F: Factory + ?Sized> Factory for Arc<F> {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        (**self).open(space).await
    }

    async fn open_over_line(&self, space: &str) -> Result<Option<(Store, Arc<dyn Line>)>, Error> {
        (**self).open_over_line(space).await
    }

    async fn damage(&self, space: &str, key: &Key) -> Result<bool, Error> {
        (**self).damage(space, key).await
    }

    fn excuse(&self, law: &str) -> Option<String> {
        (**self).excuse(law)
    }

    async fn remove(&self, space: &str) -> Result<(), Error> {
        (**self).remove(space).await
    }
}

/// Creates a [`Factory`] from a closure that opens a space.
///
/// ```
/// use larder_core::Store;
/// # use larder_memory::MemoryStorage;
///
/// let factory = larder_testkit::factory(|space: String| async move {
///     // Connect, with `space` as the table, the prefix, the directory ...
/// #   let _ = space;
///     Ok(Store::from(MemoryStorage::new()))
/// });
/// # let _: &dyn larder_testkit::Factory = &factory;
/// ```
pub fn factory<O, F>(open: O) -> impl Factory
where
    O: Fn(String) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Store, Error>> + Send + 'static,
{
    Opener(open)
}

struct Opener<O>(O);

#[async_trait]
impl<O, F> Factory for Opener<O>
where
    O: Fn(String) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Store, Error>> + Send + 'static,
{
    async fn open(&self, space: &str) -> Result<Store, Error> {
        (self.0)(space.to_owned()).await
    }
}

/// A [`Factory`] for a store that can be open only once at a time: a file with one opener, or the memory of this
/// process.
///
/// It opens a space with the wrapped factory, and returns clones of that [`Store`] until one of
/// them is closed. Then it opens the space again.
///
/// ```
/// use larder_core::Store;
/// use larder_testkit::{SingleOpener, factory};
/// # use larder_memory::MemoryStorage;
///
/// let factory = SingleOpener::new(factory(|space: String| async move {
///     // Open the file, with `space` in its name ...
/// #   let _ = space;
///     Ok(Store::from(MemoryStorage::new()))
/// }));
/// # let _: &dyn larder_testkit::Factory = &factory;
/// ```
#[derive(Debug)]
pub struct SingleOpener<F> {
    factory: F,
    open: Mutex<HashMap<String, Store>>,
}

impl<F: Factory> SingleOpener<F> {
    /// Wraps `factory`. Each space is open only once at a time.
    #[must_use]
    pub fn new(factory: F) -> Self {
        Self { factory, open: Mutex::default() }
    }
}

/// Dereferences to the wrapped factory.
impl<F> Deref for SingleOpener<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.factory
    }
}

#[async_trait]
impl<F: Factory> Factory for SingleOpener<F> {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        let mut open = self.open.lock().await;
        if let Some(store) = open.get(space) {
            match store.ping().await {
                Err(error) if error.kind() == ErrorKind::Closed => {}
                _ => return Ok(store.clone()),
            }
        }
        let store = self.factory.open(space).await?;
        open.insert(space.to_owned(), store.clone());
        Ok(store)
    }

    async fn open_over_line(&self, space: &str) -> Result<Option<(Store, Arc<dyn Line>)>, Error> {
        self.factory.open_over_line(space).await
    }

    async fn damage(&self, space: &str, key: &Key) -> Result<bool, Error> {
        self.factory.damage(space, key).await
    }

    async fn remove(&self, space: &str) -> Result<(), Error> {
        self.open.lock().await.remove(space);
        self.factory.remove(space).await
    }
}
