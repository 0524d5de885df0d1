//! The traits of one version of tower-sessions, `framework` of the parent module.

use std::borrow::Cow;

use larder_core::async_trait;

use super::framework::{
    ExpiredDeletion, SessionStore,
    session::{Id, Record},
    session_store::{Error, Result},
};
use crate::{LarderStore, error::Failure, stored::Session};

/// The maximal number of ids to try for a new session. A random id is free unless an attacker has planted it;
/// a storage where this many are taken is broken.
const DRAWS: usize = 8;

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
        let mut drawn = 1;
        while !self.insert(&record.id.to_string(), &session(record)).await? {
            if drawn == DRAWS {
                return Err(self.no_free_id().into());
            }
            record.id = Id::default();
            drawn += 1;
        }
        Ok(())
    }

    async fn save(&self, record: &Record) -> Result<()> {
        Ok(self.replace(&record.id.to_string(), &session(record)).await?)
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let found = self.find(&id.to_string()).await?;
        Ok(found.map(|found| Record { id: *id, data: found.data.into_owned(), expiry_date: found.expires }))
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        Ok(self.remove(&id.to_string()).await?)
    }
}

#[async_trait]
impl ExpiredDeletion for LarderStore {
    async fn delete_expired(&self) -> Result<()> {
        Ok(self.purge().await?)
    }
}

fn session(record: &Record) -> Session<'_> {
    Session { data: Cow::Borrowed(&record.data), expires: record.expiry_date }
}
