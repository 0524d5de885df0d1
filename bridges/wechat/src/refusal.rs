//! Why a request is refused.

use std::fmt;

use http::StatusCode;
use larder_core::{Error, ErrorKind};

use crate::{decrypt::Undecryptable, exchange::ExchangeError, names};

/// Why a claim to a session is refused.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// The session does not exist, or the skey does not match. The client does not learn which.
    Invalid,
    /// The store failed, so the claim could not be checked.
    Store(Error),
}

/// Why a login is refused. The text from `Display` goes to the client and into the log.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The header with this name is missing.
    Missing(&'static str),
    Exchange(ExchangeError),
    Data(Undecryptable),
    /// The data name another user than WeChat's server.
    OtherUser,
    /// Version 2: a login with the code alone, and the user is not remembered.
    UnknownUser,
    /// With `login_next`: the service responded with an error.
    Service(StatusCode),
    /// With `login_next`: the service destroyed the session.
    Destroyed,
    Store(Error),
}

impl Refusal {
    /// Returns the HTTP status. The client ignores it, so it is for proxies and monitors: 200 for errors of
    /// the mini-program or the user, as in the older servers, and 5xx for errors of the service or of WeChat.
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

    /// Returns the name of the error in version 2.
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
            Self::Data(Undecryptable::Foreign) => {
                f.write_str("the user data do not belong to this mini-program")
            }
            Self::OtherUser => f.write_str("the user data belong to another user"),
            Self::UnknownUser => {
                f.write_str("the user is not remembered: log in with X-WX-Encrypted-Data and X-WX-IV")
            }
            Self::Service(status) => write!(f, "the service refused the login ({})", status.as_u16()),
            Self::Destroyed => f.write_str("the service refused the login"),
            Self::Store(_) => f.write_str(STORE),
        }
    }
}

/// The client's message for a store that fails; the reason is in the log.
pub(crate) const STORE: &str = "the session store failed, try again later";

/// Returns 503 for an error that may pass by itself, and 500 for one that the operator must fix.
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
    fn errors_that_the_operator_must_fix_are_500() {
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
