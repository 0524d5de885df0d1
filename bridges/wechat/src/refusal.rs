//! Why a request is not let in.

use std::fmt;

use http::StatusCode;
use larder_core::{Error, ErrorKind};

use crate::{decrypt::Undecryptable, exchange::ExchangeError, names};

/// Why a claim to a session is refused.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// There is no such session, or the skey is not its own. Which of them is not said.
    Invalid,
    /// It is not known whether there is one.
    Store(Error),
}

/// Why a login is refused. What `Display` says goes to the client and into the log.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The header of that name is missing.
    Missing(&'static str),
    Exchange(ExchangeError),
    Data(Undecryptable),
    /// The data name another user than the exchange did.
    OtherUser,
    /// Version 2: a login with the code alone, by somebody who has never sent user data.
    UnknownUser,
    /// With `login_next`: the service answered with an error.
    Service(StatusCode),
    /// With `login_next`: the service destroyed the session.
    Destroyed,
    Store(Error),
}

impl Refusal {
    /// The client ignores the status. What is the mini-program's or the user's own fault is said with
    /// 200, as the servers that came before do; what is ours or WeChat's is for proxies and monitors
    /// to see.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Missing(_) | Self::Data(_) | Self::OtherUser | Self::UnknownUser | Self::Destroyed => {
                StatusCode::OK
            }
            Self::Exchange(error) => match error {
                ExchangeError::Malformed | ExchangeError::Refused(_) => StatusCode::OK,
                ExchangeError::TimedOut => StatusCode::GATEWAY_TIMEOUT,
                ExchangeError::Busy | ExchangeError::Unreachable | ExchangeError::Unreadable => {
                    StatusCode::BAD_GATEWAY
                }
            },
            Self::Service(status) => *status,
            Self::Store(error) => store_status(error),
        }
    }

    /// The error's name in version 2.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Missing(_) | Self::UnknownUser => names::HEADER_MISSED,
            Self::Exchange(_) => names::GET_SESSION_KEY,
            Self::Data(_) | Self::OtherUser => names::IN_DECRYPT_DATA,
            Self::Service(_) | Self::Destroyed | Self::Store(_) => names::LOGIN_FAILED,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "the header {name} is missing"),
            Self::Exchange(error) => error.fmt(f),
            Self::Data(Undecryptable::Data) => f.write_str("the user data cannot be decrypted"),
            Self::Data(Undecryptable::Foreign) => f.write_str("the user data are not this mini-program's"),
            Self::OtherUser => f.write_str("the user data are another user's"),
            Self::UnknownUser => {
                f.write_str("this user is not known yet: log in with X-WX-Encrypted-Data and X-WX-IV")
            }
            Self::Service(status) => write!(f, "the service refused the login ({})", status.as_u16()),
            Self::Destroyed => f.write_str("the service refused the login"),
            Self::Store(_) => f.write_str(STORE),
        }
    }
}

/// What the client is told of a store that does not work; the log has the reason.
pub(crate) const STORE: &str = "the session store does not work at the moment, try again later";

/// 503 for what may pass, 500 for what somebody has to look at.
pub(crate) fn store_status(error: &Error) -> StatusCode {
    match error.kind() {
        ErrorKind::Corrupt
        | ErrorKind::Codec
        | ErrorKind::VersionTooNew
        | ErrorKind::InvalidKey
        | ErrorKind::InvalidValue
        | ErrorKind::TooLarge
        | ErrorKind::Unsupported
        | ErrorKind::InvalidConfig
        | ErrorKind::PermissionDenied => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_pass_by_itself_is_500() {
        for kind in [
            ErrorKind::Corrupt,
            ErrorKind::Codec,
            ErrorKind::VersionTooNew,
            ErrorKind::InvalidKey,
            ErrorKind::InvalidValue,
            ErrorKind::TooLarge,
            ErrorKind::Unsupported,
            ErrorKind::InvalidConfig,
            ErrorKind::PermissionDenied,
        ] {
            assert_eq!(store_status(&Error::new(kind, "no")), 500, "{kind:?}");
        }
        for kind in [
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::Conflict,
            ErrorKind::StorageFull,
            ErrorKind::Closed,
            ErrorKind::Other,
        ] {
            assert_eq!(store_status(&Error::new(kind, "no")), 503, "{kind:?}");
        }
    }
}
