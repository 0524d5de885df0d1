//! From stored bytes to a session's value and back.

use larder_core::{Bytes, Expiry, Result, clock::unix_millis};

use crate::{
    Lifetime, Migrations,
    format::{Format, Stored},
};

/// How sessions of one kind are stored.
pub(crate) struct Content<T> {
    pub(crate) format: Format<T>,
    pub(crate) migrations: Option<Migrations>,
    pub(crate) lifetime: Lifetime,
}

/// A session that was read.
pub(crate) struct Decoded<T> {
    pub(crate) value: T,
    /// Whether migrations have changed it: what is stored is of an older version.
    pub(crate) migrated: bool,
    /// Unix milliseconds.
    pub(crate) deadline: Option<i64>,
}

impl<T> Content<T> {
    /// Reads what is stored, through the migrations if need be. `None` if its deadline has passed.
    pub(crate) async fn decode(&self, bytes: &[u8]) -> Result<Option<Decoded<T>>> {
        let expired = |deadline: Option<i64>| deadline.is_some_and(|deadline| deadline <= unix_millis());
        match self.format.decode(bytes)? {
            Stored::Current(_, label) | Stored::Old(_, label) if expired(label.deadline) => Ok(None),
            Stored::Current(value, label) => {
                Ok(Some(Decoded { value, migrated: false, deadline: label.deadline }))
            }
            Stored::Old(data, label) => {
                let data = match &self.migrations {
                    Some(migrations) => migrations.run(data, label.version).await?,
                    None => data,
                };
                let value = self.format.value(data)?;
                Ok(Some(Decoded { value, migrated: true, deadline: label.deadline }))
            }
        }
    }

    /// What to store for `value`, given its bare form, and how long that lives; `None` if the session
    /// is nothing. `deadline` is the one that it has already.
    pub(crate) fn encode(
        &self,
        value: &T,
        bare: Bytes,
        deadline: Option<i64>,
    ) -> Result<Option<(Bytes, Expiry)>> {
        let now = unix_millis();
        let deadline = self.lifetime.deadline(deadline, now);
        let bytes = self.format.encode(value, bare, self.lifetime.end(deadline, now))?;
        Ok(bytes.map(|bytes| (bytes, self.lifetime.expiry(deadline, now))))
    }
}
