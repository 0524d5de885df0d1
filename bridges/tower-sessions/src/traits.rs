//! The traits of one version of tower-sessions, `framework` of the parent module.

use std::borrow::Cow;

use larder_core::async_trait;
use larder_web_sessions::DRAWS;

use super::framework::{
    ExpiredDeletion, SessionStore,
    session::{Id, Record},
    session_store::{Error, Result},
};
use crate::{LarderStore, error::Failure, stored::Session};

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Encode(text) => Self::Encode(text),
            Failure::Decode(text) => Self::Decode(text),
            Failure::Backend(text) => Self::Backend(text),
        }
    }
}

#[async_trait]
impl SessionStore for LarderStore {
    async fn create(&self, record: &mut Record) -> Result<()> {
        for _ in 0..DRAWS {
            let session = session(record);
            if self
                .sessions
                .insert(&record.id.to_string(), &session, || session.expiry())
                .await
                .map_err(Failure::from)?
            {
                return Ok(());
            }
            record.id = Id::default();
        }
        Err(Failure::from(self.sessions.no_free_id()).into())
    }

    async fn save(&self, record: &Record) -> Result<()> {
        let session = session(record);
        let replaced = self.sessions.replace(&record.id.to_string(), &session, || session.expiry()).await;
        if replaced.map_err(Failure::from)? {
            Ok(())
        } else {
            Err(Failure::from(self.sessions.gone()).into())
        }
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let found: Option<Session<'_>> = self.sessions.find(&id.to_string()).await.map_err(Failure::from)?;
        Ok(found.map(|found| Record { id: *id, data: found.data.into_owned(), expiry_date: found.expires }))
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        Ok(self.sessions.remove::<Session<'_>>(&id.to_string()).await.map_err(Failure::from)?)
    }
}

#[async_trait]
impl ExpiredDeletion for LarderStore {
    async fn delete_expired(&self) -> Result<()> {
        Ok(self.sessions.purge().await.map_err(Failure::from)?)
    }
}

fn session(record: &Record) -> Session<'_> {
    Session { data: Cow::Borrowed(&record.data), expires: record.expiry_date }
}
