//! The layer.

use std::sync::Arc;

use tower_layer::Layer;

use crate::{WechatBuilder, WechatService, config::Config};

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
