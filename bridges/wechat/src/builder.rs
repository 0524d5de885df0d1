//! How the layer is set up.

use std::{fmt, time::Duration};

use larder_core::{Error, ErrorKind, Expiry, Key, Result, Store};

use crate::{
    Protocol, WechatLayer, config::Config, credentials::ID_LENGTH, exchange::Exchange, secret::Secret,
    store::SessionStore,
};

/// WeChat's server.
const BASE_URL: &str = "https://api.weixin.qq.com";
/// How long version 2 knows a user who does not come back.
const REMEMBER: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Sets up a [`WechatLayer`]. Only the app id and secret have no default. The options are those of
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
            base_url: BASE_URL.to_owned(),
            timeout: Duration::from_secs(5),
            attempts: 3,
            protocol: Protocol::Wafer,
            remember_users: Expiry::After(REMEMBER),
        }
    }

    /// Where the sessions are kept: a [`Store`], such as `larder::open` and the adapters return, or a
    /// storage that makes one. It needs expiry and compare-and-swap; every adapter of Larder has both in its own layout.
    /// Without a storage they are in this process's memory (with the crate's feature `memory`) and end
    /// with it, and a warning says so.
    pub fn storage(mut self, storage: impl Into<Store>) -> Self {
        self.store = Some(storage.into());
        self
    }

    /// The path on which clients log in, `/api/login` by default. Compared as it is, with no regard to
    /// a trailing slash or percent signs, and as the layer sees it: what axum's `nest` has cut off in
    /// front of it is no part of it. (A nested router's layers see only what its routes serve, so that
    /// there has to be one for the login path.)
    pub fn login_path(mut self, path: impl Into<String>) -> Self {
        self.login_path = path.into();
        self
    }

    /// How long a session lives after it was last written: an hour by default (in version 2 two
    /// hours).
    pub const fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age);
        self
    }

    /// A session that has this much time left, or less, lives for `max_age` again from the request
    /// that finds it so (mp-session-koa2's `coverTime`). Zero, the default, extends none; `max_age`
    /// extends with every request. The read asks for the remaining time too.
    pub const fn cover_time(mut self, cover_time: Duration) -> Self {
        self.cover_time = cover_time;
        self
    }

    /// Passes a login on to the service before the session is written, with the new
    /// [`Session`](crate::Session) as an extension of the request: to prepare the user's data, or to
    /// refuse the user. The service's answer is not sent. If it is an error (a status of 400 or more,
    /// also 404 where nothing serves the login path, which mp-session-koa2 lets pass), or if the
    /// session is destroyed, the login is refused; otherwise the session is written, with what the
    /// service has put into it. Off by default.
    pub const fn login_next(mut self, login_next: bool) -> Self {
        self.login_next = login_next;
        self
    }

    /// What the sessions' keys begin with: `session:` by default, as with mp-session-koa2. Its
    /// `setKey("shop")` is `key_prefix("shop:")` here: it adds the colon by itself.
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// What the exchange asks for: `authorization_code`, the one that WeChat knows.
    pub fn grant_type(mut self, grant_type: impl Into<String>) -> Self {
        self.grant_type = grant_type.into();
        self
    }

    /// WeChat's server, `https://api.weixin.qq.com` by default, or one that stands in for it: an
    /// `http` or `https` URL, with a path if there is one in front of `/sns/jscode2session`. The app
    /// secret goes there.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// How long one exchange with WeChat's server may take, connecting included: 5 seconds by default.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often WeChat's server is asked in all if it says that it is busy (`errcode` -1): 3 times by
    /// default, at growing intervals that begin with about 100 ms. Nothing else is asked twice, since
    /// a code is good for one exchange.
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Which protocol the mini-program speaks: [`Protocol::Wafer`] by default.
    pub const fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// How long after the last login with user data a user can log in with the code alone (version 2):
    /// 30 days by default. The user's data are kept for so long.
    pub const fn remember_users(mut self, expiry: Expiry) -> Self {
        self.remember_users = expiry;
        self
    }

    /// Checks it all. Nothing is read or written, and nobody is asked.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if something is missing or does not fit: no app id or secret, a
    /// login path that is none, a `cover_time` beyond `max_age`, no storage where the feature `memory`
    /// is off; [`ErrorKind::Unsupported`] for a storage without expiry or compare-and-swap.
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
        check_store(&store)?;
        Ok(WechatLayer::from_config(Config {
            app_id: self.app_id,
            app_secret: self.app_secret,
            login_path: self.login_path,
            login_next: self.login_next,
            protocol: self.protocol,
            exchange,
            store: SessionStore {
                store,
                prefix: self.key_prefix,
                max_age,
                cover_time: self.cover_time,
                remember_users: self.remember_users,
            },
        }))
    }

    fn check(&self, max_age: Duration) -> Result<()> {
        credential("app id", &self.app_id)?;
        credential("app secret", self.app_secret.expose())?;
        credential("grant type", &self.grant_type)?;
        let path = &self.login_path;
        if !path.starts_with('/') || path.contains(['?', '#']) || path.contains(char::is_whitespace) {
            return Err(configuration("the login path begins with `/` and has no query"));
        }
        if max_age.is_zero() || self.cover_time > max_age {
            return Err(configuration("the maximal age is more than zero, and at least the cover time"));
        }
        if self.timeout.is_zero() || self.attempts == 0 {
            return Err(configuration("WeChat's server is asked at least once, and given some time"));
        }
        Key::new(format!("{}{}", self.key_prefix, "0".repeat(ID_LENGTH))).map_err(|error| {
            configuration(format!("the key prefix cannot begin a key: {}", error.message()))
        })?;
        Ok(())
    }
}

/// Something that is needed and goes into a URL. The value is not printed.
fn credential(what: &str, value: &str) -> Result<()> {
    if value.is_empty() {
        return Err(configuration(format!("the {what} is missing")));
    }
    if value.contains(|character: char| character.is_whitespace() || character.is_control()) {
        return Err(configuration(format!("the {what} has white space or a control character in it")));
    }
    Ok(())
}

fn check_store(store: &Store) -> Result<()> {
    let info = store.info();
    if info.expiry && info.conditions() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!(
            "the storage `{}` has no expiry or no compare-and-swap; sessions need both: take another",
            info.name
        ),
    ))
}

#[cfg(feature = "memory")]
fn default_store() -> Result<Store> {
    tracing::warn!(
        "sessions are kept in this process's memory and end with it; give the builder a storage to keep them"
    );
    Ok(Store::new(larder_memory::MemoryStorage::new()))
}

#[cfg(not(feature = "memory"))]
fn default_store() -> Result<Store> {
    Err(configuration(
        "there is no storage: give the builder one, or turn on the feature `memory` of larder-wechat",
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
            .field("timeout", &self.timeout)
            .field("attempts", &self.attempts)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}
