//! The kinds of session that commands can have.

use std::ops::DerefMut;

use larder_session::{
    KvSession, KvSessions, OpenKvSession, OpenSession, Result, Session, SessionKey, Sessions,
};

use self::sealed::Sealed;

mod sealed {
    pub trait Sealed {}

    impl Sealed for larder_session::KvSessions {}
    impl<T> Sealed for larder_session::Sessions<T> {}
}

/// The kinds of session that commands can have: named values ([`KvSessions`]), or a type of your own
/// ([`Sessions`]). No others: it is sealed.
///
/// ```
/// use larder_poise::{CommandSessions, KvSessions, SessionKind};
///
/// fn kept_in<S: SessionKind>(_: &CommandSessions<S>) {}
/// # let _ = kept_in::<KvSessions>;
/// ```
pub trait SessionKind: Sealed + Send + Sync + 'static {
    /// A session in somebody's hands: a handler's, or of whoever has [opened](crate::CommandSession::open)
    /// it.
    type Session;

    #[doc(hidden)]
    type Opened: DerefMut<Target = Self::Session> + Send;

    #[doc(hidden)]
    fn open(&self, key: SessionKey) -> impl Future<Output = Result<Self::Opened>> + Send;

    #[doc(hidden)]
    fn save(opened: Self::Opened) -> impl Future<Output = Result<()>> + Send;

    #[doc(hidden)]
    fn delete(&self, key: SessionKey) -> impl Future<Output = Result<bool>> + Send;

    /// The same for all clones, and for no others: whose sessions have one key and one identity take turns.
    #[doc(hidden)]
    fn identity(&self) -> usize;

    // No `update`: through a trait the compiler cannot see that the future of a handler that borrows is
    // `Send`, which poise needs. Each kind has its own, in `session.rs`.
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

    fn delete(&self, key: SessionKey) -> impl Future<Output = Result<bool>> + Send {
        self.sessions().delete(key)
    }

    fn identity(&self) -> usize {
        self.sessions().identity()
    }
}

impl<T: Send + Sync + 'static> SessionKind for Sessions<T> {
    type Session = Session<T>;
    type Opened = OpenSession<T>;

    fn open(&self, key: SessionKey) -> impl Future<Output = Result<OpenSession<T>>> + Send {
        self.open(key)
    }

    fn save(opened: OpenSession<T>) -> impl Future<Output = Result<()>> + Send {
        opened.save()
    }

    fn delete(&self, key: SessionKey) -> impl Future<Output = Result<bool>> + Send {
        self.delete(key)
    }

    fn identity(&self) -> usize {
        self.identity()
    }
}
