//! Keeps the index up to date while sessions are saved.

use larder_core::{Error, Key, Result};

use crate::{deadline::Deadline, entry::Entry, owners::Owners, sessions::Lookup};

/// The owner of a session, and the device on which the owner uses it. `Debug` prints neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Owner {
    /// The owner.
    pub id: String,
    /// The name of the device, for a page that lists the sessions. Longer than 256 characters, it is cut.
    pub device: Option<String>,
}

/// A session, as far as the index is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// `None` if the session has no owner, or does not exist.
    pub owner: Option<Owner>,
    /// The time at which the session ends.
    pub deadline: Deadline,
}

/// The rest of a save, from [`Owners::before_save`] to [`Owners::after_save`].
#[derive(Debug, Default)]
#[must_use = "pass it to `after_save` when the session is saved"]
pub struct Saving {
    /// The former owner, and the entry that was read before the save.
    former: Option<(String, Entry)>,
    /// The owner for whom the session is new.
    signed_in: Option<String>,
}

impl Indexed {
    /// A session that does not exist or has no owner.
    pub const NONE: Self = Self { owner: None, deadline: Deadline::NEVER };

    fn owner(&self) -> Option<&str> {
        self.owner.as_ref().map(|owner| owner.id.as_str())
    }
}

impl Owners {
    /// Notes a session before it is written or deleted. `was` is the session as it was read, `will` the session that
    /// is about to be written, or [`Indexed::NONE`] if it is about to be deleted.
    ///
    /// Write the session on the condition that it is unchanged since it was read. If that fails, read it and call
    /// this again. If it succeeds, call [`after_save`](Self::after_save).
    ///
    /// Reads and writes the index if the session is new or gets another owner, and otherwise only if the present
    /// entry could end before the session: once per step of a sixteenth to an eighth of the time to live (at least
    /// a minute, at most 17 hours), and never for a session that does not live longer than before.
    ///
    /// # Errors
    ///
    /// Those of reading and writing. After an error, do not write the session.
    pub async fn before_save(&self, key: &Key, was: &Indexed, will: &Indexed) -> Result<Saving> {
        let mut saving = Saving::default();
        if let Some(former) = was.owner().filter(|former| Some(*former) != will.owner()) {
            // An entry that cannot be read stays until it expires.
            let entry = self.entry(former, key).await.inspect_err(warn).unwrap_or_default();
            saving.former = entry.map(|entry| (former.to_owned(), entry));
        }
        match &will.owner {
            Some(owner) if was.owner() == will.owner() => {
                self.touch(owner, key, was.deadline, will.deadline).await?;
            }
            Some(owner) => {
                self.add(owner, key, will.deadline).await?;
                saving.signed_in = Some(owner.id.clone());
            }
            None => {}
        }
        Ok(saving)
    }

    /// Notes a session before its time to live is set, without a write. `was` is the session as it was read. Touch it
    /// on the condition that it is unchanged since. Costs what [`before_save`](Self::before_save) costs.
    ///
    /// # Errors
    ///
    /// Those of reading and writing. After an error, do not extend the session.
    pub async fn before_touch(&self, key: &Key, was: &Indexed, to: Deadline) -> Result<()> {
        match &was.owner {
            Some(owner) => self.touch(owner, key, was.deadline, to).await,
            None => Ok(()),
        }
    }

    /// Removes the entry of the former owner, and deletes the oldest sessions of the new one if it has more than
    /// [the maximum](Self::with_max_per_owner). Call it after the session was saved.
    ///
    /// Only logs errors, as the session is saved: an entry that remains expires, and the next sign-in deletes the
    /// sessions that are too many.
    pub async fn after_save(&self, saving: Saving, lookup: &impl Lookup) {
        if let Some((former, entry)) = saving.former {
            self.remove(&former, &[entry]).await.inspect_err(warn).unwrap_or_default();
        }
        if let (Some(owner), Some(most)) = (saving.signed_in, self.most) {
            self.limit(&owner, most, lookup).await.inspect_err(warn).unwrap_or_default();
        }
    }
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owner").finish_non_exhaustive()
    }
}

fn warn(error: &Error) {
    tracing::warn!(kind = %error.kind(), %error, "the index of owners could not be updated");
}
