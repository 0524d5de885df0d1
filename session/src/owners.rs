//! The index of owners: which sessions are whose.
//!
//! An entry per session, `larder:owner:<prefix>:<owner>:<key>`, that ends soon after the session and
//! never before it: nothing to rewrite when a user has many sessions.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt, TryStreamExt, future::ready};
use larder_core::{Bytes, Error, ErrorKind, Expiry, Key, Result, Storage};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::{Sessions, key::RESERVED};

/// What would be mistaken for an end of the prefix or the owner.
const SEPARATORS: &AsciiSet = &CONTROLS.add(b':').add(b'%');

/// How much longer an entry of the index lives than its session. It is written first, and the write of
/// the session may take its time: a session that outlives its entry could not be revoked.
const LONGER: Duration = Duration::from_secs(60);

fn begin(prefix: &str, owner: &str) -> String {
    let encode = |text| utf8_percent_encode(text, SEPARATORS);
    format!("{RESERVED}owner:{}:{}:", encode(prefix), encode(owner))
}

pub(crate) fn entry(prefix: &str, owner: &str, key: &Key) -> Result<Key> {
    Key::try_from(begin(prefix, owner) + key.as_str())
}

/// The index says that the session at `key` is `owner`'s, for as long as the session lives. To be called
/// before the session is written or touched.
pub(crate) async fn note(
    storage: &dyn Storage,
    prefix: &str,
    owner: Option<&str>,
    key: &Key,
    expiry: Expiry,
) -> Result<()> {
    let Some(owner) = owner else {
        return Ok(());
    };
    let expiry = match expiry {
        Expiry::After(left) => Expiry::After(left.saturating_add(LONGER)),
        Expiry::Never => Expiry::Never,
    };
    storage.write(&entry(prefix, owner, key)?, Bytes::from_static(b"true"), expiry).await
}

impl<T: Send + Sync + 'static> Sessions<T> {
    /// The keys of the sessions that are `owner`'s, without the prefix, as
    /// [`owner`](crate::SessionsBuilder::owner) says; none where that is not given. The store lists
    /// the index by prefix (on Redis that scans the database), and each session is read.
    ///
    /// # Errors
    ///
    /// Those of [`Storage::keys`](larder_core::Storage::keys) and of [`get`](Self::get).
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
        let begin = begin(&self.shared.prefix, owner);
        let length = begin.len() + self.shared.prefix.len();
        let keys = self.shared.road.storage.keys(&begin);
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
        let found = self.shared.road.find(&self.key(key)?).await?;
        let Some(record) = found.record else {
            return Ok(false);
        };
        let session = self.shared.decode(&found.key, &record.value).await?;
        Ok(session.is_some_and(|session| self.shared.owner_of(&session.value).as_deref() == Some(owner)))
    }
}
