//! The checked options that all requests of a layer share.

use larder_web_sessions::Ids;

use crate::{
    credentials,
    exchange::Exchange,
    fields::{Fields, encode},
    names,
    parameters::Claim,
    places::Place,
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
    pub(crate) place: Place,
    pub(crate) loaded: Loaded,
}

impl Config {
    /// Returns the claimed session if the claim is valid.
    pub(crate) async fn open(&self, claim: &Claim) -> Result<Opened, Rejection> {
        let (id, skey) = self.claimed(claim).ok_or(Rejection::Invalid)?;
        let place = Place::new(&self.store.keys, id).map_err(Rejection::Store)?;
        let mut loaded =
            self.store.load(&place).await.map_err(Rejection::Store)?.ok_or(Rejection::Invalid)?;
        // As in the older servers, the skey is computed from the session key; the stored skey does not count.
        let session_key = loaded.fields.session_key();
        if !credentials::same(skey, &self.skey(session_key.expose())) {
            return Err(Rejection::Invalid);
        }
        if self.store.keys.ids != Ids::Plain {
            self.complete(&mut loaded.fields, id, skey).map_err(Rejection::Store)?;
        }
        Ok(Opened { place, loaded })
    }

    /// Sets the fields that are not stored under a hashed id.
    fn complete(&self, fields: &mut Fields, id: &str, skey: &str) -> larder_core::Result<()> {
        if self.protocol == Protocol::Wafer {
            fields.set(names::FIELD_ID, encode(names::FIELD_ID, id)?);
        }
        fields.set(names::FIELD_SKEY, encode(names::FIELD_SKEY, skey)?);
        Ok(())
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
