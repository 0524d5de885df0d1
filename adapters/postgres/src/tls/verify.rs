//! Verifies certificates.

use std::sync::Arc;

use larder_core::Result;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

use crate::config::{Roots, TlsMode, invalid};

pub(super) fn client_config(mode: TlsMode, roots: Option<&Roots>) -> Result<ClientConfig> {
    let provider = ring::default_provider();
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(format!("cannot set up TLS: {error}")))?;
    let roots = match (mode, roots) {
        (TlsMode::VerifyFull, roots) => Some(store(roots.unwrap_or(&Roots::Mozilla))?),
        // Anyone can get a certificate for some name from a public authority.
        (TlsMode::VerifyCa, None | Some(Roots::Mozilla)) => {
            return Err(invalid(
                "`sslmode=verify-ca` needs the root certificates of your own authority: set `sslrootcert` to a \
                 file, or use `sslmode=verify-full`",
            ));
        }
        (TlsMode::Require, Some(Roots::Mozilla)) => {
            return Err(invalid("`sslrootcert=system` needs `sslmode=verify-full`"));
        }
        (TlsMode::VerifyCa | TlsMode::Require, Some(roots)) => Some(store(roots)?),
        (TlsMode::Require, None) | (TlsMode::Prefer | TlsMode::Disable, _) => None,
    };
    let builder = match (mode, roots) {
        (TlsMode::VerifyFull, Some(roots)) => builder.with_root_certificates(roots),
        // libpq's modes `require` and `verify-ca` check less than rustls does by itself.
        (_, roots) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName { roots, algorithms }))
        }
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(config)
}

fn store(roots: &Roots) -> Result<RootCertStore> {
    let pem = match roots {
        Roots::Mozilla => return Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()),
        Roots::File(path) => &std::fs::read(path).map_err(|error| {
            invalid(format!("cannot read the file of root certificates (`sslrootcert`): {error}"))
        })?,
        Roots::Pem(pem) => pem,
    };
    let bad = || invalid("the root certificates (`sslrootcert`) are not PEM certificates");
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        store.add(certificate.map_err(|_| bad())?).map_err(|_| bad())?;
    }
    if store.is_empty() { Err(bad()) } else { Ok(store) }
}

/// Accepts a certificate with any name. With `roots`, one of them must have signed it.
#[derive(Debug)]
struct AnyName {
    roots: Option<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use super::*;

    #[test]
    fn modes_without_a_useful_check_are_rejected() {
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
