//! The one error type.

use std::{borrow::Cow, error::Error as StdError, fmt};

use crate::Key;

/// A result with Larder's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What went wrong, where, and why.
///
/// It never prints a key, a value, a password or a token: not in `Display`, not in `Debug`, not in
/// its source. `Display` prints adapter, operation and message; the [source](StdError::source) is
/// kept beside it, for error reporters that print the chain. An error about one entry may name it by
/// the [fingerprint](Key::fingerprint) of its key.
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
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    adapter: Option<&'static str>,
    operation: Option<Operation>,
    fingerprint: Option<String>,
    stored_name: Option<Box<[u8]>>,
    message: Cow<'static, str>,
    source: Option<Source>,
    failures: Vec<Failure>,
}

/// What kind of thing went wrong. Programs decide by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store cannot be reached, is starting, stopping or too busy. Trying again may work; a
    /// write that failed so may or may not have happened.
    Unavailable,
    /// The store did not answer in time. Trying again may work; a write that failed so may or may
    /// not have happened.
    Timeout,
    /// The condition of a compare-and-swap did not hold. Read again and decide anew.
    Conflict,
    /// The text cannot be a key, or the layout in use cannot store this key.
    InvalidKey,
    /// The store's form for values (JSON, say) cannot hold this value.
    InvalidValue,
    /// The value is larger than the store takes.
    TooLarge,
    /// The store has no room: its disk, its memory or its bound is exhausted.
    Full,
    /// What is stored is damaged or was not written by this adapter.
    Corrupt,
    /// A value could not be encoded, or the stored bytes do not decode as the type asked for.
    Codec,
    /// What is stored was written by a newer version of the program, and stays as it is: let that
    /// version run.
    Newer,
    /// This adapter, in this layout, does not do that.
    Unsupported,
    /// A URL, an option, a table's shape or the like is wrong and must be put right first.
    Configuration,
    /// The store refused: wrong password, missing permission.
    Denied,
    /// The storage has been closed.
    Closed,
    /// Some entries of a batch failed; [`Error::failures`] says which. The others were done.
    Partial,
    /// Anything else; the message and the source say what.
    Other,
}

/// The operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)] // Each is the method of that name.
pub enum Operation {
    Connect,
    Setup,
    Read,
    Write,
    Delete,
    WriteIf,
    DeleteIf,
    Touch,
    Ttl,
    Contains,
    ReadMany,
    WriteMany,
    DeleteMany,
    Keys,
    Entries,
    Clear,
    PurgeExpired,
    Ping,
    Flush,
    Close,
}

/// One entry of a batch that failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The entry's place in the batch, counted from 0.
    pub index: usize,
    /// Why it failed.
    pub error: Error,
}

impl Failure {
    /// The entry at `index` failed with `error`.
    #[must_use]
    pub const fn new(index: usize, error: Error) -> Self {
        Self { index, error }
    }
}

impl Error {
    /// An error of `kind`; the message says what is wrong and what to do about it, and contains no
    /// key, value or secret.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            adapter: None,
            operation: None,
            fingerprint: None,
            stored_name: None,
            message: message.into(),
            source: None,
            failures: Vec::new(),
        }))
    }

    /// Some entries of a batch of `total` failed.
    #[must_use]
    pub fn partial(failures: Vec<Failure>, total: usize) -> Self {
        let message = match failures.first() {
            Some(first) => format!(
                "{} of {total} entries failed, the first (number {}) because: {}",
                failures.len(),
                first.index,
                first.error.message()
            ),
            None => format!("some of {total} entries failed"),
        };
        let mut error = Self::new(ErrorKind::Partial, message);
        error.0.failures = failures;
        error
    }

    /// The adapter cannot do `operation`.
    #[must_use]
    pub fn unsupported(adapter: &'static str, operation: Operation) -> Self {
        Self::new(ErrorKind::Unsupported, "this storage does not support it")
            .with_adapter(adapter)
            .with_operation(operation)
    }

    /// The condition of a compare-and-swap did not hold.
    #[must_use]
    pub fn conflict(adapter: &'static str, operation: Operation) -> Self {
        Self::new(ErrorKind::Conflict, "the entry is not in the state that the condition asks for")
            .with_adapter(adapter)
            .with_operation(operation)
    }

    /// The storage has been closed.
    #[must_use]
    pub fn closed(adapter: &'static str, operation: Operation) -> Self {
        Self::new(ErrorKind::Closed, "the storage has been closed; open it again to use it")
            .with_adapter(adapter)
            .with_operation(operation)
    }

    /// Names the adapter, unless one is named already.
    #[must_use]
    pub fn with_adapter(mut self, adapter: &'static str) -> Self {
        self.0.adapter.get_or_insert(adapter);
        self
    }

    /// Names the operation, unless one is named already.
    #[must_use]
    pub fn with_operation(mut self, operation: Operation) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Names the entry by the [fingerprint](Key::fingerprint) of its key, unless one is named already.
    /// The key itself may be a secret and is not kept.
    #[must_use]
    pub fn with_key(mut self, key: &Key) -> Self {
        self.0.fingerprint.get_or_insert_with(|| key.fingerprint());
        self
    }

    /// Keeps the name that an entry has in the store and that is not a [`Key`], for a program that may
    /// show it to its user, as the command `larder` does. Neither `Display` nor `Debug` prints it.
    #[must_use]
    pub fn with_stored_name(mut self, name: impl AsRef<[u8]>) -> Self {
        self.0.stored_name.get_or_insert_with(|| name.as_ref().into());
        self
    }

    /// Keeps the error underneath. Whoever hands it over answers for what it prints: no key, value
    /// or secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What kind of thing went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
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

    /// The [fingerprint](Key::fingerprint) of the key of the entry that the error is about, if it names
    /// one.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&str> {
        self.0.fingerprint.as_deref()
    }

    /// The name that the entry has in the store, if it is not a [`Key`] and the error keeps it. It may be
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

    /// Which entries of a batch failed, in the order of the batch, for [`ErrorKind::Partial`].
    /// Entries that are not named were done.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        &self.0.failures
    }

    /// The same, to own.
    #[must_use]
    pub fn into_failures(self) -> Vec<Failure> {
        self.0.failures
    }

    /// Whether the same call may work later with nothing changed. A conflict is not retryable in
    /// this sense: it asks for a new read first.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.0.kind {
            ErrorKind::Unavailable | ErrorKind::Timeout => true,
            ErrorKind::Partial => {
                !self.0.failures.is_empty()
                    && self.0.failures.iter().all(|failure| failure.error.is_retryable())
            }
            _ => false,
        }
    }

    /// Whether this error in a [listing](crate::Storage::keys) concerns one entry only, so that the
    /// listing goes on after it: its key or its value cannot be read. Any other error ends a listing.
    #[must_use]
    pub fn concerns_one_entry(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Corrupt | ErrorKind::InvalidKey)
    }

    /// A second error that says the same, for another caller who waits for the same outcome. The
    /// source does not come along: its message does.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let message = match &self.0.source {
            Some(source) => Cow::Owned(format!("{}: {source}", self.0.message)),
            None => self.0.message.clone(),
        };
        Self(Box::new(Inner {
            kind: self.0.kind,
            adapter: self.0.adapter,
            operation: self.0.operation,
            fingerprint: self.0.fingerprint.clone(),
            stored_name: self.0.stored_name.clone(),
            message,
            source: None,
            failures: self
                .0
                .failures
                .iter()
                .map(|failure| Failure::new(failure.index, failure.error.duplicate()))
                .collect(),
        }))
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
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.0.kind);
        if let Some(adapter) = self.0.adapter {
            debug.field("adapter", &adapter);
        }
        if let Some(operation) = self.0.operation {
            debug.field("operation", &operation);
        }
        if let Some(fingerprint) = &self.0.fingerprint {
            debug.field("fingerprint", fingerprint);
        }
        debug.field("message", &self.0.message);
        if let Some(source) = &self.0.source {
            // A driver's Debug may print whole requests, values included; its Display does not.
            debug.field("source", &format_args!("{source}"));
        }
        if !self.0.failures.is_empty() {
            debug.field("failures", &self.0.failures);
        }
        debug.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Setup => "set up",
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::WriteIf => "write if",
            Self::DeleteIf => "delete if",
            Self::Touch => "touch",
            Self::Ttl => "ttl",
            Self::Contains => "contains",
            Self::ReadMany => "read many",
            Self::WriteMany => "write many",
            Self::DeleteMany => "delete many",
            Self::Keys => "list keys",
            Self::Entries => "list entries",
            Self::Clear => "clear",
            Self::PurgeExpired => "purge expired",
            Self::Ping => "ping",
            Self::Flush => "flush",
            Self::Close => "close",
        })
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Conflict => "conflict",
            Self::InvalidKey => "invalid key",
            Self::InvalidValue => "invalid value",
            Self::TooLarge => "too large",
            Self::Full => "full",
            Self::Corrupt => "corrupt",
            Self::Codec => "codec",
            Self::Newer => "newer",
            Self::Unsupported => "unsupported",
            Self::Configuration => "configuration",
            Self::Denied => "denied",
            Self::Closed => "closed",
            Self::Partial => "partial",
            Self::Other => "other",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let error = Error::new(ErrorKind::Codec, "it is no JSON").with_key(&key);
        let fingerprint = key.fingerprint();
        assert_eq!(error.fingerprint(), Some(&*fingerprint));
        for error in [error.duplicate(), error] {
            assert_eq!(error.to_string(), format!("it is no JSON (key fingerprint {fingerprint})"));
            assert!(!format!("{error:?}").contains("hunter2"));
            assert!(format!("{error:?}").contains(&fingerprint));
        }
    }

    #[test]
    fn stored_name_is_kept_and_never_printed() {
        let error = Error::new(ErrorKind::InvalidKey, "not a key").with_stored_name(b"hunter2\xff");
        for error in [error.duplicate(), error] {
            assert_eq!(error.stored_name(), Some(&b"hunter2\xff"[..]));
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_partial_failure_is_retryable_only_if_all_of_it_is() {
        let failure = |index, kind| Failure::new(index, Error::new(kind, "no"));
        let both = vec![failure(0, ErrorKind::Timeout), failure(3, ErrorKind::TooLarge)];
        assert!(!Error::partial(both, 4).is_retryable());
        assert!(Error::partial(vec![failure(0, ErrorKind::Timeout)], 4).is_retryable());
    }

    #[test]
    fn the_source_is_kept_and_a_duplicate_keeps_its_words() {
        let error = Error::new(ErrorKind::Full, "no room").with_source("disk quota exceeded");
        assert_eq!(error.source().unwrap().to_string(), "disk quota exceeded");
        assert_eq!(error.duplicate().message(), "no room: disk quota exceeded");
    }
}
