//! What an adapter really does.

/// An adapter's name, and what it does natively. The conformance suite tests every claim.
///
/// Start from [`Info::minimal`] (three methods, nothing more) and add what the store offers:
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
    /// Entries can expire: writes with an [`Expiry::After`](crate::Expiry::After), touches and the
    /// remaining time work. If `false`, [`Store`](crate::Store) refuses them as unsupported.
    pub expiry: bool,
    /// Whether entries have versions, and what they are made of. Every
    /// [condition](crate::Condition) but [`Any`](crate::Condition::Any) needs them.
    pub versions: Versions,
    /// [`list`](crate::Storage::list) and [`clear`](crate::Storage::clear) work.
    pub listing: bool,
    /// Without concurrent writes, a listing returns each key exactly once. If `false`, keys may repeat
    /// (but are never missed); deduplicate if you need a set.
    pub lists_once: bool,
    /// Listings are in the order of the keys' bytes and can
    /// [start after](crate::ListOptions::start_after) a key.
    pub ordered: bool,
    /// Entries outlive the process.
    pub persistent: bool,
    /// Several processes can use the same store at the same time, conditions included.
    pub shared: bool,
    /// A change that failed or was dropped never takes effect after a later change of the same key
    /// through the same storage has been acknowledged, however late its bytes reach the store. The
    /// adapter makes sure that the store has closed the connection that the change was sent on before
    /// it sends another change of that key. Until then other changes wait, and fail as not applied if
    /// the wait is too long.
    ///
    /// If `false`, the adapter's documentation names the window in which a change that timed out can
    /// overwrite a newer one.
    pub fenced: bool,
    /// Who removes expired entries. They are never returned either way.
    pub purge: Purge,
    /// Which values are accepted, and how faithfully they come back.
    pub values: Values,
    /// Every [`Key`](crate::Key) can be stored. If `false`, the layout refuses some keys with
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey).
    pub any_key: bool,
    /// The largest value, in bytes. [`Store`](crate::Store) refuses a larger one as
    /// [`TooLarge`](crate::ErrorKind::TooLarge). `None`: the adapter has no limit of its own.
    pub max_value: Option<u64>,
}

/// What an adapter's versions are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Versions {
    /// Entries have no versions: every [condition](crate::Condition) but `Any` is unsupported.
    None,
    /// Every write draws a new one: a value that changes and changes back is noticed.
    Unique,
    /// The version is the content: a value that changes and changes back looks unchanged, and
    /// overwriting a value with itself keeps the version.
    Content,
}

/// Who removes expired entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purge {
    /// The store; [`purge_expired`](crate::Storage::purge_expired) finds nothing to do.
    Store,
    /// [`purge_expired`](crate::Storage::purge_expired), called by the adapter's own sweeper or by
    /// whoever likes; it returns how many it removed.
    Sweep,
}

/// Which values an adapter accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Values {
    /// Any bytes; what is read is what was written.
    Bytes,
    /// JSON only, handed back as it was written except for white space between its tokens.
    JsonText,
    /// JSON only, handed back as an equal JSON value: white space, the order of an object's
    /// members and the spelling of numbers may differ.
    Json,
}

impl Info {
    /// Three methods and nothing more: what the trait's defaults give.
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

    /// With expiry and touches.
    pub const fn with_expiry(mut self) -> Self {
        self.expiry = true;
        self
    }

    /// With compare-and-swap on versions made like this.
    pub const fn with_versions(mut self, versions: Versions) -> Self {
        self.versions = versions;
        self
    }

    /// With listings.
    pub const fn with_listing(mut self) -> Self {
        self.listing = true;
        self
    }

    /// With listings in the order of the keys' bytes.
    pub const fn with_ordered_listing(mut self) -> Self {
        self.listing = true;
        self.ordered = true;
        self
    }

    /// Listings may return a key twice.
    pub const fn with_repeating_listing(mut self) -> Self {
        self.listing = true;
        self.lists_once = false;
        self
    }

    /// Entries outlive the process.
    pub const fn with_persistence(mut self) -> Self {
        self.persistent = true;
        self
    }

    /// Several processes can share the store.
    pub const fn with_sharing(mut self) -> Self {
        self.shared = true;
        self
    }

    /// A change that timed out never overwrites a later one; see [`fenced`](Self::fenced).
    pub const fn with_fencing(mut self) -> Self {
        self.fenced = true;
        self
    }

    /// Who removes expired entries.
    pub const fn with_purge(mut self, purge: Purge) -> Self {
        self.purge = purge;
        self
    }

    /// Which values are accepted.
    pub const fn with_values(mut self, values: Values) -> Self {
        self.values = values;
        self
    }

    /// Some keys are refused.
    pub const fn with_restricted_keys(mut self) -> Self {
        self.any_key = false;
        self
    }

    /// The largest value, in bytes.
    pub const fn with_max_value(mut self, bytes: u64) -> Self {
        self.max_value = Some(bytes);
        self
    }

    /// Whether conditions other than [`Any`](crate::Condition::Any) work.
    #[must_use]
    pub const fn conditions(&self) -> bool {
        !matches!(self.versions, Versions::None)
    }
}
