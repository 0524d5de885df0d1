//! The kinds of sessions.

use std::ops::DerefMut;

use larder_session::{KvSession, KvSessions, OpenKvSession, OpenSession, Result, SessionKey, Sessions};

use self::sealed::Sealed;

mod sealed {
    pub trait Sealed {}

    impl Sealed for larder_session::KvSessions {}
    impl<T> Sealed for larder_session::Sessions<T> {}
}

/// A kind of session: named values ([`KvSessions`]), or your own type ([`Sessions`]). The trait is sealed.
///
/// ```
/// use larder_poise::{CommandSessions, KvSessions, SessionKind};
///
/// fn kept_in<S: SessionKind>(_: &CommandSessions<S>) {}
/// # let _ = kept_in::<KvSessions>;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a kind of session that commands can have",
    label = "expected `KvSessions` or `Sessions<T>`",
    note = "the `T` of `Sessions<T>` must be `Send + Sync + 'static`"
)]
pub trait SessionKind: Sealed + Send + Sync + 'static {
    /// The type to which an [open](crate::CommandSession::open) session dereferences: [`KvSession`], or the value.
    type Session;

    #[doc(hidden)]
    type Opened: DerefMut<Target = Self::Session> + Send;

    #[doc(hidden)]
    fn open(&self, key: SessionKey) -> impl Future<Output = Result<Self::Opened>> + Send;

    #[doc(hidden)]
    fn save(opened: Self::Opened) -> impl Future<Output = Result<()>> + Send;

    #[doc(hidden)]
    fn discard(opened: Self::Opened);

    #[doc(hidden)]
    fn delete(&self, key: SessionKey) -> impl Future<Output = Result<bool>> + Send;

    /// Equal for clones, and different otherwise. Sessions with the same key and the same identity share a
    /// queue.
    #[doc(hidden)]
    fn identity(&self) -> usize;

    // No `update`: through a trait the compiler cannot see that the future of a borrowing handler is `Send`,
    // which poise needs. Each kind has its own `update`, in `session.rs`.
}

impl SessionKind for KvSessions {
    type Session = KvSession;
    type Opened = OpenKvSession;

    fn open(&self, key: SessionKey) -> impl Future<Output = Result<OpenKvSession>> + Send {
        self.open(key)
    }

    fn save(opened: OpenKvSession) -> impl Future<Output = Result<()>> + Send {
        opened.save()
    }

    fn discard(opened: OpenKvSession) {
        opened.discard();
    }

    fn delete(&self, key: SessionKey) -> impl Future<Output = Result<bool>> + Send {
        self.sessions().delete(key)
    }

    fn identity(&self) -> usize {
        self.sessions().identity()
    }
}

impl<T: Send + Sync + 'static> SessionKind for Sessions<T> {
    type Session = T;
    type Opened = OpenSession<T>;

    fn open(&self, key: SessionKey) -> impl Future<Output = Result<OpenSession<T>>> + Send {
        self.open(key)
    }

    fn save(opened: OpenSession<T>) -> impl Future<Output = Result<()>> + Send {
        OpenSession::save(opened)
    }

    fn discard(opened: OpenSession<T>) {
        OpenSession::discard(opened);
    }

    fn delete(&self, key: SessionKey) -> impl Future<Output = Result<bool>> + Send {
        self.delete(key)
    }

    fn identity(&self) -> usize {
        self.identity()
    }
}
