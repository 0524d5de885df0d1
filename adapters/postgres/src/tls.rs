//! How a connection is made: in the clear or through TLS.

use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use larder_core::Result;
use tokio_postgres::{CancelToken, Config, NoTls, config::SslMode};
#[cfg(feature = "tls")]
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{Roots, TlsMode};

#[cfg(feature = "tls")]
mod verify;

/// Makes connections, and the short ones that cancel a statement.
#[derive(Clone)]
pub(crate) enum Connector {
    Plain,
    #[cfg(feature = "tls")]
    Tls(MakeRustlsConnect),
}

impl Connector {
    #[cfg(feature = "tls")]
    pub(crate) fn new(mode: TlsMode, roots: Option<&Roots>) -> Result<Self> {
        if mode == TlsMode::Disable {
            return Ok(Self::Plain);
        }
        verify::client_config(mode, roots).map(|config| Self::Tls(MakeRustlsConnect::new(config)))
    }

    #[cfg(not(feature = "tls"))]
    pub(crate) fn new(mode: TlsMode, roots: Option<&Roots>) -> Result<Self> {
        match (mode, roots) {
            (TlsMode::Disable | TlsMode::Prefer, None) => Ok(Self::Plain),
            _ => Err(crate::config::invalid(
                "this build has no TLS: turn on the feature `tls` of the crate `larder` (or of `larder-postgres` \
                 where that is used by itself), or leave out `sslmode` and `sslrootcert`",
            )),
        }
    }

    pub(crate) fn manager(&self, mut config: Config, mode: TlsMode) -> Manager {
        config.ssl_mode(match mode {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
        // No query on checkout: a connection that has broken says so when it is used.
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        match self {
            Self::Plain => Manager::from_config(config, NoTls, recycling),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => Manager::from_config(config, tls.clone(), recycling),
        }
    }

    pub(crate) async fn cancel(&self, token: &CancelToken) -> Result<(), tokio_postgres::Error> {
        match self {
            Self::Plain => token.cancel_query(NoTls).await,
            #[cfg(feature = "tls")]
            Self::Tls(tls) => token.cancel_query(tls.clone()).await,
        }
    }
}

#[cfg(all(test, not(feature = "tls")))]
mod tests {
    use larder_core::ErrorKind;

    use super::*;

    #[test]
    fn missing_tls_names_the_features_that_bring_it() {
        for (mode, roots) in [(TlsMode::Require, None), (TlsMode::Prefer, Some(&Roots::Mozilla))] {
            let error = Connector::new(mode, roots).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.message().contains("`tls` of the crate `larder`"), "{error}");
        }
        assert!(matches!(Connector::new(TlsMode::Prefer, None), Ok(Connector::Plain)));
    }
}
