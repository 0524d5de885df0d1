//! From stored bytes to a session's value and back.

use larder_core::{Bytes, Expiry, Result, clock::unix_millis};

use crate::{
    format::{Format, Label, Stored},
    lifetime::{End, Lifetime},
    migrations::Migrations,
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
    pub(crate) marks: Marks,
}

/// Facts about a stored session beside its value.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    pub(crate) end: Option<End>,
    /// Whether it has lone surrogates, which are hidden in the value.
    pub(crate) surrogates: bool,
}

impl<T> Content<T> {
    /// Reads what is stored, through the migrations if need be. `None` if it is over. `left` says how
    /// long the entry lives by the store's word. It is awaited only if the end that is stored with the
    /// session seems to have come.
    pub(crate) async fn decode(
        &self,
        bytes: &[u8],
        left: impl Future<Output = Result<Option<Expiry>>>,
    ) -> Result<Option<Decoded<T>>> {
        let stored = self.format.decode(bytes)?;
        let (Stored::Current(_, label) | Stored::Old(_, label)) = &stored;
        let Some(marks) = marks(label, left).await? else {
            return Ok(None);
        };
        match stored {
            Stored::Current(value, _) => Ok(Some(Decoded { value, migrated: false, marks })),
            Stored::Old(data, label) => {
                let data = match &self.migrations {
                    Some(migrations) => migrations.run(data, label.version).await?,
                    None => data,
                };
                let value = self.format.value(data)?;
                Ok(Some(Decoded { value, migrated: true, marks }))
            }
        }
    }

    /// Whether what is stored is over by the end that is stored with it.
    pub(crate) fn is_over(&self, bytes: &[u8], expiry: Expiry) -> bool {
        expiry == Expiry::Never && self.format.end(bytes).is_some_and(|end| end <= unix_millis())
    }

    /// What to store for `value`, given its bare form, and how long that lives; `None` if the session
    /// is nothing. `has` are the marks that it has already.
    pub(crate) fn encode(&self, value: &T, bare: Bytes, has: Marks) -> Result<Option<(Bytes, Expiry)>> {
        let (end, expiry) = if self.lifetime == Lifetime::forever() {
            // Nothing here ends it, so what another program has said stays.
            (has.end.map(|end| end.stored), Expiry::Never)
        } else {
            let now = unix_millis();
            let deadline = self.lifetime.deadline(has.end, now);
            (self.lifetime.end(deadline, now), self.lifetime.expiry(deadline, now))
        };
        let bytes = self.format.encode(value, bare, end, has.surrogates)?;
        Ok(bytes.map(|bytes| (bytes, expiry)))
    }
}

/// `None` if the session is over. An end that is stored with it is by the clock of the process that has
/// stored it, so it does not count where the store itself ends the entry.
async fn marks(label: &Label, left: impl Future<Output = Result<Option<Expiry>>>) -> Result<Option<Marks>> {
    let end = match label.deadline.map(|stored| (stored, unix_millis())) {
        Some((stored, now)) if stored <= now => match left.await? {
            Some(left @ Expiry::After(_)) => {
                Some(End { stored, here: left.deadline(now).unwrap_or(i64::MAX) })
            }
            Some(Expiry::Never) | None => return Ok(None),
        },
        deadline => deadline.map(|(stored, _)| End::new(stored)),
    };
    Ok(Some(Marks { end, surrogates: label.surrogates }))
}
