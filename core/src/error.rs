//! The one error type.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc};

/// A result with Larder's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Arc<dyn StdError + Send + Sync + 'static>;

/// What went wrong, where, and why. Cloning is cheap (a reference count).
///
/// It never prints a key, a value, a password or a token: not in `Display`, not in `Debug`, not in
/// its source. `Display` prints adapter, operation and message; the [source](StdError::source) is
/// kept beside it, for error reporters that print the chain. An error about one entry may name it by
/// the [fingerprint](crate::Key::fingerprint) of its key.
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

/// Declares an enum whose variants have names.
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
            /// The name, as errors and traces show it.
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
    /// What kind of thing went wrong. Programs decide by it.
    pub enum ErrorKind {
        /// The store cannot be reached, is starting, stopping or too busy. Trying again may work; a
        /// write that failed so may or may not have happened.
        Unavailable = "unavailable",
        /// The store did not answer in time. Trying again may work; a write that failed this way may or may
        /// not have happened.
        Timeout = "timeout",
        /// The condition of a change did not hold. Read again, then decide.
        Conflict = "conflict",
        /// The text cannot be a key, or the layout in use cannot store this key.
        InvalidKey = "invalid key",
        /// The store's form for values (JSON, say) cannot hold this value.
        InvalidValue = "invalid value",
        /// The value is larger than the store takes.
        TooLarge = "too large",
        /// The store has no room: its disk, its memory or its bound is exhausted.
        StorageFull = "storage full",
        /// What is stored is damaged or was not written by this adapter.
        Corrupt = "corrupt",
        /// A value could not be encoded, or the stored bytes do not decode as the type asked for.
        Codec = "codec",
        /// What is stored was written by a newer version of the program, and stays as it is: let that
        /// version run.
        VersionTooNew = "version too new",
        /// This adapter, in this layout, does not do that.
        Unsupported = "unsupported",
        /// A URL, an option, a table's shape or the like is wrong and must be put right first.
        InvalidConfig = "invalid configuration",
        /// The store refused: wrong password, missing permission.
        PermissionDenied = "permission denied",
        /// The storage has been closed.
        Closed = "closed",
        /// Anything else; the message and the source say what.
        Other = "other",
    }
}

/// Whether a change that failed has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing was changed, and nothing will be: the request was refused or never sent.
    NotApplied,
    /// The change may have happened, or may still happen: the answer was lost.
    Unknown,
}

named! {
    /// The operation that failed.
    #[allow(missing_docs)] // Each is the method of that name.
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
    /// An error of `kind`; the message says what is wrong and what to do about it, and contains no
    /// key, value or secret.
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

    /// The adapter does not support the operation.
    #[must_use]
    pub fn unsupported() -> Self {
        Self::new(ErrorKind::Unsupported, "this storage does not support it")
    }

    /// The condition of a change did not hold.
    #[must_use]
    pub fn conflict() -> Self {
        Self::new(ErrorKind::Conflict, "the entry is not in the state that the condition asks for")
    }

    /// The storage has been closed.
    #[must_use]
    pub fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the storage has been closed; open it again to use it").not_applied()
    }

    /// Names the adapter, unless one is named already. [`Store`](crate::Store) does this for every
    /// adapter.
    #[must_use]
    pub fn with_adapter(mut self, adapter: &'static str) -> Self {
        self.inner().adapter.get_or_insert(adapter);
        self
    }

    /// Names the operation, unless one is named already. [`Store`](crate::Store) does this for every
    /// adapter.
    #[must_use]
    pub fn with_operation(mut self, operation: Operation) -> Self {
        self.inner().operation.get_or_insert(operation);
        self
    }

    /// Keeps the name that an entry has in the store and that is not a [`Key`](crate::Key), for a program that may
    /// show it to its user, as the command `larder` does. Neither `Display` nor `Debug` prints it.
    #[must_use]
    pub fn with_stored_name(mut self, name: impl AsRef<[u8]>) -> Self {
        self.inner().stored_name.get_or_insert_with(|| name.as_ref().into());
        self
    }

    /// Keeps the error underneath. The caller makes sure that it prints no key, value or secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync + 'static>>) -> Self {
        self.inner().source = Some(Arc::from(source.into()));
        self
    }

    /// The error of what was not sent yet when this one came: the same, marked as
    /// [not applied](Self::not_applied), if the store [is gone](Self::is_gone). Otherwise `None`: send it.
    #[must_use]
    pub fn unsent(&self) -> Option<Self> {
        self.is_gone().then(|| self.clone().not_applied())
    }

    /// The same error with `context` before its message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        let message = format!("{context}: {}", self.0.message);
        self.inner().message = message.into();
        self
    }

    /// States that the change has not happened and will not happen. An adapter calls this only where it
    /// can prove it: the store has refused the change, or the request was never sent.
    #[must_use]
    pub fn not_applied(mut self) -> Self {
        self.inner().outcome = Outcome::NotApplied;
        self
    }

    /// Takes back [`not_applied`](Self::not_applied): a part of the operation was done, or may have been.
    #[must_use]
    pub fn partly_applied(mut self) -> Self {
        self.inner().outcome = Outcome::Unknown;
        self
    }

    /// Whether the store cannot be reached, so that whatever is sent next would fail in the same way.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Closed)
    }

    /// Names the entry by the fingerprint of its key, unless one is named already.
    pub(crate) fn with_fingerprint(mut self, fingerprint: impl FnOnce() -> String) -> Self {
        self.inner().fingerprint.get_or_insert_with(fingerprint);
        self
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// What kind of thing went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the change that failed has happened.
    ///
    /// Unknown, unless the adapter has proved that it has not. [`Conflict`](ErrorKind::Conflict),
    /// [`InvalidKey`](ErrorKind::InvalidKey), [`InvalidValue`](ErrorKind::InvalidValue),
    /// [`TooLarge`](ErrorKind::TooLarge), [`Codec`](ErrorKind::Codec) and
    /// [`Unsupported`](ErrorKind::Unsupported) are refusals: nothing was changed.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// The adapter that failed, if it was one.
    #[must_use]
    pub fn adapter(&self) -> Option<&'static str> {
        self.0.adapter
    }

    /// The operation that failed, if it was one.
    #[must_use]
    pub fn operation(&self) -> Option<Operation> {
        self.0.operation
    }

    /// The [fingerprint](crate::Key::fingerprint) of the key of the entry that the error is about, if it names
    /// one.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&str> {
        self.0.fingerprint.as_deref()
    }

    /// The name that the entry has in the store, if it is not a [`Key`](crate::Key) and the error keeps it. It may be
    /// a secret: do not log it.
    #[must_use]
    pub fn stored_name(&self) -> Option<&[u8]> {
        self.0.stored_name.as_deref()
    }

    /// What is wrong and what to do, without adapter, operation and fingerprint.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the same call may work later with nothing changed. A conflict is not retryable in
    /// this sense: it asks for a new read first.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unavailable | ErrorKind::Timeout)
    }

    /// Whether this error in a [listing](crate::Store::keys) concerns one entry only, so that the
    /// listing goes on after it: its key or its value cannot be read. Any other error ends a listing.
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
            // A driver's Debug may print whole requests, values included; its Display does not.
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
    fn the_first_name_stays() {
        let error = Error::new(ErrorKind::Other, "it broke")
            .with_adapter("file")
            .with_adapter("coalesce")
            .with_operation(Operation::Write)
            .with_operation(Operation::Read);
        assert_eq!(error.to_string(), "file: write: it broke");
    }

    #[test]
    fn error_about_an_entry_prints_the_fingerprint_and_not_the_key() {
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
    fn rest_is_not_sent_to_a_store_that_is_gone() {
        let unsent = Error::new(ErrorKind::Timeout, "too slow").unsent().unwrap();
        assert_eq!((unsent.kind(), unsent.outcome()), (ErrorKind::Timeout, Outcome::NotApplied));
        assert!(Error::conflict().unsent().is_none());
    }

    #[test]
    fn context_changes_the_message_alone() {
        let error = Error::new(ErrorKind::Timeout, "too slow").not_applied().with_adapter("file");
        let error = error.context("fragment `chat`");
        assert_eq!(error.to_string(), "file: fragment `chat`: too slow");
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied));
    }

    #[test]
    fn stored_name_is_kept_and_never_printed() {
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
    fn outcome_is_unknown_unless_it_is_proved() {
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
