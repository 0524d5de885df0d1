//! The login: from the code and the user data to the session.

use larder_core::{Error, ErrorKind};
use larder_web_sessions::DRAWS;
use serde_json::{Map, Value, value::to_raw_value};

use crate::{
    changes::Changes,
    config::Config,
    credentials,
    decrypt::decrypt,
    exchange::Exchanged,
    fields::{Fields, Raw, encode},
    index::Login,
    names,
    parameters::Ticket,
    places::Place,
    protocol::Protocol,
    refusal::Refusal,
    secret::Secret,
};

/// An accepted login: the session that will be written.
pub(crate) struct Admitted {
    /// Of the id, or in version 2 of the skey.
    pub(crate) place: Place,
    pub(crate) skey: String,
    pub(crate) user_info: Raw,
    pub(crate) fields: Fields,
}

impl Config {
    /// Checks a login. Writes nothing, except that version 2 remembers the user.
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
        identify(&mut user, exchanged)?;
        let info = raw(&user).map_err(Refusal::Store)?;
        if self.protocol == Protocol::Wafer2 {
            self.store.remember(&exchanged.open_id, &info).await.map_err(Refusal::Store)?;
        }
        Ok(info)
    }

    async fn known_user(&self, exchanged: &Exchanged) -> Result<Raw, Refusal> {
        self.store.user(&exchanged.open_id).await.map_err(Refusal::Store)?.ok_or(Refusal::UnknownUser)
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
        let place = Place::new(&self.store.keys, &id)?;
        let fields = Fields::new(own.as_deref(), &skey, session_key, user_info.clone())?;
        Ok(Admitted { place, skey, user_info, fields })
    }

    /// Returns the fields that the session will have. In version 2 the session may already exist.
    pub(crate) async fn preview(&self, admitted: &Admitted) -> Result<Fields, Error> {
        let fields = admitted.fields.clone();
        match self.protocol {
            Protocol::Wafer => Ok(fields),
            Protocol::Wafer2 => Ok(match self.store.load(&admitted.place).await? {
                Some(there) => fields.or(there.fields),
                None => fields,
            }),
        }
    }

    /// Writes the session.
    pub(crate) async fn establish(
        &self,
        admitted: &mut Admitted,
        changes: &Changes,
        login: &Login,
    ) -> Result<(), Error> {
        match self.protocol {
            Protocol::Wafer => self.create(admitted, changes, login).await,
            Protocol::Wafer2 => self.store.establish(&admitted.place, &admitted.fields, changes, login).await,
        }
    }

    /// Writes a new session. If the id is taken, tries other ids.
    async fn create(&self, admitted: &mut Admitted, changes: &Changes, login: &Login) -> Result<(), Error> {
        // With `login_next` the service has seen the id, and may have stored it.
        let draws = if self.login_next { 1 } else { DRAWS };
        for _ in 1..draws {
            match self.store.create(&admitted.place, &admitted.fields, changes, login).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                outcome => return outcome,
            }
            let id = credentials::new_id()?;
            admitted.fields.set(names::FIELD_ID, encode(names::FIELD_ID, &id)?);
            admitted.place = Place::new(&self.store.keys, &id)?;
        }
        self.store.create(&admitted.place, &admitted.fields, changes, login).await
    }
}

/// Sets the ids that WeChat's server returned. The user data may lack them (as with `wx.getUserProfile`) but
/// must not contradict them: the data are not signed, and a client that chooses the IV can change their first
/// block.
fn identify(user: &mut Map<String, Value>, exchanged: &Exchanged) -> Result<(), Refusal> {
    for (name, id) in [("openId", Some(&exchanged.open_id)), ("unionId", exchanged.union_id.as_ref())] {
        let Some(id) = id else { continue };
        let other = user.insert(name.to_owned(), id.as_str().into());
        if other.is_some_and(|other| other != *id) {
            return Err(Refusal::OtherUser);
        }
    }
    Ok(())
}

fn needed<'a>(value: Option<&'a Secret>, name: &'static str) -> Result<&'a str, Refusal> {
    value.map(Secret::expose).ok_or(Refusal::Missing(name))
}

fn raw(user: &Map<String, Value>) -> Result<Raw, Error> {
    to_raw_value(user).map_err(|_| Error::new(ErrorKind::Codec, "the user data cannot be written as JSON"))
}
