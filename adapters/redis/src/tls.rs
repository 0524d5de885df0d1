//! Certificates for TLS.

use std::path::PathBuf;

use larder_core::Result;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::{config::Config, error::configuration};

impl Config {
    /// Reads the files. `None`: trust the system's authorities and show no certificate.
    pub(crate) fn certificates(&self) -> Result<Option<redis::TlsCertificates>> {
        let read = |path: &Option<PathBuf>, option: &str| {
            let contents = path.as_ref().map(std::fs::read).transpose();
            contents.map_err(|error| {
                configuration(format!("the file of `{option}` cannot be read")).with_source(error)
            })
        };
        let root_cert = read(&self.tls_ca, "tls_ca")?;
        if let Some(pem) = &root_cert
            && !matches!(CertificateDer::pem_slice_iter(pem).next(), Some(Ok(_)))
        {
            return Err(configuration("the file of `tls_ca` holds no certificate in PEM form"));
        }
        let own = read(&self.tls_cert, "tls_cert")?.zip(read(&self.tls_key, "tls_key")?);
        let client_tls =
            own.map(|(client_cert, client_key)| redis::ClientTlsConfig { client_cert, client_key });
        let given = root_cert.is_some() || client_tls.is_some();
        Ok(given.then_some(redis::TlsCertificates { client_tls, root_cert }))
    }
}

/// Gives rustls a default cryptography provider, ring, unless the program has chosen one. The driver
/// would panic without one.
pub(crate) fn install_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // It fails if another thread was faster, and then there is a provider too.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}
