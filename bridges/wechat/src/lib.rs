#![doc = include_str!("../README.md")]

mod body;
mod builder;
mod changes;
mod config;
mod credentials;
mod decrypt;
mod exchange;
#[cfg(feature = "axum")]
mod extract;
mod fields;
mod future;
mod index;
mod layer;
mod login;
mod names;
mod parameters;
mod places;
mod protocol;
mod refusal;
mod reply;
mod sealed;
mod secret;
mod service;
mod session;
mod store;

pub use larder_core::{Error, ErrorKind, Result};
pub use larder_web_sessions::OwnedSession;

#[cfg(feature = "axum")]
pub use crate::extract::NotLoggedIn;
pub use crate::{
    body::SessionBody, builder::WechatBuilder, future::ResponseFuture, layer::WechatLayer,
    protocol::Protocol, service::WechatService, session::Session,
};
