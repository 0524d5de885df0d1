//! The checked options that all requests of a layer share.

use larder_core::Key;

use crate::{
    credentials,
    exchange::Exchange,
    parameters::Claim,
    protocol::Protocol,
    refusal::Rejection,
    secret::Secret,
    store::{Loaded, SessionStore},
};

/// A layer's options.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) app_id: String,
    pub(crate) app_secret: Secret,
    pub(crate) login_path: String,
    pub(crate) login_next: bool,
    pub(crate) protocol: Protocol,
    pub(crate) exchange: Exchange,
    pub(crate) store: SessionStore,
}

/// A session whose claim is valid.
pub(crate) struct Opened {
    pub(crate) id: String,
    pub(crate) key: Key,
    pub(crate) loaded: Loaded,
}

impl Config {
    /// Returns the claimed session if the claim is valid.
    pub(crate) async fn open(&self, claim: &Claim) -> Result<Opened, Rejection> {
        let (id, skey) = self.claimed(claim).ok_or(Rejection::Invalid)?;
        let key = self.store.key(id).map_err(Rejection::Store)?;
        let loaded = self.store.load(&key, id).await.map_err(Rejection::Store)?.ok_or(Rejection::Invalid)?;
        // As in the older servers, the skey is computed from the session key; the stored skey does not count.
        let session_key = loaded.fields.session_key();
        if credentials::same(skey, &self.skey(session_key.expose())) {
            Ok(Opened { id: id.to_owned(), key, loaded })
        } else {
            Err(Rejection::Invalid)
        }
    }

    /// Returns the session's id and the skey, if both are well-formed.
    fn claimed<'a>(&self, claim: &'a Claim) -> Option<(&'a str, &'a str)> {
        let skey = claim.skey.as_ref()?.expose();
        let id = match self.protocol {
            Protocol::Wafer => claim.id.as_ref()?.expose(),
            Protocol::Wafer2 => skey,
        };
        let good = credentials::is_hex(id, self.protocol.id_length())
            && credentials::is_hex(skey, credentials::SKEY_LENGTH);
        good.then_some((id, skey))
    }

    /// Returns the skey for a session key.
    pub(crate) fn skey(&self, session_key: &str) -> String {
        match self.protocol {
            Protocol::Wafer => credentials::skey(&[&self.app_id, self.app_secret.expose(), session_key]),
            Protocol::Wafer2 => credentials::skey(&[session_key]),
        }
    }
}
