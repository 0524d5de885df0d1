//! The operations on sessions, for every version of tower-sessions.

use larder_core::{
    Bytes, Condition, DeleteOptions, Error, ErrorKind, Key, Operation, ReadOptions, Record as Entry, Result,
    Version, WriteOptions,
};

use crate::{
    LarderStore,
    error::Failure,
    stored::{self, Session},
};

impl LarderStore {
    /// Writes a new session. Returns whether the id was free.
    pub(crate) async fn insert(&self, id: &str, session: &Session<'_>) -> Result<bool, Failure> {
        let value = stored::encode(id, session).map_err(Failure::encoding)?;
        self.write(&self.key(id)?, value, session, Condition::Absent).await
    }

    /// Replaces a session. Fails if it does not exist.
    pub(crate) async fn replace(&self, id: &str, session: &Session<'_>) -> Result<(), Failure> {
        let (key, value) = (self.key(id)?, stored::encode(id, session).map_err(Failure::encoding)?);
        // If an attempt fails, another save has succeeded, or the session is gone.
        loop {
            let version = self.version(&key, id, self.store.read_with(&key, &ReadOptions::new()).await?)?;
            if self.write(&key, value.clone(), session, Condition::At(version)).await? {
                return Ok(());
            }
        }
    }

    /// Returns a session.
    pub(crate) async fn find(&self, id: &str) -> Result<Option<Session<'static>>, Failure> {
        let key = self.key(id)?;
        let Some(entry) = self.store.read_with(&key, &ReadOptions::new()).await? else { return Ok(None) };
        Ok(Some(stored::decode(&entry.value, id).map_err(|error| self.not_ours(&key, error))?))
    }

    /// Deletes a session.
    pub(crate) async fn remove(&self, id: &str) -> Result<(), Failure> {
        self.store.delete_with(&self.key(id)?, &DeleteOptions::new()).await?;
        Ok(())
    }

    /// Deletes the expired sessions.
    pub(crate) async fn purge(&self) -> Result<(), Failure> {
        self.store.purge_expired().await?;
        Ok(())
    }

    /// Returns the error for a new session of which every tried id was taken.
    pub(crate) fn no_free_id(&self) -> Failure {
        self.conflict("every id that was tried for the new session is taken").into()
    }

    /// Returns whether the condition holds. If it does, the session was written.
    async fn write(
        &self,
        key: &Key,
        value: Bytes,
        session: &Session<'_>,
        condition: Condition,
    ) -> Result<bool, Failure> {
        // Computed for each attempt: the session expires at its date, however long the attempts take.
        let options = WriteOptions::new().expiry(session.expiry()).condition(condition);
        match self.store.write_with(key, value, &options).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the version of the stored session.
    fn version(&self, key: &Key, id: &str, entry: Option<Entry>) -> Result<Version> {
        let Some(entry) = entry else {
            return Err(
                self.conflict("the session is gone: it was deleted or has expired, and nothing was saved")
            );
        };
        stored::check(&entry.value, id).map_err(|error| self.not_ours(key, error))?;
        entry.version.ok_or_else(|| self.name(Error::unsupported(), Operation::Write))
    }

    /// Returns the error for a stored value that is not a session of this store.
    fn not_ours(&self, key: &Key, error: Error) -> Error {
        self.store.name_entry(self.name(error, Operation::Read), key)
    }

    fn conflict(&self, message: &'static str) -> Error {
        self.name(Error::new(ErrorKind::Conflict, message), Operation::Write)
    }

    fn name(&self, error: Error, operation: Operation) -> Error {
        error.with_adapter(self.store.info().name).with_operation(operation)
    }
}
