//! The features of an adapter.

/// An adapter's name and its native features. The conformance suite tests every claim.
///
/// Start from [`Info::minimal`] (the three required methods) and add the features of the store:
///
/// ```
/// use larder_core::{Info, Versions};
///
/// const INFO: Info = Info::minimal("example")
///     .with_expiry()
///     .with_versions(Versions::Unique)
///     .with_listing();
/// assert!(INFO.expiry && !INFO.shared);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct Info {
    /// The adapter's short name, for errors and traces, such as `postgres`.
    pub name: &'static str,
    /// Whether entries can expire. Then writes with an [`Expiry::After`](crate::Expiry::After), touches and
    /// remaining times are supported. If `false`, [`Store`](crate::Store) rejects them as unsupported.
    pub expiry: bool,
    /// The versions of entries. Every [condition](crate::Condition) except [`Any`](crate::Condition::Any)
    /// needs versions.
    pub versions: Versions,
    /// Whether [`list`](crate::Storage::list) and [`clear`](crate::Storage::clear) are supported.
    pub listing: bool,
    /// Whether a listing without concurrent writes returns each key exactly once. If `false`, keys may repeat
    /// (but are never missed); deduplicate if you need a set.
    pub lists_once: bool,
    /// Whether listings are in the order of the keys' bytes and can
    /// [start after](crate::ListOptions::start_after) a key.
    pub ordered: bool,
    /// Whether entries outlive the process.
    pub persistent: bool,
    /// Whether several processes can use the same store at the same time, also with conditions.
    pub shared: bool,
    /// Whether changes are fenced. A fenced change that failed or was dropped never takes effect after a later
    /// change of the same key through the same storage was acknowledged, even if its bytes reach the store
    /// late. Before the adapter sends another change of that key, it makes sure that the store has closed the
    /// connection of the first one. Until then, other changes of the key wait. If they wait too long, they
    /// fail as not applied.
    ///
    /// If `false`, the adapter's documentation describes the period in which a change that timed out can
    /// overwrite a newer one.
    pub fenced: bool,
    /// How expired entries are removed. They are never returned, even before they are removed.
    pub purge: Purge,
    /// The accepted values, and how exactly they are returned.
    pub values: Values,
    /// Whether every [`Key`](crate::Key) can be stored. If `false`, the layout rejects some keys with
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey).
    pub any_key: bool,
    /// The maximum size of a value, in bytes. [`Store`](crate::Store) rejects a larger value as
    /// [`TooLarge`](crate::ErrorKind::TooLarge). `None`: the adapter sets no limit.
    pub max_value: Option<u64>,
}

/// The versions of an adapter's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Versions {
    /// Entries have no versions: every [condition](crate::Condition) except `Any` is unsupported.
    None,
    /// Every write creates a new version. A value that changes and changes back has a different version.
    Unique,
    /// The version is the content. A value that changes and changes back looks unchanged, and
    /// overwriting a value with an equal one keeps the version.
    Content,
}

/// How expired entries are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purge {
    /// The store removes them. [`purge_expired`](crate::Storage::purge_expired) does nothing.
    Store,
    /// [`purge_expired`](crate::Storage::purge_expired) removes them and returns their number. The adapter's
    /// sweeper calls it, and callers may call it too.
    Sweep,
}

/// The values that an adapter accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Values {
    /// Any bytes. A read returns exactly the written bytes.
    Bytes,
    /// JSON only. A read returns the written text; only white space between its tokens may differ.
    JsonText,
    /// JSON only. A read returns an equal JSON value; white space, the order of an object's
    /// members and the notation of numbers may differ.
    Json,
}

impl Info {
    /// Creates the info of an adapter with the three required methods only.
    pub const fn minimal(name: &'static str) -> Self {
        Self {
            name,
            expiry: false,
            versions: Versions::None,
            listing: false,
            lists_once: true,
            ordered: false,
            persistent: false,
            shared: false,
            fenced: false,
            purge: Purge::Store,
            values: Values::Bytes,
            any_key: true,
            max_value: None,
        }
    }

    /// Claims expiry and touches.
    pub const fn with_expiry(mut self) -> Self {
        self.expiry = true;
        self
    }

    /// Claims compare-and-swap with these versions.
    pub const fn with_versions(mut self, versions: Versions) -> Self {
        self.versions = versions;
        self
    }

    /// Claims listings.
    pub const fn with_listing(mut self) -> Self {
        self.listing = true;
        self
    }

    /// Claims listings in the order of the keys' bytes.
    pub const fn with_ordered_listing(mut self) -> Self {
        self.listing = true;
        self.ordered = true;
        self
    }

    /// Claims listings that may return a key more than once.
    pub const fn with_repeating_listing(mut self) -> Self {
        self.listing = true;
        self.lists_once = false;
        self
    }

    /// Claims that entries outlive the process.
    pub const fn with_persistence(mut self) -> Self {
        self.persistent = true;
        self
    }

    /// Claims that several processes can share the store.
    pub const fn with_sharing(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Claims that a change that timed out never overwrites a later one; see [`fenced`](Self::fenced).
    pub const fn with_fencing(mut self) -> Self {
        self.fenced = true;
        self
    }

    /// Sets how expired entries are removed. Default: [`Purge::Store`].
    pub const fn with_purge(mut self, purge: Purge) -> Self {
        self.purge = purge;
        self
    }

    /// Sets the accepted values. Default: [`Values::Bytes`].
    pub const fn with_values(mut self, values: Values) -> Self {
        self.values = values;
        self
    }

    /// Declares that the layout rejects some keys.
    pub const fn with_restricted_keys(mut self) -> Self {
        self.any_key = false;
        self
    }

    /// Sets the maximum size of a value, in bytes. Default: no limit.
    pub const fn with_max_value(mut self, bytes: u64) -> Self {
        self.max_value = Some(bytes);
        self
    }

    /// Returns whether conditions other than [`Any`](crate::Condition::Any) are supported.
    #[must_use]
    pub const fn conditions(&self) -> bool {
        !matches!(self.versions, Versions::None)
    }
}
