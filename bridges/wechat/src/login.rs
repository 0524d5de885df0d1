//! The login: code, user data, session.

use larder_core::{Error, ErrorKind, Key};
use serde_json::{Map, Value, value::to_raw_value};

use crate::{
    changes::Changes,
    config::Config,
    credentials,
    decrypt::decrypt,
    exchange::Exchanged,
    fields::{Fields, Raw},
    parameters::Ticket,
    protocol::Protocol,
    refusal::Refusal,
    secret::Secret,
};

/// Somebody who may log in: the session that is going to be written.
pub(crate) struct Admitted {
    /// What names the session: the id, or in version 2 the skey.
    pub(crate) id: String,
    pub(crate) key: Key,
    pub(crate) skey: String,
    pub(crate) user_info: Raw,
    pub(crate) fields: Fields,
}

impl Config {
    /// Checks a login. Version 2 remembers the user; nothing else is written.
    pub(crate) async fn admit(&self, ticket: &Ticket) -> Result<Admitted, Refusal> {
        let code = needed(ticket.code.as_ref(), "X-WX-Code")?;
        let encrypted = match (self.protocol, &ticket.data, &ticket.iv) {
            (Protocol::Wafer2, None, None) => None,
            (_, data, iv) => {
                Some((needed(data.as_ref(), "X-WX-Encrypted-Data")?, needed(iv.as_ref(), "X-WX-IV")?))
            }
        };
        let exchanged = self.exchange.exchange(code).await.map_err(Refusal::Exchange)?;
        let user_info = match encrypted {
            Some((data, iv)) => self.sent_user(&exchanged, data, iv).await?,
            None => self.known_user(&exchanged).await?,
        };
        self.admitted(exchanged.session_key.expose(), user_info).map_err(Refusal::Store)
    }

    async fn sent_user(&self, exchanged: &Exchanged, data: &str, iv: &str) -> Result<Raw, Refusal> {
        let mut user =
            decrypt(&self.app_id, exchanged.session_key.expose(), data, iv).map_err(Refusal::Data)?;
        // `wx.getUserProfile` leaves it out of what it encrypts, but the exchange says it.
        if let Some(open_id) = &exchanged.open_id {
            user.entry("openId").or_insert_with(|| open_id.as_str().into());
        }
        let open_id = user.get("openId").and_then(Value::as_str).map(str::to_owned);
        let info = raw(&user).map_err(Refusal::Store)?;
        if let (Protocol::Wafer2, Some(open_id)) = (self.protocol, open_id) {
            self.store.remember(&open_id, &info).await.map_err(Refusal::Store)?;
        }
        Ok(info)
    }

    async fn known_user(&self, exchanged: &Exchanged) -> Result<Raw, Refusal> {
        let open_id = exchanged.open_id.as_deref().ok_or(Refusal::UnknownUser)?;
        self.store.user(open_id).await.map_err(Refusal::Store)?.ok_or(Refusal::UnknownUser)
    }

    fn admitted(&self, session_key: &str, user_info: Raw) -> Result<Admitted, Error> {
        let skey = self.skey(session_key);
        let (id, own) = match self.protocol {
            Protocol::Wafer => {
                let id = credentials::new_id()?;
                (id.clone(), Some(id))
            }
            Protocol::Wafer2 => (skey.clone(), None),
        };
        let key = self.store.key(&id)?;
        let fields = Fields::new(own.as_deref(), &skey, session_key, user_info.clone())?;
        Ok(Admitted { id, key, skey, user_info, fields })
    }

    /// The fields that the session will have: in version 2 there may be one already.
    pub(crate) async fn preview(&self, admitted: &Admitted) -> Result<Fields, Error> {
        let fields = admitted.fields.clone();
        match self.protocol {
            Protocol::Wafer => Ok(fields),
            Protocol::Wafer2 => Ok(match self.store.load(&admitted.key, &admitted.id).await? {
                Some(there) => fields.or(there.fields),
                None => fields,
            }),
        }
    }

    /// Writes the session.
    pub(crate) async fn establish(&self, admitted: &Admitted, changes: &Changes) -> Result<(), Error> {
        let Admitted { id, key, fields, .. } = admitted;
        match self.protocol {
            Protocol::Wafer => self.store.create(key, fields, changes).await,
            Protocol::Wafer2 => self.store.establish(key, id, fields, changes).await,
        }
    }
}

fn needed<'a>(value: Option<&'a Secret>, name: &'static str) -> Result<&'a str, Refusal> {
    value.map(Secret::expose).ok_or(Refusal::Missing(name))
}

fn raw(user: &Map<String, Value>) -> Result<Raw, Error> {
    to_raw_value(user).map_err(|_| Error::new(ErrorKind::Codec, "the user data cannot be written as JSON"))
}
