//! Where a law is tried.

use std::{
    collections::{BTreeSet, hash_map::RandomState},
    fmt,
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use larder_core::{Error, Key, Store};

use crate::{Factory, Handle, Line, Must, watch::Running};

/// How much a law does where more is better: racing tasks, keys in a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// As much as a store in the same process or a fast server does in a few seconds.
    #[default]
    Full,
    /// As much as a store that does some hundred writes a second gets through.
    Slow,
}

/// An empty space to try a law on, and how to open handles on it.
#[derive(Clone)]
pub struct Target {
    factory: Arc<dyn Factory>,
    space: String,
    scale: Scale,
    used: Arc<Mutex<Used>>,
}

/// What has to be closed and removed in the end, whichever clone of the target opened it.
#[derive(Default)]
struct Used {
    spaces: BTreeSet<String>,
    handles: Vec<Store>,
    /// Why the case has tried nothing.
    ignored: Option<String>,
    running: Running,
}

impl Target {
    /// A space with a name that nobody else has, in this run or another.
    #[must_use]
    pub fn new(factory: Arc<dyn Factory>) -> Self {
        let space = format!("t{:012x}", RandomState::new().hash_one(()) >> 16);
        Self { factory, space, scale: Scale::Full, used: Arc::default() }
    }

    /// The same with counts as `scale` says.
    #[must_use]
    pub fn with_scale(mut self, scale: Scale) -> Self {
        self.scale = scale;
        self
    }

    /// The space's name.
    #[must_use]
    pub fn space(&self) -> &str {
        &self.space
    }

    /// `full` or `slow`, as the suite's [`Scale`] says.
    #[must_use]
    pub fn count(&self, full: usize, slow: usize) -> usize {
        match self.scale {
            Scale::Full => full,
            Scale::Slow => slow,
        }
    }

    /// The space beside this one whose name goes on with `suffix` (at most 8 characters).
    #[must_use]
    pub fn beside(&self, suffix: &str) -> Self {
        Self { space: format!("{}{suffix}", self.space), ..self.clone() }
    }

    /// Opens a handle on the space. Each call gives another handle on the same data.
    ///
    /// # Panics
    ///
    /// If the factory cannot.
    pub async fn open(&self) -> Handle {
        // Noted first: a constructor that fails may already have made a table.
        self.used().spaces.insert(self.space.clone());
        let store = self.factory.open(&self.space).await.must("open the store");
        Handle::new(self.note(&store))
    }

    /// Opens another handle on the space, over a line that can be held up and cut; `None` if the
    /// factory has no such line.
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

    /// Damages the entry under `key`; `false` if the factory cannot.
    ///
    /// # Panics
    ///
    /// If the factory fails.
    pub async fn damage(&self, key: &Key) -> bool {
        self.factory.damage(&self.space, key).await.must("damage an entry")
    }

    /// Closes `handle` and all others on the target, and opens a new one.
    ///
    /// # Panics
    ///
    /// If closing or opening fails.
    pub async fn reopen(&self, handle: Handle) -> Handle {
        drop(handle);
        self.close().await.must("close the store");
        self.open().await
    }

    /// Closes every handle that was opened.
    ///
    /// # Errors
    ///
    /// The first that a handle gives.
    pub async fn close(&self) -> Result<(), Error> {
        let handles = std::mem::take(&mut self.used().handles);
        for handle in handles {
            handle.close().await?;
        }
        Ok(())
    }

    /// Closes every handle and removes every space that was opened.
    ///
    /// # Errors
    ///
    /// The first that a handle or the factory gives.
    pub async fn remove(&self) -> Result<(), Error> {
        self.close().await?;
        let spaces = std::mem::take(&mut self.used().spaces);
        for space in spaces {
            self.factory.remove(&space).await?;
        }
        Ok(())
    }

    /// Notes the store, to be closed in the end, and watches its operations.
    fn note(&self, store: &Store) -> Store {
        let mut used = self.used();
        let store = used.running.watch(store);
        used.handles.push(store.clone());
        store
    }

    /// The operations that are under way on the stores that were opened.
    pub(crate) fn running(&self) -> Option<String> {
        self.used().running.describe()
    }

    /// Has the case reported as ignored, for that reason, if it succeeds.
    pub(crate) fn ignore(&self, reason: impl Into<String>) {
        self.used().ignored.get_or_insert_with(|| reason.into());
    }

    /// Why the case has tried nothing, if so.
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
