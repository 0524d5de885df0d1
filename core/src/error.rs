//! The error type of all crates.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc};

/// A result with Larder's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Arc<dyn StdError + Send + Sync + 'static>;

/// The error of every operation. Cloning is cheap (a reference count).
///
/// `Display`, `Debug` and the source never print a key, a value, a password or a token. `Display` prints the
/// adapter, the operation and the message. It does not print the [source](StdError::source), because error
/// reporters print the chain of sources. An error about one entry may contain the
/// [fingerprint](crate::Key::fingerprint) of its key.
///
/// ```
/// use larder_core::{Error, ErrorKind, Operation};
///
/// let error = Error::new(ErrorKind::Unavailable, "the server closed the connection")
///     .with_adapter("redis")
///     .with_operation(Operation::Read);
/// assert_eq!(error.to_string(), "redis: read: the server closed the connection");
/// assert!(error.is_retryable());
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    outcome: Outcome,
    adapter: Option<&'static str>,
    operation: Option<Operation>,
    fingerprint: Option<String>,
    stored_name: Option<Box<[u8]>>,
    message: Cow<'static, str>,
    source: Option<Source>,
}

/// Declares an enum whose variants have display names.
macro_rules! named {
    (
        $(#[$outer:meta])*
        pub enum $enum:ident {
            $($(#[$inner:meta])* $variant:ident = $name:literal,)+
        }
    ) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $enum {
            $($(#[$inner])* $variant,)+
        }

        impl $enum {
            /// Returns the name for errors and traces.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        impl fmt::Display for $enum {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

named! {
    /// The kind of an error. Programs use it to choose their reaction.
    pub enum ErrorKind {
        /// The store is unreachable, starting, stopping or too busy. A retry may succeed. A failed write
        /// may or may not have happened.
        Unavailable = "unavailable",
        /// The store did not answer in time. A retry may succeed. A failed write may or may not have
        /// happened.
        Timeout = "timeout",
        /// The condition of a change did not hold. Read the entry again before a retry.
        Conflict = "conflict",
        /// The text is not a valid key, or the layout in use cannot store this key.
        InvalidKey = "invalid key",
        /// The store's value format (for example JSON) cannot represent this value.
        InvalidValue = "invalid value",
        /// The value is larger than the limit of the store.
        TooLarge = "too large",
        /// The store has no space left: its disk is full, or its memory or a configured limit is exhausted.
        StorageFull = "storage full",
        /// The stored value is damaged or was not written by this adapter.
        Corrupt = "corrupt",
        /// A value cannot be encoded, or the stored bytes cannot be decoded as the requested type.
        Codec = "codec",
        /// The stored value was written by a newer version of the program. It was left unchanged: run the newer
        /// version.
        VersionTooNew = "version too new",
        /// This adapter, in this layout, does not support the operation.
        Unsupported = "unsupported",
        /// A URL, an option or the schema of a table is wrong, for example. Correct it first.
        InvalidConfig = "invalid configuration",
        /// The store rejected the request: a wrong password or a missing permission.
        PermissionDenied = "permission denied",
        /// The storage is closed.
        Closed = "closed",
        /// Any other error. The message and the source describe it.
        Other = "other",
    }
}

/// Whether a failed change has been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The change was not applied and never will be: the request was rejected or never sent.
    NotApplied,
    /// The change may have been applied, or may be applied later: the answer was lost.
    Unknown,
}

named! {
    /// The operation that failed.
    #[allow(missing_docs)] // Each variant is the method of the same name.
    pub enum Operation {
        Connect = "connect",
        Setup = "set up",
        Read = "read",
        Write = "write",
        Delete = "delete",
        Touch = "touch",
        Apply = "apply",
        List = "list",
        ReadMany = "read many",
        Clear = "clear",
        PurgeExpired = "purge expired",
        Ping = "ping",
        Location = "location",
        Flush = "flush",
        Close = "close",
    }
}

impl Error {
    /// Creates an error. The message says what is wrong and what to do about it. It must not contain a
    /// key, a value or a secret.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let outcome = match kind {
            ErrorKind::Conflict
            | ErrorKind::InvalidKey
            | ErrorKind::InvalidValue
            | ErrorKind::TooLarge
            | ErrorKind::Codec
            | ErrorKind::Unsupported => Outcome::NotApplied,
            _ => Outcome::Unknown,
        };
        Self(Arc::new(Inner {
            kind,
            outcome,
            adapter: None,
            operation: None,
            fingerprint: None,
            stored_name: None,
            message: message.into(),
            source: None,
        }))
    }

    /// Creates the error of an operation that the adapter does not support.
    #[must_use]
    pub fn unsupported() -> Self {
        Self::new(ErrorKind::Unsupported, "this storage does not support the operation")
    }

    /// Creates the error of a change whose condition did not hold.
    #[must_use]
    pub fn conflict() -> Self {
        Self::new(ErrorKind::Conflict, "the condition of the change does not hold; read the entry again")
    }

    /// Creates the error of an operation on a closed storage.
    #[must_use]
    pub fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the storage is closed; open it again to use it").not_applied()
    }

    /// Adds the adapter's name, unless the error has one already. [`Store`](crate::Store) does this for every
    /// adapter.
    #[must_use]
    pub fn with_adapter(mut self, adapter: &'static str) -> Self {
        self.inner().adapter.get_or_insert(adapter);
        self
    }

    /// Adds the operation, unless the error has one already. [`Store`](crate::Store) does this for every
    /// adapter.
    #[must_use]
    pub fn with_operation(mut self, operation: Operation) -> Self {
        self.inner().operation.get_or_insert(operation);
        self
    }

    /// Adds the stored name of an entry whose name is not a valid [`Key`](crate::Key). A program may show it to
    /// its user, as the command `larder` does. `Display` and `Debug` do not print it.
    #[must_use]
    pub fn with_stored_name(mut self, name: impl AsRef<[u8]>) -> Self {
        self.inner().stored_name.get_or_insert_with(|| name.as_ref().into());
        self
    }

    /// Adds the error that caused this one. It must not print a key, a value or a secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync + 'static>>) -> Self {
        self.inner().source = Some(Arc::from(source.into()));
        self
    }

    /// Returns the error for the requests of a batch that were not sent before this error occurred. If the store
    /// [is gone](Self::is_gone), it is the same error, marked as [not applied](Self::not_applied). Otherwise
    /// returns `None`: send the requests.
    #[must_use]
    pub fn unsent(&self) -> Option<Self> {
        self.is_gone().then(|| self.clone().not_applied())
    }

    /// Adds `context` before the message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        let message = format!("{context}: {}", self.0.message);
        self.inner().message = message.into();
        self
    }

    /// Marks the error as [`NotApplied`](Outcome::NotApplied). An adapter calls this only with proof: the
    /// store has rejected the change, or the request was never sent.
    #[must_use]
    pub fn not_applied(mut self) -> Self {
        self.inner().outcome = Outcome::NotApplied;
        self
    }

    /// Reverts [`not_applied`](Self::not_applied): a part of the operation was applied, or may have been.
    #[must_use]
    pub fn partly_applied(mut self) -> Self {
        self.inner().outcome = Outcome::Unknown;
        self
    }

    /// Returns whether the store cannot be reached. The next request would fail in the same way.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Closed)
    }

    /// Adds the fingerprint of the entry's key, unless the error has one already.
    pub(crate) fn with_fingerprint(mut self, fingerprint: impl FnOnce() -> String) -> Self {
        self.inner().fingerprint.get_or_insert_with(fingerprint);
        self
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns whether the failed change has been applied.
    ///
    /// The default is [`Unknown`](Outcome::Unknown), unless the adapter has proof that the change was not applied.
    /// The following kinds are rejections, so nothing was changed: [`Conflict`](ErrorKind::Conflict),
    /// [`InvalidKey`](ErrorKind::InvalidKey), [`InvalidValue`](ErrorKind::InvalidValue),
    /// [`TooLarge`](ErrorKind::TooLarge), [`Codec`](ErrorKind::Codec) and
    /// [`Unsupported`](ErrorKind::Unsupported).
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// Returns the name of the adapter that failed, if the error has one.
    #[must_use]
    pub fn adapter(&self) -> Option<&'static str> {
        self.0.adapter
    }

    /// Returns the operation that failed, if the error has one.
    #[must_use]
    pub fn operation(&self) -> Option<Operation> {
        self.0.operation
    }

    /// Returns the [fingerprint](crate::Key::fingerprint) of the key of the failed entry, if the error has one.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&str> {
        self.0.fingerprint.as_deref()
    }

    /// Returns the stored name of an entry whose name is not a valid [`Key`](crate::Key), if the error contains
    /// it. It may be a secret: do not log it.
    #[must_use]
    pub fn stored_name(&self) -> Option<&[u8]> {
        self.0.stored_name.as_deref()
    }

    /// Returns the message: what is wrong and what to do, without adapter, operation and fingerprint.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns whether a retry of the same call may succeed later. A conflict is not retryable in
    /// this sense: it requires a new read first.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unavailable | ErrorKind::Timeout)
    }

    /// Returns whether this error in a [listing](crate::Store::keys) concerns only one entry, whose key or value
    /// cannot be read. The listing continues after it. Any other error ends a listing.
    #[must_use]
    pub fn concerns_one_entry(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Corrupt | ErrorKind::InvalidKey)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(adapter) = self.0.adapter {
            write!(f, "{adapter}: ")?;
        }
        if let Some(operation) = self.0.operation {
            write!(f, "{operation}: ")?;
        }
        f.write_str(&self.0.message)?;
        match &self.0.fingerprint {
            Some(fingerprint) => write!(f, " (key fingerprint {fingerprint})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("outcome", &self.0.outcome)
            .field("adapter", &self.0.adapter)
            .field("operation", &self.0.operation)
            .field("fingerprint", &self.0.fingerprint)
            .field("message", &self.0.message)
            // The Debug of a driver's error may print whole requests, including values; its Display does not.
            .field("source", &self.0.source.as_ref().map(ToString::to_string))
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;

    #[test]
    fn the_first_adapter_and_operation_are_kept() {
        let error = Error::new(ErrorKind::Other, "it broke")
            .with_adapter("file")
            .with_adapter("coalesce")
            .with_operation(Operation::Write)
            .with_operation(Operation::Read);
        assert_eq!(error.to_string(), "file: write: it broke");
    }

    #[test]
    fn an_error_about_an_entry_prints_the_fingerprint_and_not_the_key() {
        let key = Key::new("cookie:hunter2").unwrap();
        let error = Error::new(ErrorKind::Codec, "not valid JSON").with_key(&key);
        let fingerprint = key.fingerprint();
        assert_eq!(error.fingerprint(), Some(&*fingerprint));
        for error in [error.clone(), error] {
            assert_eq!(error.to_string(), format!("not valid JSON (key fingerprint {fingerprint})"));
            assert!(!format!("{error:?}").contains("hunter2"));
            assert!(format!("{error:?}").contains(&fingerprint));
        }
    }

    #[test]
    fn unsent_requests_are_not_applied_if_the_store_is_gone() {
        let unsent = Error::new(ErrorKind::Timeout, "too slow").unsent().unwrap();
        assert_eq!((unsent.kind(), unsent.outcome()), (ErrorKind::Timeout, Outcome::NotApplied));
        assert!(Error::conflict().unsent().is_none());
    }

    #[test]
    fn context_changes_only_the_message() {
        let error = Error::new(ErrorKind::Timeout, "too slow").not_applied().with_adapter("file");
        let error = error.context("fragment `chat`");
        assert_eq!(error.to_string(), "file: fragment `chat`: too slow");
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied));
    }

    #[test]
    fn a_stored_name_is_kept_and_never_printed() {
        let error = Error::new(ErrorKind::InvalidKey, "not a key").with_stored_name(b"hunter2\xff");
        for error in [error.clone(), error] {
            assert_eq!(error.stored_name(), Some(&b"hunter2\xff"[..]));
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_clone_keeps_the_source() {
        let error = Error::new(ErrorKind::StorageFull, "no room").with_source("disk quota exceeded");
        let clone = error.clone().with_adapter("file");
        assert_eq!(clone.source().unwrap().to_string(), "disk quota exceeded");
        assert_eq!(error.adapter(), None);
    }

    #[test]
    fn the_outcome_is_unknown_without_proof() {
        let outcome = |kind| Error::new(kind, "no").outcome();
        for kind in [ErrorKind::Unavailable, ErrorKind::StorageFull, ErrorKind::Corrupt, ErrorKind::Other] {
            assert_eq!(outcome(kind), Outcome::Unknown);
            assert_eq!(Error::new(kind, "no").not_applied().outcome(), Outcome::NotApplied);
        }
        for kind in [ErrorKind::Conflict, ErrorKind::InvalidKey, ErrorKind::TooLarge] {
            assert_eq!(outcome(kind), Outcome::NotApplied);
        }
        assert_eq!(Error::closed().outcome(), Outcome::NotApplied);
        assert_eq!(Error::conflict().partly_applied().outcome(), Outcome::Unknown);
    }
}
