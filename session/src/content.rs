//! Decoding and encoding of a session with its lifetime.

use larder_core::{Bytes, Expiry, Result, clock::unix_millis};

use crate::{
    format::{Format, Label, Stored},
    lifetime::{End, Lifetime},
    migrations::Migrations,
};

/// The stored form of sessions of one kind.
pub(crate) struct Content<T> {
    pub(crate) format: Format<T>,
    pub(crate) migrations: Option<Migrations>,
    pub(crate) lifetime: Lifetime,
}

/// A decoded session.
pub(crate) struct Decoded<T> {
    pub(crate) value: T,
    /// Whether migrations have changed it, because the stored value has an older version.
    pub(crate) migrated: bool,
    pub(crate) marks: Marks,
}

/// Metadata of a stored session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    pub(crate) end: Option<End>,
    /// Whether it has lone surrogates, which are escaped in the value.
    pub(crate) surrogates: bool,
}

impl<T> Content<T> {
    /// Decodes a stored session and runs migrations if necessary. Returns `None` if it has expired. `left` is
    /// the TTL of the entry in the store. It is awaited only if the end in the value seems to have passed.
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

    /// Whether the stored session has expired by the end in its value.
    pub(crate) fn is_over(&self, bytes: &[u8], expiry: Expiry) -> bool {
        expiry == Expiry::Never && self.format.end(bytes).is_some_and(|end| end <= unix_millis())
    }

    /// Returns the bytes to store for `value`, given its bare form, and their expiry. Returns `None` if the
    /// value is encoded as nothing. `has` are the current marks of the session.
    pub(crate) fn encode(&self, value: &T, bare: Bytes, has: Marks) -> Result<Option<(Bytes, Expiry)>> {
        let (end, expiry) = if self.lifetime == Lifetime::forever() {
            // This program sets no end, so the end set by another program stays.
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

/// Returns `None` if the session has expired. The end in its value was computed with the clock of the writing
/// process, so it does not count if the entry has an expiry in the store.
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
