//! The builder of the layer.

use std::{fmt, sync::Arc, time::Duration};

use http::request::Parts;
use larder_core::{Error, ErrorKind, Expiry, IntoStore, Key, Result, Store};
use larder_owners::Owners;
use larder_web_sessions::{Ids, Keys, MAX_SIZE};
use serde::de::DeserializeOwned;

use crate::{
    Protocol, WechatLayer,
    config::Config,
    credentials::ID_LENGTH,
    exchange::Exchange,
    index::{DeviceOf, Index, OwnerOf},
    secret::Secret,
    store::SessionStore,
};

/// WeChat's server.
const BASE_URL: &str = "https://api.weixin.qq.com";
/// How long version 2 remembers a user after the last login with user data.
const REMEMBER: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Builds a [`WechatLayer`]. Only the app id and the app secret have no default. Has the options of
/// [mp-session-koa2](https://github.com/04swjxy/mp-session-koa2), and some more.
///
/// ```
/// use std::time::Duration;
/// use larder_memory::MemoryStorage;
/// use larder_wechat::WechatLayer;
///
/// let layer = WechatLayer::builder("wx4f4bc4dec97d474b", "your-app-secret")
///     .storage(MemoryStorage::new())
///     .login_path("/api/login")
///     .max_age(Duration::from_secs(3600))
///     .cover_time(Duration::from_secs(300))
///     .build()?;
/// # let _ = layer;
/// # Ok::<(), larder_wechat::Error>(())
/// ```
#[must_use = "a builder does nothing before `build`"]
pub struct WechatBuilder {
    app_id: String,
    app_secret: Secret,
    grant_type: String,
    login_path: String,
    max_age: Option<Duration>,
    cover_time: Duration,
    login_next: bool,
    store: Option<Store>,
    key_prefix: String,
    max_size: usize,
    ids: Ids,
    owners: bool,
    owner: Option<OwnerOf>,
    device: Option<DeviceOf>,
    max_per_owner: Option<usize>,
    base_url: String,
    timeout: Duration,
    attempts: u32,
    protocol: Protocol,
    remember_users: Expiry,
}

impl WechatBuilder {
    pub(crate) fn new(app_id: String, app_secret: String) -> Self {
        Self {
            app_id,
            app_secret: Secret::new(app_secret),
            grant_type: "authorization_code".to_owned(),
            login_path: "/api/login".to_owned(),
            max_age: None,
            cover_time: Duration::ZERO,
            login_next: false,
            store: None,
            key_prefix: "session:".to_owned(),
            max_size: MAX_SIZE,
            ids: Ids::Plain,
            owners: false,
            owner: None,
            device: None,
            max_per_owner: None,
            base_url: BASE_URL.to_owned(),
            timeout: Duration::from_secs(5),
            attempts: 3,
            protocol: Protocol::Wafer,
            remember_users: Expiry::After(REMEMBER),
        }
    }

    /// Sets the storage of the sessions: a [`Store`], such as `larder::open` and the adapters return, or a
    /// storage that converts to one. It must support expiry and compare-and-swap; every adapter of Larder has
    /// both in its own layout. Default: this process's memory (with the crate's feature `memory`), where
    /// sessions end with the process; a warning says so.
    pub fn storage(mut self, storage: impl IntoStore) -> Self {
        self.store = Some(storage.into());
        self
    }

    /// Sets the path on which clients log in. Default: `/api/login`. It must be equal to the path that the
    /// layer sees, byte for byte: trailing slashes and percent signs count, and a prefix that axum's `nest`
    /// has removed does not. (The layers of a nested router see only requests that its routes handle, so the
    /// router needs a route for the login path.)
    pub fn login_path(mut self, path: impl Into<String>) -> Self {
        self.login_path = path.into();
        self
    }

    /// Sets how long a session lives after the last write. Default: 1 hour; version 2: 2 hours.
    pub const fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age);
        self
    }

    /// Extends a session to `max_age` when a request finds that at most `cover_time` is left
    /// (mp-session-koa2's `coverTime`). Default: zero, which never extends; a value equal to `max_age`
    /// extends with every request. Unless it is zero, each read also asks the store for the remaining time.
    pub const fn cover_time(mut self, cover_time: Duration) -> Self {
        self.cover_time = cover_time;
        self
    }

    /// If `true`, passes a login on to the service before the session is written, with the new
    /// [`Session`](crate::Session) as an extension of the request. The service can prepare the user's data or
    /// refuse the user; its response is not sent. The login is refused if the response is an error (status
    /// 400 or more) or the service destroys the session. Otherwise the session is written, with all fields
    /// that the service has set. A 404 is an error too, also if no route handles the login path
    /// (mp-session-koa2 accepts that login). Default: `false`.
    pub const fn login_next(mut self, login_next: bool) -> Self {
        self.login_next = login_next;
        self
    }

    /// Sets the prefix of the sessions' keys. Default: `session:`, as with mp-session-koa2. Its
    /// `setKey("shop")` is `key_prefix("shop:")` here, because mp-session-koa2 adds the colon itself.
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// Sets the maximum size of a stored session, in bytes. A request or a login whose session is larger fails, and
    /// nothing is written. A session that is already larger can still be read. Default: 1 MiB.
    pub const fn max_size(mut self, bytes: usize) -> Self {
        self.max_size = bytes;
        self
    }

    /// If `true`, stores each session under the SHA-256 of its id, without id and skey, and with the session key
    /// encrypted. A stolen copy of the storage then logs in nobody, in both versions of the protocol. Default:
    /// `false`, the form of mp-session-koa2, with the ids of all sessions.
    ///
    /// The layer does not find sessions that were stored under their plain ids: see
    /// [`migrating_plain_ids`](Self::migrating_plain_ids). The last one of the two settings counts.
    pub const fn hashed_ids(mut self, hashed: bool) -> Self {
        self.ids = if hashed { Ids::Hashed } else { Ids::Plain };
        self
    }

    /// Like [`hashed_ids`](Self::hashed_ids), and also finds sessions under their plain ids, such as those of
    /// mp-session-koa2. Each one moves to its hashed id when it is saved or extended. Users stay logged in. Replace
    /// this by `hashed_ids(true)` after the longest lifetime of a session. A session keeps its id when it moves: an id
    /// in a copy of the storage from before the move is accepted until its session ends.
    ///
    /// Give this setting to all processes at the same time: without it, a process does not find a session that has
    /// moved. It costs one more round trip to read a session that has not moved, two more to read an unknown one, and
    /// one to three more to log out or to log in with version 2. The save that moves a session takes three more.
    pub const fn migrating_plain_ids(mut self) -> Self {
        self.ids = Ids::Migrating;
        self
    }

    /// If `true`, maintains an index from users to their sessions. With it,
    /// [`sessions_of`](WechatLayer::sessions_of) finds all sessions of a user, and
    /// [`delete_by_owner`](WechatLayer::delete_by_owner) logs a user out everywhere, without a scan of the storage.
    /// The owner of a session is the user's `openId`, unless [`owner_by`](Self::owner_by) is set. Default: `false`.
    ///
    /// A login and a logout also read and write the index. A request that saves or extends a session does so 8 to 16
    /// times per `max_age`, or every 17 hours. Sessions from before this option was on are in the index after the next such request.
    pub const fn owners(mut self, owners: bool) -> Self {
        self.owners = owners;
        self
    }

    /// Sets the owner of a session to the result of `owner`, and turns [`owners`](Self::owners) on. `T` is read from
    /// the session's fields, without those of the protocol. A session has no owner if `owner` returns `None` or the
    /// fields cannot be read as a `T`.
    ///
    /// A session belongs to its new owner when a request that has changed the fields is saved. Fields that
    /// [`login_next`](Self::login_next) sets count from the login on.
    ///
    /// ```
    /// use larder_wechat::WechatLayer;
    /// # use larder_memory::MemoryStorage;
    ///
    /// /// The service sets the field `account`.
    /// #[derive(serde::Deserialize)]
    /// struct Account {
    ///     account: Option<String>,
    /// }
    ///
    /// let layer = WechatLayer::builder("wx4f4bc4dec97d474b", "your-app-secret")
    ///     .storage(MemoryStorage::new())
    ///     .owner_by(|session: Account| session.account)
    ///     .build()?;
    /// # let _ = layer;
    /// # Ok::<(), larder_wechat::Error>(())
    /// ```
    pub fn owner_by<T: DeserializeOwned>(
        mut self,
        owner: impl Fn(T) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.owner = Some(Arc::new(move |fields| owner(fields.decode().ok()?)));
        self.owners(true)
    }

    /// Sets a function that returns the name of the device from the head of a login request, for
    /// [`OwnedSession::device`](crate::OwnedSession::device): from the header `User-Agent`, for example. At most 256
    /// characters are stored. Needs [`owners`](Self::owners).
    pub fn device(mut self, device: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        self.device = Some(Arc::new(device));
        self
    }

    /// Sets the maximum number of sessions per owner. A further login deletes the oldest session, after the new one
    /// was written. If that fails, a warning is logged, and the next login deletes both. Needs
    /// [`owners`](Self::owners). Default: no limit.
    pub const fn max_per_owner(mut self, sessions: usize) -> Self {
        self.max_per_owner = Some(sessions);
        self
    }

    /// Sets the grant type of the exchange. Default: `authorization_code`, the only one that WeChat supports.
    pub fn grant_type(mut self, grant_type: impl Into<String>) -> Self {
        self.grant_type = grant_type.into();
        self
    }

    /// Sets the URL of WeChat's server, or of a stand-in: an `http` or `https` URL, which may have a path in
    /// front of `/sns/jscode2session`. The app secret is sent to this server. Default:
    /// `https://api.weixin.qq.com`.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// Sets the timeout of one exchange with WeChat's server, including the connection. Default: 5 seconds.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many times in total the layer asks WeChat's server while it is busy (`errcode` -1). The
    /// pauses grow from about 100 ms. Other errors are not retried, because a code works for one exchange.
    /// Default: 3.
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets the protocol of the mini-program. Default: [`Protocol::Wafer`].
    pub const fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Sets how long the user's data are kept after the last login with user data (version 2). During that
    /// time the user can log in with the code alone. Default: 30 days.
    pub const fn remember_users(mut self, expiry: Expiry) -> Self {
        self.remember_users = expiry;
        self
    }

    /// Checks the options and builds the layer, without input or output.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidConfig`]: an option is missing or invalid, for example an empty app id or
    ///   secret, a malformed login path, a `cover_time` above `max_age`, a device without owners, or no storage
    ///   while the feature `memory` is off.
    /// - [`ErrorKind::Unsupported`]: the storage does not support expiry or compare-and-swap.
    pub fn build(self) -> Result<WechatLayer> {
        let max_age = self.max_age.unwrap_or_else(|| self.protocol.max_age());
        self.check(max_age)?;
        let exchange = Exchange::new(
            &self.base_url,
            &self.app_id,
            self.app_secret.clone(),
            self.grant_type,
            self.timeout,
            self.attempts,
        )?;
        let store = self.store.map_or_else(default_store, Ok)?;
        larder_web_sessions::check(&store)?;
        let index = if self.owners {
            let owners = Owners::new(&store, &self.key_prefix)?;
            let owners = match self.max_per_owner {
                Some(most) => owners.with_max_per_owner(most),
                None => owners,
            };
            Some(Index { owners, owner: self.owner, device: self.device })
        } else {
            None
        };
        Ok(WechatLayer::from_config(Config {
            app_id: self.app_id,
            app_secret: self.app_secret,
            login_path: self.login_path,
            login_next: self.login_next,
            protocol: self.protocol,
            exchange,
            store: SessionStore {
                store,
                keys: Keys { prefix: Arc::from(self.key_prefix), ids: self.ids },
                max_size: self.max_size,
                max_age,
                cover_time: self.cover_time,
                remember_users: self.remember_users,
                index,
            },
        }))
    }

    fn check(&self, max_age: Duration) -> Result<()> {
        credential("app id", &self.app_id)?;
        credential("app secret", self.app_secret.expose())?;
        credential("grant type", &self.grant_type)?;
        let path = &self.login_path;
        if !path.starts_with('/') || path.contains(['?', '#']) || path.contains(char::is_whitespace) {
            return Err(configuration(
                "`login_path` must begin with `/` and contain no `?`, `#` or white space",
            ));
        }
        if max_age.is_zero() || self.cover_time > max_age {
            return Err(configuration("`max_age` must be greater than zero and at least `cover_time`"));
        }
        if self.timeout.is_zero() || self.attempts == 0 {
            return Err(configuration("`timeout` and `attempts` must be greater than zero"));
        }
        if !self.owners && (self.owner.is_some() || self.device.is_some() || self.max_per_owner.is_some()) {
            return Err(configuration("`owner_by`, `device` and `max_per_owner` need `owners`"));
        }
        if self.max_per_owner == Some(0) {
            return Err(configuration("`max_per_owner` must be greater than zero"));
        }
        Key::new(format!("{}{}", self.key_prefix, "0".repeat(ID_LENGTH))).map_err(|error| {
            configuration(format!("`key_prefix` cannot begin a key: {}", error.message()))
        })?;
        Ok(())
    }
}

/// Checks an option that is required and becomes part of a URL. The error does not contain the value.
fn credential(name: &str, value: &str) -> Result<()> {
    if value.is_empty() {
        return Err(configuration(format!("the {name} is missing")));
    }
    if value.contains(|character: char| character.is_whitespace() || character.is_control()) {
        return Err(configuration(format!("the {name} must not contain white space or control characters")));
    }
    Ok(())
}

#[cfg(feature = "memory")]
fn default_store() -> Result<Store> {
    tracing::warn!(
        "sessions are in this process's memory and end with it; call `storage` on the builder to keep them"
    );
    Ok(Store::new(larder_memory::MemoryStorage::new()))
}

#[cfg(not(feature = "memory"))]
fn default_store() -> Result<Store> {
    Err(configuration(
        "the storage is missing: call `storage` on the builder, or enable the feature `memory` of larder-wechat",
    ))
}

fn configuration(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

impl fmt::Debug for WechatBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WechatBuilder")
            .field("app_id", &self.app_id)
            .field("login_path", &self.login_path)
            .field("max_age", &self.max_age)
            .field("cover_time", &self.cover_time)
            .field("login_next", &self.login_next)
            .field("store", &self.store)
            .field("key_prefix", &self.key_prefix)
            .field("ids", &self.ids)
            .field("owners", &self.owners)
            .field("max_per_owner", &self.max_per_owner)
            .field("timeout", &self.timeout)
            .field("attempts", &self.attempts)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}
