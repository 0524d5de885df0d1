//! rustls under the driver.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use ring::digest;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};
use tokio_rustls::TlsConnector;

#[derive(Clone)]
pub(crate) struct MakeConnect(TlsConnector);

impl MakeConnect {
    pub(super) fn new(config: ClientConfig) -> Self {
        Self(TlsConnector::from(Arc::new(config)))
    }
}

impl<S> MakeTlsConnect<S> for MakeConnect
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type TlsConnect = Connect;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Connect> {
        // An empty one is a socket in the file system, where no handshake will take place.
        let host = if host.is_empty() { "localhost" } else { host };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the host is no name that TLS knows"))?;
        Ok(Connect { connector: self.0.clone(), name })
    }
}

pub(crate) struct Connect {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl<S> TlsConnect<S> for Connect
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { self.connector.connect(self.name, stream).await.map(Stream) })
    }
}

pub(crate) struct Stream<S>(tokio_rustls::client::TlsStream<S>);

impl<S> tokio_postgres::tls::TlsStream for Stream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Ties the password exchange to this very certificate (RFC 5929), so that no one in between can
    /// hand it on.
    fn channel_binding(&self) -> ChannelBinding {
        let (_, session) = self.0.get_ref();
        let certificate = session.peer_certificates().and_then(|chain| chain.first());
        match certificate.and_then(|der| Some((der, signature_digest(der)?))) {
            Some((der, algorithm)) => {
                ChannelBinding::tls_server_end_point(digest::digest(algorithm, der).as_ref().to_vec())
            }
            None => ChannelBinding::none(),
        }
    }
}

/// The digest of the certificate's own signature, SHA-256 instead of an older one; `None` for
/// signatures that have none of their own (Ed25519), for which no channel binding is defined.
fn signature_digest(certificate: &[u8]) -> Option<&'static digest::Algorithm> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
    let (0x30, certificate, _) = element(certificate)? else { return None };
    let (0x30, _, after_contents) = element(certificate)? else { return None };
    let (0x30, algorithm, _) = element(after_contents)? else { return None };
    let (0x06, name, _) = element(algorithm)? else { return None };
    let rest = name.strip_prefix(RSA).or_else(|| name.strip_prefix(ECDSA))?;
    match (name.starts_with(RSA), rest) {
        // RSA with MD5, SHA-1, SHA-256; ECDSA with SHA-1, SHA-256.
        (true, [4 | 5 | 11]) | (false, [1] | [3, 2]) => Some(&digest::SHA256),
        (true, [12]) | (false, [3, 3]) => Some(&digest::SHA384),
        (true, [13]) | (false, [3, 4]) => Some(&digest::SHA512),
        _ => None,
    }
}

/// The first element of some DER: its tag, its contents, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (contents, after) = rest.split_at_checked(length)?;
    Some((tag, contents, after))
}

impl<S> AsyncRead for Stream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S> AsyncWrite for Stream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: &[u8]) -> Vec<u8> {
        let wrap = |tag: u8, contents: &[u8]| {
            let mut der = vec![tag, 0x82, 0, u8::try_from(contents.len()).unwrap()];
            der.extend_from_slice(contents);
            der
        };
        let algorithm = wrap(0x30, &wrap(0x06, name));
        wrap(0x30, &[wrap(0x30, b"contents"), algorithm, wrap(0x03, b"signature")].concat())
    }

    #[test]
    fn the_digest_is_that_of_the_signature() {
        let rsa_sha512 = certificate(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 13]);
        assert_eq!(signature_digest(&rsa_sha512), Some(&digest::SHA512));
        let ecdsa_sha256 = certificate(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 3, 2]);
        assert_eq!(signature_digest(&ecdsa_sha256), Some(&digest::SHA256));
        let ed25519 = certificate(&[0x2b, 0x65, 0x70]);
        assert_eq!(signature_digest(&ed25519), None);
    }

    #[test]
    fn broken_certificates_have_no_digest() {
        let whole = certificate(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 3, 2]);
        for end in 0..whole.len() {
            assert_eq!(signature_digest(&whole[..end]), None);
        }
    }
}
