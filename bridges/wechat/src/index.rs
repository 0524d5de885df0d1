//! The index from owners to their sessions.

use std::{fmt, sync::Arc};

use http::request::Parts;
use larder_core::{Error, ErrorKind, Expiry, Key, ReadOptions, Result};
use larder_owners::{Deadline, Found, Indexed, Lookup, Owner, Owners, Saving};
use larder_web_sessions::OwnedSession;

use crate::{
    fields::Fields,
    places::Place,
    sealed::Sealed,
    store::{Loaded, SessionStore},
};

pub(crate) type OwnerOf = Arc<dyn Fn(&Fields) -> Option<String> + Send + Sync>;
pub(crate) type DeviceOf = Arc<dyn Fn(&Parts) -> Option<String> + Send + Sync>;

pub(crate) struct Index {
    pub(crate) owners: Owners,
    /// `None`: the owner is the user's `openId`.
    pub(crate) owner: Option<OwnerOf>,
    pub(crate) device: Option<DeviceOf>,
}

/// A login, as far as the index is concerned.
#[derive(Default)]
pub(crate) struct Login {
    pub(crate) device: Option<String>,
}

/// The rest of a save.
#[derive(Default)]
pub(crate) struct Noted {
    saving: Saving,
    /// Of the plain id, if the session moves.
    moving: Option<Saving>,
}

impl Index {
    fn owner_of(&self, fields: &Fields) -> Option<String> {
        match &self.owner {
            Some(owner) => owner(fields),
            None => fields.open_id(),
        }
    }
}

impl SessionStore {
    /// Returns the name of the device of a login.
    pub(crate) fn device(&self, parts: &Parts) -> Option<String> {
        self.index.as_ref()?.device.as_ref()?(parts)
    }

    /// Returns whether the user's `openId` is the owner of a session.
    pub(crate) fn owner_is_open_id(&self) -> bool {
        self.index.as_ref().is_some_and(|index| index.owner.is_none())
    }

    /// Returns the state of a session.
    pub(crate) fn indexed(&self, fields: &Fields, deadline: Deadline) -> Indexed {
        // A note without a device keeps the device of the login.
        let owner = |id| Owner { id, device: None };
        let index = self.index.as_ref();
        Indexed { owner: index.and_then(|index| index.owner_of(fields)).map(owner), deadline }
    }

    /// Notes a session before it is written: see [`Owners::before_save`].
    pub(crate) async fn before_save(
        &self,
        place: &Place,
        was: Option<&Loaded>,
        fields: &Fields,
        login: Option<&Login>,
    ) -> Result<Noted> {
        let Some(Index { owners, .. }) = &self.index else { return Ok(Noted::default()) };
        let mut will = self.indexed(fields, Deadline::after(Expiry::After(self.max_age)));
        let mut was_here = was.map_or(Indexed::NONE, |was| self.indexed(&was.fields, was.deadline));
        let mut noted = Noted::default();
        if let Some(plain) = place.plain.as_ref().filter(|_| was.is_some_and(Loaded::is_plain)) {
            // It is new under the hashed id.
            noted.moving = Some(owners.before_save(plain, &was_here, &Indexed::NONE).await?);
            was_here = Indexed::NONE;
        }
        if let Some(login) = login {
            // A login into an existing session is noted like that into a new one, with its time and device.
            if was_here.owner == will.owner {
                was_here = Indexed::NONE;
            }
            if let Some(owner) = &mut will.owner {
                owner.device.clone_from(&login.device);
            }
        }
        noted.saving = owners.before_save(&place.key, &was_here, &will).await?;
        Ok(noted)
    }

    /// Notes a session before its time to live is extended.
    pub(crate) async fn before_touch(&self, place: &Place, was: &Loaded) -> Result<()> {
        let Some(Index { owners, .. }) = &self.index else { return Ok(()) };
        let to = Deadline::after(Expiry::After(self.max_age));
        owners.before_touch(&place.key, &self.indexed(&was.fields, was.deadline), to).await
    }

    /// Notes that the session at `key` is about to be deleted.
    pub(crate) async fn before_delete(&self, key: &Key, was: &Indexed) -> Result<Saving> {
        match &self.index {
            Some(index) => index.owners.before_save(key, was, &Indexed::NONE).await,
            None => Ok(Saving::default()),
        }
    }

    /// Completes the index after the session was written.
    pub(crate) async fn after_save(&self, noted: Noted) {
        if let Some(saving) = noted.moving {
            self.after_change(saving).await;
        }
        self.after_change(noted.saving).await;
    }

    /// Completes the index after a session was written or deleted: see [`Owners::after_save`].
    pub(crate) async fn after_change(&self, saving: Saving) {
        if let Some(index) = &self.index {
            index.owners.after_save(saving, &Sessions::of(self)).await;
        }
    }

    /// Returns the sessions of `owner`.
    pub(crate) async fn sessions_of(&self, owner: &str) -> Result<Vec<OwnedSession>> {
        self.keys.sessions_of(self.owners()?, owner, &Sessions::of(self)).await
    }

    /// Deletes the sessions of `owner` whose handle `which` accepts. Returns their number.
    pub(crate) async fn delete_owned(&self, owner: &str, which: impl Fn(&str) -> bool + Sync) -> Result<u64> {
        let sessions = Sessions { moving: true, ..Sessions::of(self) };
        self.keys.delete_of(self.owners()?, owner, which, &sessions).await
    }

    fn owners(&self) -> Result<&Owners> {
        self.index.as_ref().map(|index| &index.owners).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "the layer has no index of owners: call `owners(true)` on its builder",
            )
        })
    }
}

/// Finds the sessions of an owner.
struct Sessions<'a> {
    store: &'a SessionStore,
    /// Whether the announcement of a move counts as the session.
    moving: bool,
}

impl<'a> Sessions<'a> {
    const fn of(store: &'a SessionStore) -> Self {
        Self { store, moving: false }
    }

    /// Returns whether the value under `key` is a session of `owner`. A value that is not a session is nobody's.
    fn is_theirs(&self, owner: &str, key: &Key, value: &[u8]) -> bool {
        let Some(index) = &self.store.index else { return false };
        let fields = match self.store.keys.plain_id(key) {
            Some(id) => Fields::parse(value, id),
            None => match Sealed::parse(value) {
                Ok(Sealed::Session(fields)) => Ok(fields),
                Ok(Sealed::Moving) => return self.moving,
                Err(error) => Err(error),
            },
        };
        fields.is_ok_and(|fields| index.owner_of(&fields).as_deref() == Some(owner))
    }
}

impl Lookup for Sessions<'_> {
    async fn find(&self, owner: &str, keys: &[Key]) -> Vec<Result<Option<Found>>> {
        let records = self.store.store.read_many(keys, &ReadOptions::new()).await;
        let found = keys.iter().zip(records).map(|(key, record)| {
            let theirs = record?.filter(|record| self.is_theirs(owner, key, &record.value));
            Ok(theirs.map(|record| Found { key: key.clone(), version: record.version }))
        });
        found.collect()
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("owners", &self.owners).finish_non_exhaustive()
    }
}
