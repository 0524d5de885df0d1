//! Which certificates are accepted.

use std::{fmt, sync::Arc};

use larder_core::{Error, Result};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use crate::config::{Roots, TlsMode, invalid};

pub(super) fn client_config(mode: TlsMode, roots: Option<&Roots>) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let checks = checks(mode, roots, &provider)?;
    let verifier = Arc::new(Verifier { checks, provider: Arc::clone(&provider) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(format!("TLS cannot be set up: {error}")))?
        // Not rustls' own verifier, since libpq's modes `require` and `verify-ca` check less.
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(config)
}

/// What is checked about a certificate.
enum Checks {
    Nothing,
    Chain(Arc<WebPkiServerVerifier>),
    ChainAndName(Arc<WebPkiServerVerifier>),
}

fn checks(mode: TlsMode, roots: Option<&Roots>, provider: &Arc<CryptoProvider>) -> Result<Checks> {
    let chain = |roots: &Roots| {
        WebPkiServerVerifier::builder_with_provider(Arc::new(store(roots)?), Arc::clone(provider))
            .build()
            .map_err(|error| invalid(format!("the root certificates cannot be used: {error}")))
    };
    match (mode, roots) {
        (TlsMode::VerifyFull, roots) => chain(roots.unwrap_or(&Roots::Mozilla)).map(Checks::ChainAndName),
        // Anybody can get a certificate, for some name, from a public authority.
        (TlsMode::VerifyCa, None | Some(Roots::Mozilla)) => Err(invalid(
            "sslmode=verify-ca needs the root certificates of your own authority: give `sslrootcert=FILE`, \
             or use sslmode=verify-full",
        )),
        (TlsMode::Require, Some(Roots::Mozilla)) => {
            Err(invalid("sslrootcert=system goes with sslmode=verify-full"))
        }
        (TlsMode::VerifyCa | TlsMode::Require, Some(roots)) => chain(roots).map(Checks::Chain),
        (TlsMode::Require, None) | (TlsMode::Prefer | TlsMode::Disable, _) => Ok(Checks::Nothing),
    }
}

fn store(roots: &Roots) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::Mozilla => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Roots::File(path) => {
            let pem = std::fs::read(path).map_err(|error| {
                invalid(format!("the file of root certificates (sslrootcert) cannot be read: {error}"))
            })?;
            add(&mut store, &pem)?;
        }
        Roots::Pem(pem) => add(&mut store, pem)?,
    }
    Ok(store)
}

fn add(store: &mut RootCertStore, pem: &[u8]) -> Result<()> {
    let bad = || -> Error { invalid("the root certificates (sslrootcert) are not PEM certificates") };
    for certificate in CertificateDer::pem_slice_iter(pem) {
        store.add(certificate.map_err(|_| bad())?).map_err(|_| bad())?;
    }
    if store.is_empty() { Err(bad()) } else { Ok(()) }
}

struct Verifier {
    checks: Checks,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.checks {
            Checks::Nothing => Ok(ServerCertVerified::assertion()),
            Checks::ChainAndName(chain) => {
                chain.verify_server_cert(end_entity, intermediates, name, ocsp, now)
            }
            // The name is the last thing that is checked: who fails there has a good chain.
            Checks::Chain(chain) => {
                match chain.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
                    Err(rustls::Error::InvalidCertificate(
                        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                    )) => Ok(ServerCertVerified::assertion()),
                    verified => verified,
                }
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use super::*;

    #[test]
    fn modes_that_would_check_nothing_of_use_are_refused() {
        for (mode, roots) in [
            (TlsMode::VerifyCa, None),
            (TlsMode::VerifyCa, Some(Roots::Mozilla)),
            (TlsMode::Require, Some(Roots::Mozilla)),
            (TlsMode::VerifyFull, Some(Roots::File("/there/is/no/such/file".into()))),
            (TlsMode::VerifyFull, Some(Roots::Pem(b"not a certificate".to_vec()))),
        ] {
            let error = client_config(mode, roots.as_ref()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{mode:?}");
        }
        for mode in [TlsMode::Prefer, TlsMode::Require, TlsMode::VerifyFull] {
            client_config(mode, None).unwrap();
        }
    }
}
