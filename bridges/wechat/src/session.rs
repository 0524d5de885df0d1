//! The session of a request.

use std::{fmt, sync::Arc, time::Duration};

use larder_core::{Error, ErrorKind, Expiry, Result};
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    changes::Changes,
    config::Config,
    decrypt::{Undecryptable, decrypt},
    fields::{Fields, Raw, decode, encode, open_id},
    names,
    places::Place,
};

/// The session of a request, stored in its extensions (`request.extensions().get::<Session>()`). It exists
/// only if the request has proved that it owns the session.
///
/// A session has named fields, each with any JSON value. `userInfo` contains WeChat's data about the user;
/// all other fields belong to the service. Changes are saved after the handler has responded, whatever the
/// status. If the service fails with an `Err`, or is dropped, nothing is saved. If the changes cannot be
/// saved, an error replaces the response.
///
/// Requests of one session may run at the same time. Changes are saved field by field: if two requests
/// [`set`](Session::set) one field, the later one wins, and all other fields are untouched. Use
/// [`update`](Session::update) for a change that depends on the old value, such as a counter.
///
/// Clones are handles to the same session of the same request. `Debug` prints no field.
///
/// ```
/// use larder_wechat::{Result, Session};
///
/// fn put_into_cart(session: &Session, article: String) -> Result<u64> {
///     session.set("lastArticle", &article)?;
///     let count = session.update("articles", |count: Option<u64>| Some(count.unwrap_or(0) + 1))?;
///     Ok(count.unwrap_or(0))
/// }
/// ```
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    place: Place,
    is_new: bool,
    config: Arc<Config>,
    state: Mutex<SessionState>,
}

struct SessionState {
    /// The fields with all changes made.
    fields: Fields,
    changes: Changes,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Destroyed,
    /// The handler has responded.
    Over,
}

/// The action after the handler has responded.
pub(crate) enum Ending {
    Save(Changes),
    Destroy,
}

impl Session {
    pub(crate) fn new(config: Arc<Config>, place: Place, fields: Fields, is_new: bool) -> Self {
        let state = SessionState { fields, changes: Changes::default(), phase: Phase::Open };
        Self(Arc::new(Inner { place, is_new, config, state: Mutex::new(state) }))
    }

    /// Returns the field called `field`, or `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`] if the field cannot be read as a `T`.
    pub fn get<T: DeserializeOwned>(&self, field: &str) -> Result<Option<T>> {
        self.0.state.lock().fields.get(field).map(|value| decode(field, value)).transpose()
    }

    /// Returns WeChat's data about the user: nickname, avatar, `openId` and so on, as
    /// [`userInfo`](https://developers.weixin.qq.com/miniprogram/dev/api/open-api/user-info/UserInfo.html).
    ///
    /// The data come through the client, encrypted but not signed, and a client that knows the content can
    /// change it. Only `openId` is certain, and `unionId` if WeChat's server returned one with the session
    /// key. Treat all other fields like a form that the user has filled in; also `unionId`, if the owner of
    /// the mini-program has not bound it to others.
    ///
    /// # Errors
    ///
    /// As [`get`](Session::get).
    pub fn user_info<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        self.get(names::FIELD_USER_INFO)
    }

    /// Returns the user's id in this mini-program, which WeChat's server returned at the login. (In a session
    /// created by mp-session-koa2, the id comes from the user's data.)
    #[must_use]
    pub fn open_id(&self) -> Option<String> {
        self.0.state.lock().fields.open_id()
    }

    /// Returns the names of all fields, including those of the protocol.
    #[must_use]
    pub fn fields(&self) -> Vec<String> {
        self.0.state.lock().fields.names().cloned().collect()
    }

    /// Sets the field called `field`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`] if JSON cannot represent the value; [`ErrorKind::Unsupported`] for a field of the
    /// protocol (`id`, `skey`, `sessionKey`, `sealedSessionKey`), and for another `openId` in `userInfo` if it is
    /// the [owner](crate::WechatBuilder::owners); [`ErrorKind::Closed`] if the session was destroyed, or the
    /// handler has already responded.
    pub fn set<T: Serialize + ?Sized>(&self, field: &str, value: &T) -> Result<()> {
        let value = encode(field, value)?;
        let mut state = self.change(field)?;
        self.put(&mut state, field, Some(value.clone()))?;
        state.changes.set(field, value);
        Ok(())
    }

    /// Removes the field called `field`.
    ///
    /// # Errors
    ///
    /// Same as [`set`](Session::set).
    pub fn remove(&self, field: &str) -> Result<()> {
        let mut state = self.change(field)?;
        self.put(&mut state, field, None)?;
        state.changes.remove(field);
        Ok(())
    }

    /// Replaces the field called `field` with the result of `change`, and returns the new value. `None`
    /// stands for a missing field.
    ///
    /// `change` runs again when the session is saved, on the value that other requests have saved, so that no
    /// update is lost. It must depend only on its argument and must not use the session.
    ///
    /// # Errors
    ///
    /// Same as [`set`](Session::set); also [`ErrorKind::Codec`] if the field cannot be read as a `T`.
    pub fn update<T, F>(&self, field: &str, change: F) -> Result<Option<T>>
    where
        T: Serialize + DeserializeOwned,
        F: Fn(Option<T>) -> Option<T> + Send + Sync + 'static,
    {
        let mut state = self.change(field)?;
        let old = state.fields.get(field).map(|old| decode(field, old)).transpose()?;
        let new = change(old);
        self.put(&mut state, field, new.as_ref().map(|new| encode(field, new)).transpose()?)?;
        let name = field.to_owned();
        let again = Arc::new(move |old: Option<&serde_json::value::RawValue>| {
            let old = old.map(|old| decode(&name, old)).transpose()?;
            change(old).map(|new| encode(&name, &new)).transpose()
        });
        state.changes.update(field, again);
        Ok(new)
    }

    /// Ends the session: it is deleted after the handler has responded (mp-session-koa2: `ctx.session = {}`).
    /// With its next request the client finds the session invalid, and logs in again.
    pub fn destroy(&self) {
        let mut state = self.0.state.lock();
        if state.phase == Phase::Open {
            *state = SessionState {
                fields: Fields::default(),
                changes: Changes::default(),
                phase: Phase::Destroyed,
            };
        }
    }

    /// Returns the time until the session expires, or `None` if it no longer exists. Asks the store
    /// once. For a session that is not yet written, returns `max_age` without asking.
    ///
    /// # Errors
    ///
    /// Same as [`Store::ttl`](larder_core::Store::ttl).
    pub async fn remaining(&self) -> Result<Option<Duration>> {
        let store = &self.0.config.store;
        if self.0.is_new {
            return Ok(Some(store.max_age));
        }
        Ok(store.remaining(&self.0.place).await?.map(|left| match left {
            Expiry::After(left) => left,
            Expiry::Never => Expiry::MAX,
        }))
    }

    /// Returns whether this request is the login and the session is not yet written (with
    /// [`login_next`](crate::WechatBuilder::login_next)).
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.0.is_new
    }

    /// Returns the session's name in the store: its id, or in version 2 its skey. It is a credential, or a
    /// part of one: do not print it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.place.id
    }

    /// Returns the name of the session on a page that lists the user's sessions
    /// ([`WechatLayer::sessions_of`](crate::WechatLayer::sessions_of)): the SHA-256 of its [id](Self::id). It is
    /// not a credential.
    #[must_use]
    pub fn handle(&self) -> String {
        larder_web_sessions::handle(&self.0.place.id)
    }

    /// Returns WeChat's session key in base64, or `None` if the session is destroyed. The key is a secret
    /// between WeChat and the service and must never reach the mini-program. Use
    /// [`decrypt`](Session::decrypt) to decrypt data with it.
    #[must_use]
    pub fn session_key(&self) -> Option<String> {
        self.0.state.lock().fields.text(names::FIELD_SESSION_KEY).map(|key| key.expose().to_owned())
    }

    /// Decrypts data that WeChat has encrypted for this session, such as a phone number, and checks that they
    /// belong to this mini-program. The arguments are [`encryptedData` and
    /// `iv`](https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html), as
    /// WeChat gave them to the mini-program.
    ///
    /// The fields are not authenticated. The encryption (AES-CBC, with an IV that the client sends) has no
    /// signature, so a client that knows the first 16 bytes can change them, and it knows them if they begin
    /// with `{"nickName":"`. Do not take the user's identity from these data: use
    /// [`open_id`](Session::open_id). If a changed field would do harm, such as a phone number that gives
    /// access to an account, ask WeChat's server for it (`phonenumber.getPhoneNumber`).
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidValue`]: the data cannot be decrypted with the session's key (WeChat changes the
    ///   key with a login, so the data may be older), or belong to another mini-program.
    /// - [`ErrorKind::Codec`]: the decrypted data cannot be read as a `T`.
    /// - [`ErrorKind::Closed`]: the session was destroyed.
    pub fn decrypt<T: DeserializeOwned>(&self, encrypted_data: &str, iv: &str) -> Result<T> {
        let key = self.session_key().ok_or_else(closed)?;
        let fields = decrypt(&self.0.config.app_id, &key, encrypted_data, iv).map_err(|error| {
            let message = match error {
                Undecryptable::Data => "the data cannot be decrypted with the session's key",
                Undecryptable::Foreign => "the data do not belong to this mini-program",
            };
            Error::new(ErrorKind::InvalidValue, message)
        })?;
        serde_json::from_value(fields.into())
            .map_err(|_| Error::new(ErrorKind::Codec, "the decrypted data do not have the requested type"))
    }

    /// Returns the state, if `field` may be changed.
    fn change(&self, field: &str) -> Result<parking_lot::MutexGuard<'_, SessionState>> {
        if names::PROTOCOL.contains(&field) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the field `{field}` belongs to the protocol and cannot be changed"),
            ));
        }
        let state = self.0.state.lock();
        if state.phase == Phase::Open { Ok(state) } else { Err(closed()) }
    }

    /// Sets or removes a field. The owner of the session stays its owner: without one it could not be revoked.
    fn put(&self, state: &mut SessionState, field: &str, value: Option<Raw>) -> Result<()> {
        if field == names::FIELD_USER_INFO && self.0.config.store.owner_is_open_id() {
            let owner = state.fields.open_id();
            if owner.is_some() && owner != value.as_deref().and_then(open_id) {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "the user's `openId` cannot be changed: it is the owner of the session",
                ));
            }
        }
        match value {
            Some(value) => state.fields.set(field, value),
            None => state.fields.remove(field),
        }
        Ok(())
    }

    /// Takes the changes and ends the session for the handler.
    pub(crate) fn finish(&self) -> Ending {
        let mut state = self.0.state.lock();
        let ending = match state.phase {
            Phase::Destroyed => Ending::Destroy,
            Phase::Open | Phase::Over => Ending::Save(std::mem::take(&mut state.changes)),
        };
        state.phase = Phase::Over;
        ending
    }

    pub(crate) fn place(&self) -> &Place {
        &self.0.place
    }
}

fn closed() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the session was destroyed, or its handler has responded: changes are no longer saved",
    )
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("is_new", &self.0.is_new).finish_non_exhaustive()
    }
}
