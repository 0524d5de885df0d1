//! The layer.

use std::sync::Arc;

use larder_core::Result;
use tower_layer::Layer;

use crate::{OwnedSession, WechatBuilder, WechatService, config::Config};

/// Adds mini-program sessions to a service: see the crate's documentation.
///
/// Clones are cheap and share everything. `Debug` prints the app id, not the secret.
#[derive(Clone, Debug)]
pub struct WechatLayer {
    config: Arc<Config>,
}

impl WechatLayer {
    /// Returns a builder for the mini-program with this id. The id and the secret are on
    /// [mp.weixin.qq.com](https://mp.weixin.qq.com) under development settings. All other options have
    /// defaults.
    pub fn builder(app_id: impl Into<String>, app_secret: impl Into<String>) -> WechatBuilder {
        WechatBuilder::new(app_id.into(), app_secret.into())
    }

    /// Returns the sessions of `owner`, in the order of their logins, for a page that lists the devices of a user.
    /// One batch of 16 reads, and one batch that reads the sessions. Needs the index of
    /// [`owners`](WechatBuilder::owners).
    ///
    /// # Errors
    ///
    /// Those of reading; [`Unsupported`](larder_core::ErrorKind::Unsupported) without the index;
    /// [`Codec`](larder_core::ErrorKind::Codec) if another program has stored something under a key of the index.
    pub async fn sessions_of(&self, owner: &str) -> Result<Vec<OwnedSession>> {
        self.config.store.sessions_of(owner).await
    }

    /// Deletes all sessions of `owner`, to log out a user everywhere. Returns their number. (A session that
    /// [moves](WechatBuilder::migrating_plain_ids) at the same time can count twice.)
    ///
    /// It is final: a request that is running drops its changes. But the mini-program logs in again by itself. If
    /// the user must stay out, let [`login_next`](WechatBuilder::login_next) refuse the login.
    ///
    /// # Errors
    ///
    /// As [`sessions_of`](Self::sessions_of): the first error, after the other sessions were deleted. A second call
    /// continues.
    pub async fn delete_by_owner(&self, owner: &str) -> Result<u64> {
        self.config.store.delete_owned(owner, |_| true).await
    }

    /// Deletes all sessions of `owner` except the one with this [handle](crate::Session::handle), to log out a user
    /// everywhere else; otherwise like [`delete_by_owner`](Self::delete_by_owner).
    ///
    /// # Errors
    ///
    /// Those of [`delete_by_owner`](Self::delete_by_owner).
    pub async fn delete_others_by_owner(&self, owner: &str, handle: &str) -> Result<u64> {
        self.config.store.delete_owned(owner, |other| other != handle).await
    }

    /// Deletes the session of `owner` with this [handle](OwnedSession::handle). Returns whether there was one. A
    /// session of another owner stays, so `handle` may come from a request.
    ///
    /// # Errors
    ///
    /// Those of [`delete_by_owner`](Self::delete_by_owner).
    pub async fn delete_session_of(&self, owner: &str, handle: &str) -> Result<bool> {
        Ok(self.config.store.delete_owned(owner, |other| other == handle).await? > 0)
    }

    pub(crate) fn from_config(config: Config) -> Self {
        Self { config: Arc::new(config) }
    }
}

impl<S> Layer<S> for WechatLayer {
    type Service = WechatService<S>;

    fn layer(&self, inner: S) -> WechatService<S> {
        WechatService::new(inner, Arc::clone(&self.config))
    }
}
