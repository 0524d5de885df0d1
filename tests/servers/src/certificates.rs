//! The certificates of the TLS servers, created once per checkout.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// An authority, a server certificate that it signed for `localhost` and `127.0.0.1`, and another authority. All are
/// PEM.
#[derive(Clone)]
pub(crate) struct Certificates {
    pub(crate) ca_path: PathBuf,
    pub(crate) other_ca_path: PathBuf,
    pub(crate) ca: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

const CA: &str = "ca.pem";
const OTHER_CA: &str = "other-ca.pem";
const CERTIFICATE: &str = "server.pem";
const KEY: &str = "server.key";

impl Certificates {
    /// Reads them from a directory below `state`, or creates them. The shared servers keep the certificates that they
    /// were started with, so all test binaries must use the same. The caller holds the lock.
    pub(crate) fn load_or_make(state: &Path) -> io::Result<Self> {
        let directory = state.join("tls");
        if !directory.exists() {
            // Created under another name and renamed, so that it is never incomplete.
            let fresh = state.join("tls.new");
            if fresh.exists() {
                fs::remove_dir_all(&fresh)?;
            }
            fs::create_dir_all(&fresh)?;
            make(&fresh)?;
            fs::rename(&fresh, &directory)?;
        }
        Ok(Self {
            ca: fs::read_to_string(directory.join(CA))?,
            certificate: fs::read_to_string(directory.join(CERTIFICATE))?,
            key: fs::read_to_string(directory.join(KEY))?,
            ca_path: directory.join(CA),
            other_ca_path: directory.join(OTHER_CA),
        })
    }
}

fn make(directory: &Path) -> io::Result<()> {
    let (ca, issuer) = authority("Larder test CA").map_err(io::Error::other)?;
    let (other_ca, _) = authority("Another test CA").map_err(io::Error::other)?;
    let (certificate, key) = server(&issuer).map_err(io::Error::other)?;
    fs::write(directory.join(CA), ca)?;
    fs::write(directory.join(OTHER_CA), other_ca)?;
    fs::write(directory.join(CERTIFICATE), certificate)?;
    fs::write(directory.join(KEY), key)
}

fn authority(name: &str) -> Result<(String, Issuer<'static, KeyPair>), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    Ok((certificate, Issuer::new(params, key)))
}

fn server(issuer: &Issuer<'_, KeyPair>) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?.pem();
    Ok((certificate, key.serialize_pem()))
}
