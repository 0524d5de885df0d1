//! The session in a handler's hands.

use std::{fmt, sync::Arc, time::Duration};

use larder_core::{Error, ErrorKind, Expiry, Key, Result};
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    changes::Changes,
    config::Config,
    decrypt::{Undecryptable, decrypt},
    fields::{Fields, decode, encode},
    names,
};

/// Fields that make the session what it is.
const RESERVED: [&str; 3] = [names::FIELD_ID, names::FIELD_SKEY, names::FIELD_SESSION_KEY];

/// The session of a request: an extension of it (`request.extensions().get::<Session>()`), there only
/// if the request has proven that the session is its own.
///
/// A session has named fields, each any JSON. `userInfo` is what WeChat says of the user; all others
/// are the service's own. What a handler changes is saved when it has answered, whatever the status
/// of its answer; a handler that fails with an error of the service (`Err`), or is dropped, changes
/// nothing. If it cannot be saved, the answer is replaced by an error.
///
/// Requests of one session may run at the same time. Changes are kept field by field: of two
/// [`set`](Session::set) of one field the later stays, all other fields are untouched, and
/// [`update`](Session::update) is for changes that build on the old value, a counter say.
///
/// Clones are handles on the same session of the same request. `Debug` prints no field.
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
    id: String,
    key: Key,
    is_new: bool,
    config: Arc<Config>,
    state: Mutex<State>,
}

struct State {
    /// The fields with all changes made.
    fields: Fields,
    changes: Changes,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Destroyed,
    /// The handler has answered.
    Over,
}

/// What has to be done when the handler has answered.
pub(crate) enum Outcome {
    Save(Changes),
    Destroy,
}

impl Session {
    pub(crate) fn new(config: Arc<Config>, id: String, key: Key, fields: Fields, is_new: bool) -> Self {
        let state = State { fields, changes: Changes::default(), phase: Phase::Open };
        Self(Arc::new(Inner { id, key, is_new, config, state: Mutex::new(state) }))
    }

    /// The field called `field`, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`] if it is not what a `T` is read from.
    pub fn get<T: DeserializeOwned>(&self, field: &str) -> Result<Option<T>> {
        self.0.state.lock().fields.get(field).map(|value| decode(field, value)).transpose()
    }

    /// What WeChat says of the user: nickname, avatar, `openId` and so on, in
    /// [`userInfo`](https://developers.weixin.qq.com/miniprogram/dev/api/open-api/user-info/UserInfo.html).
    ///
    /// It comes through the client, encrypted but not signed, and whoever knows what is in it can
    /// change it. Only `openId`, and `unionId` where WeChat's server gave one with the session key, are
    /// what that server said. Believe the rest as you would believe a form that the user has filled in;
    /// that goes for a `unionId` too, in a mini-program that its owner has not bound to others.
    ///
    /// # Errors
    ///
    /// As [`get`](Session::get).
    pub fn user_info<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        self.get(names::FIELD_USER_INFO)
    }

    /// The user's id in this mini-program, as WeChat's server gave it at the login. (In a session that
    /// mp-session-koa2 has made it is what the user's data said.)
    #[must_use]
    pub fn open_id(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct User {
            open_id: Option<String>,
        }
        self.user_info::<User>().ok().flatten().and_then(|user| user.open_id)
    }

    /// The names of all fields, those of the protocol included.
    #[must_use]
    pub fn fields(&self) -> Vec<String> {
        self.0.state.lock().fields.names().cloned().collect()
    }

    /// Sets the field called `field`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`] if JSON cannot hold the value; [`ErrorKind::Unsupported`] for a field of
    /// the protocol (`id`, `skey`, `sessionKey`); [`ErrorKind::Closed`] if the session has been
    /// destroyed, or if the handler has answered already and nothing more is saved.
    pub fn set<T: Serialize + ?Sized>(&self, field: &str, value: &T) -> Result<()> {
        let value = encode(field, value)?;
        let mut state = self.change(field)?;
        state.fields.set(field, value.clone());
        state.changes.set(field, value);
        Ok(())
    }

    /// Removes the field called `field`.
    ///
    /// # Errors
    ///
    /// As [`set`](Session::set).
    pub fn remove(&self, field: &str) -> Result<()> {
        let mut state = self.change(field)?;
        state.fields.remove(field);
        state.changes.remove(field);
        Ok(())
    }

    /// Replaces the field called `field` by what `change` makes of it (`None` is no field), and
    /// returns what that is now.
    ///
    /// `change` is called again when the session is saved, on the value that others have left there,
    /// so that no update is lost. It must depend on nothing but its argument and must not use the
    /// session.
    ///
    /// # Errors
    ///
    /// As [`set`](Session::set); [`ErrorKind::Codec`] too if the field is not what a `T` is read from.
    pub fn update<T, F>(&self, field: &str, change: F) -> Result<Option<T>>
    where
        T: Serialize + DeserializeOwned,
        F: Fn(Option<T>) -> Option<T> + Send + Sync + 'static,
    {
        let mut state = self.change(field)?;
        let old = state.fields.get(field).map(|old| decode(field, old)).transpose()?;
        let new = change(old);
        match &new {
            Some(value) => state.fields.set(field, encode(field, value)?),
            None => state.fields.remove(field),
        }
        let name = field.to_owned();
        let again = Arc::new(move |old: Option<&serde_json::value::RawValue>| {
            let old = old.map(|old| decode(&name, old)).transpose()?;
            change(old).map(|new| encode(&name, &new)).transpose()
        });
        state.changes.update(field, again);
        Ok(new)
    }

    /// Ends the session: when the handler has answered, it is deleted. mp-session-koa2 calls it
    /// `ctx.session = {}`. The client learns of it with its next request and logs in again.
    pub fn destroy(&self) {
        let mut state = self.0.state.lock();
        if state.phase == Phase::Open {
            *state =
                State { fields: Fields::default(), changes: Changes::default(), phase: Phase::Destroyed };
        }
    }

    /// The time that the session has left, as the store says; `None` if it is gone. For a session
    /// that is just being made, that is the whole of `max_age`. One question to the store.
    ///
    /// # Errors
    ///
    /// As [`Store::ttl`](larder_core::Store::ttl).
    pub async fn remaining(&self) -> Result<Option<Duration>> {
        let store = &self.0.config.store;
        if self.0.is_new {
            return Ok(Some(store.max_age));
        }
        Ok(store.remaining(&self.0.key).await?.map(|left| match left {
            Expiry::After(left) => left,
            Expiry::Never => Expiry::MAX,
        }))
    }

    /// Whether this request is the login, and the session is about to be made (with
    /// [`login_next`](crate::WechatBuilder::login_next)).
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.0.is_new
    }

    /// What names the session in the store: its id, or in version 2 its skey. It is a credential, or
    /// half of one: do not print it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// WeChat's session key, in base64; `None` once the session is destroyed. It is a secret between
    /// WeChat and the service and must never reach the mini-program. To decrypt data with it there is
    /// [`decrypt`](Session::decrypt).
    #[must_use]
    pub fn session_key(&self) -> Option<String> {
        self.0.state.lock().fields.text(names::FIELD_SESSION_KEY).map(|key| key.expose().to_owned())
    }

    /// Decrypts what WeChat has encrypted for this session, a phone number say, and checks that it is
    /// this mini-program's: [`encryptedData` and
    /// `iv`](https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html)
    /// as the mini-program was given them.
    ///
    /// The fields are not authenticated by themselves: the encryption (AES-CBC, with an IV that the
    /// client sends) has no signature, so that a client that knows the first 16 bytes, and from
    /// `{"nickName":"` on it does, can make others of them. Do not take from here who the user is: that
    /// is [`open_id`](Session::open_id). Where a changed field would do harm, a phone number that opens
    /// an account say, ask WeChat's server for it (`phonenumber.getPhoneNumber`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidValue`] if they do not decrypt with the session's key (it may be an older
    /// one: WeChat changes it with a login), or are another mini-program's; [`ErrorKind::Codec`] if
    /// they are not what a `T` is read from; [`ErrorKind::Closed`] if the session has been destroyed.
    pub fn decrypt<T: DeserializeOwned>(&self, encrypted_data: &str, iv: &str) -> Result<T> {
        let key = self.session_key().ok_or_else(closed)?;
        let fields = decrypt(&self.0.config.app_id, &key, encrypted_data, iv).map_err(|error| {
            let message = match error {
                Undecryptable::Data => "the data cannot be decrypted with the session's key",
                Undecryptable::Foreign => "the data are not this mini-program's",
            };
            Error::new(ErrorKind::InvalidValue, message)
        })?;
        serde_json::from_value(fields.into())
            .map_err(|_| Error::new(ErrorKind::Codec, "the decrypted data are not of the type asked for"))
    }

    /// The state, if `field` may be changed.
    fn change(&self, field: &str) -> Result<parking_lot::MutexGuard<'_, State>> {
        if RESERVED.contains(&field) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the field `{field}` is the protocol's own and cannot be changed"),
            ));
        }
        let state = self.0.state.lock();
        if state.phase == Phase::Open { Ok(state) } else { Err(closed()) }
    }

    /// Takes the changes; there can be no more.
    pub(crate) fn finish(&self) -> Outcome {
        let mut state = self.0.state.lock();
        let outcome = match state.phase {
            Phase::Destroyed => Outcome::Destroy,
            Phase::Open | Phase::Over => Outcome::Save(std::mem::take(&mut state.changes)),
        };
        state.phase = Phase::Over;
        outcome
    }

    pub(crate) fn key(&self) -> &Key {
        &self.0.key
    }
}

fn closed() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the session has been destroyed, or the handler has answered: nothing more is saved",
    )
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("is_new", &self.0.is_new).finish_non_exhaustive()
    }
}
