//! Compare-and-swap that compares too little or at the wrong time.

use std::time::Duration;

use larder_core::{
    Bytes, Condition, DeleteOptions, Error, Expiry, Info, Key, ReadOptions, Record, Result, Store, Version,
    Versions, WriteOptions, Written, async_trait,
};

use crate::{Fault, fault, twist::Twist};

/// Reads, compares, and writes later.
struct ChecksThenActs;

#[async_trait]
impl Twist for ChecksThenActs {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let seen = inner.read(key).await?.and_then(|record| record.version);
        if !options.condition.holds(seen.as_ref()) {
            return Err(Error::conflict());
        }
        if options.condition != Condition::Any {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        write_always(inner, key, value, options).await
    }
}

/// Writes without a condition. Returns the version that the entry then has.
async fn write_always(inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
    inner.write(key, value).expiry(options.expiry).await?;
    let version = inner.read(key).await?.and_then(|record| record.version);
    Ok(Written::at(version.unwrap_or_else(Version::unique)))
}

struct NeverCompares;

#[async_trait]
impl Twist for NeverCompares {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        write_always(inner, key, value, options).await
    }

    async fn delete(&self, inner: &Store, key: &Key, _: &DeleteOptions) -> Result<bool> {
        inner.delete(key).await
    }
}

struct AlwaysConflicts;

#[async_trait]
impl Twist for AlwaysConflicts {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        if options.condition != Condition::Any {
            return Err(Error::conflict());
        }
        inner.write_with(key, value, options).await
    }
}

/// Treats every write at a version as a conflict.
struct OnlyCreates;

#[async_trait]
impl Twist for OnlyCreates {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let mut options = options.clone();
        if matches!(options.condition, Condition::At(_)) {
            options.condition = Condition::Absent;
        }
        inner.write_with(key, value, &options).await
    }
}

struct ReturnsAnotherVersion;

#[async_trait]
impl Twist for ReturnsAnotherVersion {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        inner.write_with(key, value, options).await.map(|_| Written::at(Version::unique()))
    }
}

struct EveryReadIsAnotherVersion;

#[async_trait]
impl Twist for EveryReadIsAnotherVersion {
    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let record = inner.read_with(key, options).await?;
        Ok(record.map(|mut record| {
            record.version = Some(Version::unique());
            record
        }))
    }
}

/// Ignores writes of the value that is already stored.
struct SkipsEqualWrites;

#[async_trait]
impl Twist for SkipsEqualWrites {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        match inner.read(key).await? {
            Some(record) if record.value == value && options.condition == Condition::Any => {
                Ok(Written::default())
            }
            _ => inner.write_with(key, value, options).await,
        }
    }
}

struct DeleteIfDoesNothing;

#[async_trait]
impl Twist for DeleteIfDoesNothing {
    async fn delete(&self, inner: &Store, key: &Key, options: &DeleteOptions) -> Result<bool> {
        if options.condition == Condition::Any { inner.delete(key).await } else { Ok(true) }
    }
}

/// Supports compare-and-swap, but does not claim it.
struct ClaimsNoVersions;

impl Twist for ClaimsNoVersions {
    fn info(&self, inner: &Store) -> Info {
        inner.info().with_versions(Versions::None)
    }
}

/// Ignores the time to live of a conditional write.
struct CreatesWithoutExpiry;

#[async_trait]
impl Twist for CreatesWithoutExpiry {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let mut options = options.clone();
        if options.condition != Condition::Any {
            options.expiry = Expiry::Never;
        }
        inner.write_with(key, value, &options).await
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        fault(
            "checks, then acts",
            || ChecksThenActs,
            &[
                "write_if_absent_wins_once",
                "write_if_at_one_version_wins_once",
                "conditional_deletes_and_writes_exclude_each_other",
                "deletes_race_with_conditions",
                "increments_by_conditional_write_are_all_counted",
                "increments_by_update_are_all_counted",
                "increments_through_two_handles_are_all_counted",
            ],
        ),
        fault(
            "never compares",
            || NeverCompares,
            &[
                "write_if_absent_leaves_an_entry_alone",
                "write_if_at_a_stale_version_loses",
                "write_if_at_a_version_of_a_missing_entry_loses",
                "a_version_counts_for_its_key_only",
                "changing_back_is_as_documented",
                "deleting_and_creating_again_is_as_documented",
                "delete_if_at_a_stale_version_loses",
                "conditional_deletes_and_writes_exclude_each_other",
                "a_conflict_leaves_the_time_to_live",
                "expired_entries_are_absent_to_conditional_writes",
                "expired_entries_are_absent_to_conditional_deletes",
            ],
        ),
        fault(
            "always conflicts",
            || AlwaysConflicts,
            &["write_if_absent_creates", "write_if_absent_wins_once"],
        ),
        fault("only creates", || OnlyCreates, &["write_if_at_the_version_read_replaces"]),
        fault(
            "returns another version",
            || ReturnsAnotherVersion,
            &["a_conditional_write_returns_the_next_version"],
        ),
        fault(
            "returns another version in every read",
            || EveryReadIsAnotherVersion,
            &["reads_carry_a_version"],
        ),
        fault("ignores writes of the stored value", || SkipsEqualWrites, &["a_write_changes_the_version"]),
        fault(
            "does nothing in a conditional delete",
            || DeleteIfDoesNothing,
            &["delete_at_the_version_read_deletes"],
        ),
        fault(
            "does not claim versions",
            || ClaimsNoVersions,
            &["without_versions_conditions_are_unsupported"],
        ),
        fault(
            "creates without expiry",
            || CreatesWithoutExpiry,
            &["conditional_write_sets_the_time_to_live"],
        ),
    ]
}
