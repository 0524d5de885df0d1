//! The spaces on which laws are checked.

use std::{
    collections::{BTreeSet, hash_map::RandomState},
    fmt,
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use larder_core::{Error, Key, Store};

use crate::{Factory, Handle, Line, Must, watch::Running};

/// The counts that a law uses, such as the number of racing tasks or of keys in a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// For a store in the same process or a fast server: a law takes a few seconds.
    #[default]
    Full,
    /// For a store with a few hundred writes per second.
    Slow,
}

/// An empty space on which a law is checked. Opens handles on it.
#[derive(Clone)]
pub struct Target {
    factory: Arc<dyn Factory>,
    space: String,
    scale: Scale,
    used: Arc<Mutex<Used>>,
}

/// The spaces and handles to close and remove at the end, shared by all clones of the target.
#[derive(Default)]
struct Used {
    spaces: BTreeSet<String>,
    handles: Vec<Store>,
    /// The reason why the case has checked nothing.
    ignored: Option<String>,
    running: Running,
}

impl Target {
    /// Creates a target with a unique space name.
    #[must_use]
    pub fn new(factory: Arc<dyn Factory>) -> Self {
        let space = format!("t{:012x}", RandomState::new().hash_one(()) >> 16);
        Self { factory, space, scale: Scale::Full, used: Arc::default() }
    }

    /// Sets the scale of the counts.
    #[must_use]
    pub fn with_scale(mut self, scale: Scale) -> Self {
        self.scale = scale;
        self
    }

    /// Returns the name of the space.
    #[must_use]
    pub fn space(&self) -> &str {
        &self.space
    }

    /// Returns `full` or `slow`, depending on the suite's [`Scale`].
    #[must_use]
    pub fn count(&self, full: usize, slow: usize) -> usize {
        match self.scale {
            Scale::Full => full,
            Scale::Slow => slow,
        }
    }

    /// Returns another space, whose name is the name of this one followed by `suffix` (at most 8 characters).
    #[must_use]
    pub fn beside(&self, suffix: &str) -> Self {
        Self { space: format!("{}{suffix}", self.space), ..self.clone() }
    }

    /// Opens a handle on the space. Each call returns another handle on the same data.
    ///
    /// # Panics
    ///
    /// If the factory fails.
    pub async fn open(&self) -> Handle {
        // Inserted before the call: a constructor that fails may already have created a table.
        self.used().spaces.insert(self.space.clone());
        let store = self.factory.open(&self.space).await.must("open the store");
        Handle::new(self.note(&store))
    }

    /// Opens another handle on the space, over a line that can be held and cut. Returns `None` if the
    /// factory does not support lines.
    ///
    /// # Panics
    ///
    /// If the factory fails.
    pub async fn open_over_line(&self) -> Option<(Handle, Arc<dyn Line>)> {
        self.used().spaces.insert(self.space.clone());
        let opened = self.factory.open_over_line(&self.space).await;
        let (store, line) = opened.must("open the store over a line")?;
        Some((Handle::new(self.note(&store)), line))
    }

    /// Damages the entry under `key`. Returns `false` if the factory does not support damage.
    ///
    /// # Panics
    ///
    /// If the factory fails.
    pub async fn damage(&self, key: &Key) -> bool {
        self.factory.damage(&self.space, key).await.must("damage an entry")
    }

    /// Closes `handle` and all other handles on the target, and opens a new one.
    ///
    /// # Panics
    ///
    /// If closing or opening fails.
    pub async fn reopen(&self, handle: Handle) -> Handle {
        drop(handle);
        self.close().await.must("close the store");
        self.open().await
    }

    /// Closes all opened handles.
    ///
    /// # Errors
    ///
    /// The first error of a handle.
    pub async fn close(&self) -> Result<(), Error> {
        let handles = std::mem::take(&mut self.used().handles);
        for handle in handles {
            handle.close().await?;
        }
        Ok(())
    }

    /// Closes all opened handles and removes all opened spaces.
    ///
    /// # Errors
    ///
    /// The first error of a handle or of the factory.
    pub async fn remove(&self) -> Result<(), Error> {
        self.close().await?;
        let spaces = std::mem::take(&mut self.used().spaces);
        for space in spaces {
            self.factory.remove(&space).await?;
        }
        Ok(())
    }

    /// Registers the store, which is closed at the end, and watches its operations.
    fn note(&self, store: &Store) -> Store {
        let mut used = self.used();
        let store = used.running.watch(store);
        used.handles.push(store.clone());
        store
    }

    /// Describes the running operations of the opened stores.
    pub(crate) fn running(&self) -> Option<String> {
        self.used().running.describe()
    }

    /// Reports the case as ignored with this reason, if it succeeds.
    pub(crate) fn ignore(&self, reason: impl Into<String>) {
        self.used().ignored.get_or_insert_with(|| reason.into());
    }

    /// Returns the reason why the case has checked nothing, if it has not.
    pub(crate) fn ignored(&self) -> Option<String> {
        self.used().ignored.clone()
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("space", &self.space)
            .field("scale", &self.scale)
            .finish_non_exhaustive()
    }
}
