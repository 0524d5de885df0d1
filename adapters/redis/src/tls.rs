//! Reads certificates for TLS.

use std::path::PathBuf;

use larder_core::Result;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::{config::Config, error::configuration};

impl Config {
    /// Reads the files. Returns `None` to trust the system's authorities and send no certificate.
    pub(crate) fn certificates(&self) -> Result<Option<redis::TlsCertificates>> {
        let read = |path: &Option<PathBuf>, option: &str| {
            let contents = path.as_ref().map(std::fs::read).transpose();
            contents.map_err(|error| {
                configuration(format!("cannot read the file of the option `{option}`")).with_source(error)
            })
        };
        let root_cert = read(&self.tls_ca, "tls_ca")?;
        if let Some(pem) = &root_cert
            && !matches!(CertificateDer::pem_slice_iter(pem).next(), Some(Ok(_)))
        {
            return Err(configuration("the file of the option `tls_ca` does not contain a PEM certificate"));
        }
        let own = read(&self.tls_cert, "tls_cert")?.zip(read(&self.tls_key, "tls_key")?);
        let client_tls =
            own.map(|(client_cert, client_key)| redis::ClientTlsConfig { client_cert, client_key });
        let given = root_cert.is_some() || client_tls.is_some();
        Ok(given.then_some(redis::TlsCertificates { client_tls, root_cert }))
    }
}

/// Installs ring as the default cryptography provider of rustls, unless the program has installed one. Without a
/// default the driver would panic.
pub(crate) fn install_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails if another thread has just installed one, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}
