//! How a connection is made: in the clear or through TLS.

use std::{fmt, path::PathBuf};

use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use larder_core::{Error, ErrorKind, Result};
use tokio_postgres::{CancelToken, Config, NoTls, config::SslMode};

#[cfg(feature = "tls")]
mod handshake;
#[cfg(feature = "tls")]
mod verify;

/// Whether connections are encrypted, and what is checked; the names and meanings are libpq's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS if the server has it. Keeps out nobody: who sits in between can switch it off.
    #[default]
    Prefer,
    /// TLS or nothing. The certificate is checked only if a file of root certificates is given (then
    /// as with `VerifyCa`): it keeps out who listens, not who answers in the server's place.
    Require,
    /// TLS with a certificate that one of the root certificates in the file vouches for, whatever
    /// its name.
    VerifyCa,
    /// TLS with a certificate that a root certificate vouches for, and that has the host's name. The
    /// one to choose across a network that is not your own. Without a file, Mozilla's roots.
    VerifyFull,
}

impl TlsMode {
    pub(crate) const CHOICES: &[(&str, Self)] = &[
        ("disable", Self::Disable),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];

    pub(crate) const fn driver_mode(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => SslMode::Require,
        }
    }
}

/// Where root certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Mozilla's, compiled in.
    Mozilla,
    /// A PEM file.
    File(PathBuf),
    /// PEM.
    Pem(Vec<u8>),
}

/// Makes connections, and the short ones that cancel a statement.
#[derive(Clone)]
pub(crate) enum Connector {
    Plain,
    #[cfg(feature = "tls")]
    Tls(handshake::MakeConnect),
}

impl Connector {
    #[cfg(feature = "tls")]
    pub(crate) fn new(mode: TlsMode, roots: Option<&Roots>) -> Result<Self> {
        if mode == TlsMode::Disable {
            return Ok(Self::Plain);
        }
        verify::client_config(mode, roots).map(|config| Self::Tls(handshake::MakeConnect::new(config)))
    }

    #[cfg(not(feature = "tls"))]
    pub(crate) fn new(mode: TlsMode, roots: Option<&Roots>) -> Result<Self> {
        match (mode, roots) {
            (TlsMode::Disable | TlsMode::Prefer, None) => Ok(Self::Plain),
            _ => Err(configuration(
                "this build has no TLS: turn on the feature `tls` of the crate `larder` (or of `larder-postgres` \
                 where that is used by itself), or leave out `sslmode` and `sslrootcert`",
            )),
        }
    }

    pub(crate) fn manager(&self, config: Config) -> Manager {
        // No query on checkout: a connection that has broken says so when it is used.
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        match self {
            Self::Plain => Manager::from_config(config, NoTls, recycling),
            #[cfg(feature = "tls")]
            Self::Tls(connect) => Manager::from_config(config, connect.clone(), recycling),
        }
    }

    pub(crate) async fn cancel(&self, token: &CancelToken) -> Result<(), tokio_postgres::Error> {
        match self {
            Self::Plain => token.cancel_query(NoTls).await,
            #[cfg(feature = "tls")]
            Self::Tls(connect) => token.cancel_query(connect.clone()).await,
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            #[cfg(feature = "tls")]
            Self::Tls(_) => "Tls",
        })
    }
}

fn configuration(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

#[cfg(all(test, not(feature = "tls")))]
mod tests {
    use super::*;

    #[test]
    fn missing_tls_names_the_features_that_bring_it() {
        for (mode, roots) in [(TlsMode::Require, None), (TlsMode::Prefer, Some(&Roots::Mozilla))] {
            let error = Connector::new(mode, roots).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.message().contains("`tls` of the crate `larder`"), "{error}");
        }
        assert!(matches!(Connector::new(TlsMode::Prefer, None), Ok(Connector::Plain)));
    }
}
