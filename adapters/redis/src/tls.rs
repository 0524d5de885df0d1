//! Certificates for TLS.

use std::path::PathBuf;

use larder_core::Result;

use crate::error::configuration;

/// The paths of PEM files.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFiles {
    /// The authorities to trust, instead of the system's.
    pub(crate) ca: Option<PathBuf>,
    /// The client's own certificate.
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key.
    pub(crate) key: Option<PathBuf>,
}

impl TlsFiles {
    /// Refuses files that would not be used.
    pub(crate) fn check(&self, tls: bool) -> Result<()> {
        let given = self.ca.is_some() || self.certificate.is_some() || self.key.is_some();
        if given && !tls {
            return Err(configuration(
                "`tls_ca`, `tls_cert` and `tls_key` go with a URL that speaks TLS, such as `rediss://`",
            ));
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Err(configuration("`tls_cert` and `tls_key` come together"));
        }
        Ok(())
    }

    /// Reads the files. `None`: trust the system's authorities and show no certificate.
    #[cfg(feature = "tls")]
    pub(crate) fn read(&self) -> Result<Option<redis::TlsCertificates>> {
        use rustls::pki_types::{CertificateDer, pem::PemObject};

        let read = |path: &PathBuf, option: &str| {
            std::fs::read(path).map_err(|error| {
                configuration(format!("the file of `{option}` cannot be read")).with_source(error)
            })
        };
        let root_cert = self.ca.as_ref().map(|path| read(path, "tls_ca")).transpose()?;
        if let Some(pem) = &root_cert
            && !matches!(CertificateDer::pem_slice_iter(pem).next(), Some(Ok(_)))
        {
            return Err(configuration("the file of `tls_ca` holds no certificate in PEM form"));
        }
        let client_tls = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some(redis::ClientTlsConfig {
                client_cert: read(certificate, "tls_cert")?,
                client_key: read(key, "tls_key")?,
            }),
            _ => None,
        };
        let nothing = root_cert.is_none() && client_tls.is_none();
        Ok((!nothing).then_some(redis::TlsCertificates { client_tls, root_cert }))
    }
}

/// Gives rustls a default cryptography provider, ring, unless the program has chosen one. The driver
/// would panic without one.
#[cfg(feature = "tls")]
pub(crate) fn install_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // It fails if another thread was faster, and then there is a provider too.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}
