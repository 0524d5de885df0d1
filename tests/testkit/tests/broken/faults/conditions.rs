//! Compare-and-swap that compares too little, or too late.

use std::time::Duration;

use larder_core::{
    Bytes, Capabilities, Condition, Error, Expiry, Key, Operation, Record, Result, Storage, Version,
    Versions, async_trait,
};
use larder_memory::MemoryStorage;

use crate::{Fault, fault, twist::Twist};

/// Reads, compares, and writes a moment later.
struct ChecksThenActs;

#[async_trait]
impl Twist for ChecksThenActs {
    async fn write_if(
        &self,
        inner: &MemoryStorage,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        let seen = inner.read(key).await?.and_then(|record| record.version);
        if Condition::from(seen) != condition {
            return Err(Error::conflict().with_adapter("broken").with_operation(Operation::WriteIf));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        inner.write(key, value, expiry).await?;
        Ok(inner.read(key).await?.and_then(|record| record.version).unwrap_or_else(Version::unique))
    }
}

struct NeverCompares;

#[async_trait]
impl Twist for NeverCompares {
    async fn write_if(
        &self,
        inner: &MemoryStorage,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        _: Condition,
    ) -> Result<Version> {
        inner.write(key, value, expiry).await?;
        Ok(inner.read(key).await?.and_then(|record| record.version).unwrap_or_else(Version::unique))
    }

    async fn delete_if(&self, inner: &MemoryStorage, key: &Key, _: &Version) -> Result<()> {
        inner.delete(key).await.map(drop)
    }
}

struct AlwaysConflicts;

#[async_trait]
impl Twist for AlwaysConflicts {
    async fn write_if(
        &self,
        _: &MemoryStorage,
        _: &Key,
        _: Bytes,
        _: Expiry,
        _: Condition,
    ) -> Result<Version> {
        Err(Error::conflict().with_adapter("broken").with_operation(Operation::WriteIf))
    }
}

/// `write_if` at a version is a conflict, whatever the version.
struct OnlyCreates;

#[async_trait]
impl Twist for OnlyCreates {
    async fn write_if(
        &self,
        inner: &MemoryStorage,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        _: Condition,
    ) -> Result<Version> {
        inner.write_if(key, value, expiry, Condition::Absent).await
    }
}

struct ReturnsAnotherVersion;

#[async_trait]
impl Twist for ReturnsAnotherVersion {
    async fn write_if(
        &self,
        inner: &MemoryStorage,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        inner.write_if(key, value, expiry, condition).await.map(|_| Version::unique())
    }
}

struct EveryReadIsAnotherVersion;

#[async_trait]
impl Twist for EveryReadIsAnotherVersion {
    async fn read(&self, inner: &MemoryStorage, key: &Key) -> Result<Option<Record>> {
        Ok(inner.read(key).await?.map(|record| Record::at(record.value, Version::unique())))
    }
}

/// A write of what is there already is left out.
struct SkipsEqualWrites;

#[async_trait]
impl Twist for SkipsEqualWrites {
    async fn write(&self, inner: &MemoryStorage, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        match inner.read(key).await? {
            Some(record) if record.value == value => Ok(()),
            _ => inner.write(key, value, expiry).await,
        }
    }
}

struct DeleteIfDoesNothing;

#[async_trait]
impl Twist for DeleteIfDoesNothing {
    async fn delete_if(&self, _: &MemoryStorage, _: &Key, _: &Version) -> Result<()> {
        Ok(())
    }
}

/// Compares and swaps, but does not claim to.
struct ClaimsNoVersions;

impl Twist for ClaimsNoVersions {
    fn capabilities(&self, inner: &MemoryStorage) -> Capabilities {
        inner.capabilities().with_versions(Versions::None)
    }
}

/// A `write_if` that creates leaves the time to live out.
struct CreatesForEver;

#[async_trait]
impl Twist for CreatesForEver {
    async fn write_if(
        &self,
        inner: &MemoryStorage,
        key: &Key,
        value: Bytes,
        _: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        inner.write_if(key, value, Expiry::Never, condition).await
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
                "delete_if_and_write_if_exclude_each_other",
                "deletes_race_with_conditions",
                "increments_by_write_if_are_all_counted",
                "increments_by_update_as_are_all_counted",
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
                "deleting_and_creating_anew_is_as_documented",
                "delete_if_at_a_stale_version_loses",
                "delete_if_and_write_if_exclude_each_other",
                "a_conflict_leaves_the_time_to_live",
                "expired_entries_are_absent_to_write_if",
                "expired_entries_are_absent_to_delete_if",
            ],
        ),
        fault(
            "always conflicts",
            || AlwaysConflicts,
            &["write_if_absent_creates", "write_if_absent_wins_once"],
        ),
        fault("only creates", || OnlyCreates, &["write_if_at_the_version_read_replaces"]),
        fault("returns another version", || ReturnsAnotherVersion, &["write_if_returns_the_next_version"]),
        fault("gives every read another version", || EveryReadIsAnotherVersion, &["reads_carry_a_version"]),
        fault("leaves out writes of what is there", || SkipsEqualWrites, &["a_write_changes_the_version"]),
        fault(
            "does nothing in delete_if",
            || DeleteIfDoesNothing,
            &["delete_if_deletes_at_the_version_read"],
        ),
        fault("claims no versions", || ClaimsNoVersions, &["without_versions_conditions_are_unsupported"]),
        fault("creates for ever", || CreatesForEver, &["write_if_sets_the_time_to_live"]),
    ]
}
