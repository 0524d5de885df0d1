//! What an adapter hands to the suite.

use std::{collections::HashMap, future::Future, ops::Deref, sync::Arc};

use larder_core::{Error, ErrorKind, Key, Store, async_trait};
use tokio::sync::Mutex;

use crate::Line;

/// Opens handles on a store, for the suite.
///
/// The suite gives every case a space of its own, so that cases can run side by side on one server.
/// What a space is, the factory decides: a table, a key prefix, a directory, a database.
#[async_trait]
pub trait Factory: Send + Sync + 'static {
    /// A handle on the space of that name (1 to 24 characters of `a-z`, `0-9` and `-`), which is
    /// empty when it is opened for the first time.
    ///
    /// Opening the same name again gives a second handle on the same data: another connection or
    /// pool where the store has such. Once all handles have been closed, it gives a fresh handle,
    /// with the data still there if the storage is persistent.
    ///
    /// # Errors
    ///
    /// Whatever the adapter's constructor says; the case fails with it.
    async fn open(&self, space: &str) -> Result<Store, Error>;

    /// Another handle on that space, whose connections all go over a line that the law can hold up
    /// and cut, such as a [`Proxy`](crate::Proxy); each call makes a line of its own. Every adapter of a
    /// server should have it: the laws about changes that get lost need it. A storage that claims [`fenced`](larder_core::Info::fenced) has to have it. Its time-outs should be
    /// short, such as half a second: a law waits for them.
    ///
    /// By default there is none.
    ///
    /// # Errors
    ///
    /// As [`open`](Factory::open).
    async fn open_over_line(&self, space: &str) -> Result<Option<(Store, Arc<dyn Line>)>, Error> {
        let _ = space;
        Ok(None)
    }

    /// Damages the entry under `key`, past the adapter, so that a read of it is a
    /// [`Corrupt`](larder_core::ErrorKind::Corrupt) error: cuts off a file, or writes what the adapter
    /// never writes. Returns whether it did.
    ///
    /// By default it does not, and the laws about damage are skipped.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong; the case fails with it.
    async fn damage(&self, space: &str, key: &Key) -> Result<bool, Error> {
        let _ = (space, key);
        Ok(false)
    }

    /// Why the law (or case) of that name cannot hold on this server, if it is not the adapter's fault: the
    /// server is not the real one. The law is then reported as ignored, for that reason.
    ///
    /// By default all laws have to hold.
    fn excuse(&self, law: &str) -> Option<String> {
        let _ = law;
        None
    }

    /// Removes the space after a case that succeeded. All handles on it are closed by then.
    ///
    /// By default it is opened once more, cleared where the storage can list, and closed. Override
    /// it to drop the table or remove the directory.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong; the case fails with it.
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

/// A [`Factory`] from a closure that opens.
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

/// A [`Factory`] for a store that can be open only once at a time: a file with one opener, or this
/// process's memory.
///
/// It opens a space with the factory that it wraps, and gives out clones of that [`Store`] until one of
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
    /// Opens spaces with `factory`, each once at a time.
    #[must_use]
    pub fn new(factory: F) -> Self {
        Self { factory, open: Mutex::default() }
    }
}

/// The factory that opens.
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
