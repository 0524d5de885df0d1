//! The sessions of one owner.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, future::ready};
use larder_core::{Error, ErrorKind, Key, Result};

use crate::{index, sessions::Sessions};

impl<T: Send + Sync + 'static> Sessions<T> {
    /// Returns the keys of `owner`'s sessions, without the prefix. Empty unless the builder's
    /// [`owner`](crate::SessionsBuilder::owner) is set. The store lists the index by prefix (Redis scans the
    /// database), and each session is read.
    ///
    /// # Errors
    ///
    /// Those of [`Store::keys`](larder_core::Store::keys) and of [`get`](Self::get).
    pub async fn keys_by_owner(&self, owner: &str) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        for key in self.indexed(owner).await? {
            if self.belongs_to(&key, owner).await? {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// Deletes all sessions of `owner`, to log out a user everywhere. Returns their number. A session that is
    /// written at the same time can stay: block the user's login first. An unreadable session is deleted too.
    ///
    /// # Errors
    ///
    /// The first error of the storage. A second call continues.
    pub async fn delete_by_owner(&self, owner: &str) -> Result<u64> {
        let mut deleted = 0;
        for key in self.indexed(owner).await? {
            let is_theirs = match self.belongs_to(&key, owner).await {
                Err(error) if matches!(error.kind(), ErrorKind::Codec | ErrorKind::Corrupt) => true,
                is_theirs => is_theirs?,
            };
            // An entry without a session stays: the session may be about to be written.
            if is_theirs {
                deleted += u64::from(self.delete(&key).await?);
                self.shared.forget_owner(Some(owner), &self.key(&key)?).await;
            }
        }
        Ok(deleted)
    }

    /// Returns the keys in the index. It can be stale: a session that was replaced or deleted without a read
    /// stays under its former owner.
    async fn indexed(&self, owner: &str) -> Result<BTreeSet<String>> {
        let begin = index::begin(&self.shared.prefix, owner);
        let length = begin.len() + self.shared.prefix.len();
        let keys = self.storage().keys(&begin);
        // The index has no such key: another program wrote it.
        let keys = keys.filter(|key| ready(!key.as_ref().is_err_and(Error::concerns_one_entry)));
        keys.map_ok(|entry| entry.as_str().get(length..).unwrap_or_default().to_owned()).try_collect().await
    }

    /// Returns the owner of the stored session, if there is an index and the session is readable.
    pub(crate) async fn indexed_owner(&self, key: &Key, stored: Option<&[u8]>) -> Option<String> {
        // Without an index, do not decode.
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
