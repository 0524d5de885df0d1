//! Makes connections, with or without TLS.

use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use larder_core::Result;
use tokio_postgres::{Config, config::SslMode};

use crate::config::{Roots, TlsMode};

#[cfg(feature = "tls")]
mod verify;

/// Makes connections, including the short ones that cancel a statement.
#[cfg(feature = "tls")]
pub(crate) type Connector = tokio_postgres_rustls::MakeRustlsConnect;
#[cfg(not(feature = "tls"))]
pub(crate) type Connector = tokio_postgres::NoTls;

#[cfg(feature = "tls")]
pub(crate) fn connector(mode: TlsMode, roots: Option<&Roots>) -> Result<Connector> {
    verify::client_config(mode, roots).map(Connector::new)
}

#[cfg(not(feature = "tls"))]
pub(crate) fn connector(mode: TlsMode, roots: Option<&Roots>) -> Result<Connector> {
    match (mode, roots) {
        (TlsMode::Disable | TlsMode::Prefer, None) => Ok(tokio_postgres::NoTls),
        _ => Err(crate::config::invalid(
            "this program was built without TLS: enable the feature `tls` of the crate `larder` (or of \
             `larder-postgres` if you use that directly), or remove `sslmode` and `sslrootcert`",
        )),
    }
}

pub(crate) fn manager(mut config: Config, mode: TlsMode, connector: &Connector) -> Manager {
    config.ssl_mode(match mode {
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Prefer => SslMode::Prefer,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
    });
    // No query on checkout: a broken connection is detected when it is used.
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    Manager::from_config(config, Connector::clone(connector), recycling)
}

#[cfg(all(test, not(feature = "tls")))]
mod tests {
    use larder_core::ErrorKind;

    use super::*;

    #[test]
    fn errors_for_missing_tls_name_the_feature() {
        for (mode, roots) in [(TlsMode::Require, None), (TlsMode::Prefer, Some(&Roots::Mozilla))] {
            let error = connector(mode, roots).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.message().contains("`tls` of the crate `larder`"), "{error}");
        }
        assert!(connector(TlsMode::Prefer, None).is_ok());
    }
}
