//! The two protocols.

use std::time::Duration;

use crate::credentials::{ID_LENGTH, SKEY_LENGTH};

/// The protocol between the mini-program and the service. The two are not compatible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// Version 1: [wafer-client-sdk](https://www.npmjs.com/package/wafer-client-sdk), with the servers
    /// wafer-node-session and [mp-session-koa2](https://github.com/04swjxy/mp-session-koa2). A session has an
    /// id and an skey.
    #[default]
    Wafer,
    /// Version 2: [wafer2-client-sdk](https://www.npmjs.com/package/wafer2-client-sdk). The skey alone
    /// identifies the session, and a remembered user can log in with the code alone.
    Wafer2,
}

impl Protocol {
    /// Returns the default of `max_age`.
    pub(crate) const fn max_age(self) -> Duration {
        match self {
            Self::Wafer => Duration::from_secs(3600),
            Self::Wafer2 => Duration::from_secs(7200),
        }
    }

    /// Returns the length of a session's id.
    pub(crate) const fn id_length(self) -> usize {
        match self {
            Self::Wafer => ID_LENGTH,
            Self::Wafer2 => SKEY_LENGTH,
        }
    }
}
