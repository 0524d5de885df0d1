//! The sessions of one owner.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, future::ready};
use larder_core::{Error, ErrorKind, Key, Result};

use crate::{index, sessions::Sessions};

impl<T: Send + Sync + 'static> Sessions<T> {
    /// The keys of the sessions that are `owner`'s, without the prefix, as
    /// [`owner`](crate::SessionsBuilder::owner) says; none where that is not given. The store lists
    /// the index by prefix (on Redis that scans the database), and each session is read.
    ///
    /// # Errors
    ///
    /// Those of [`Store::keys`](larder_core::Store::keys) and of [`get`](Self::get).
    pub async fn keys_of(&self, owner: &str) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        for key in self.indexed(owner).await? {
            if self.belongs_to(&key, owner).await? {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// Deletes all sessions that are `owner`'s, and says how many there were: to log a user out
    /// everywhere. One that is written while this runs may stay; run it once more when the user can no
    /// longer log in. A session that can no longer be read goes too.
    ///
    /// # Errors
    ///
    /// The first that the storage gives; run again, it goes on.
    pub async fn delete_of(&self, owner: &str) -> Result<u64> {
        let mut deleted = 0;
        for key in self.indexed(owner).await? {
            let is_theirs = match self.belongs_to(&key, owner).await {
                Err(error) if matches!(error.kind(), ErrorKind::Codec | ErrorKind::Corrupt) => true,
                is_theirs => is_theirs?,
            };
            // An entry that names no session stays: it may be one that is just being written.
            if is_theirs {
                deleted += u64::from(self.delete(&key).await?);
                self.shared.forget_owner(Some(owner), &self.key(&key)?).await;
            }
        }
        Ok(deleted)
    }

    /// What the index says. It may lag behind: a session that was replaced or deleted without being
    /// read is still named under its former owner.
    async fn indexed(&self, owner: &str) -> Result<BTreeSet<String>> {
        let begin = index::begin(&self.shared.prefix, owner);
        let length = begin.len() + self.shared.prefix.len();
        let keys = self.storage().keys(&begin);
        // The index holds no such key: it is another program's.
        let keys = keys.filter(|key| ready(!key.as_ref().is_err_and(Error::concerns_one_entry)));
        keys.map_ok(|entry| entry.as_str().get(length..).unwrap_or_default().to_owned()).try_collect().await
    }

    /// Whose the stored session is, if there is an index and it can be read.
    pub(crate) async fn indexed_owner(&self, key: &Key, stored: Option<&[u8]>) -> Option<String> {
        // Without an index nothing needs to be decoded.
        self.shared.owner.as_ref()?;
        let session = self.shared.decode(key, stored?).await.ok().flatten()?;
        self.shared.owner_of(&session.value)
    }

    async fn belongs_to(&self, key: &str, owner: &str) -> Result<bool> {
        let found = self.shared.resolver.find(&self.key(key)?).await?;
        let Some(record) = found.record else {
            return Ok(false);
        };
        let session = self.shared.decode(&found.key, &record.value).await?;
        Ok(session.is_some_and(|session| self.shared.owner_of(&session.value).as_deref() == Some(owner)))
    }
}
