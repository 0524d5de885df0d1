//! Conditions that are ignored, replaced by others, or checked too early.

use std::time::Duration;

use larder_core::{
    Bytes, Condition, DeleteOptions, Error, Expiry, Key, Result, Store, TouchOptions, WriteOptions, Written,
    async_trait,
};

use crate::{Fault, fault, twist::Twist};

/// Returns a version only from a conditional write.
struct ForgetsVersions;

#[async_trait]
impl Twist for ForgetsVersions {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let written = inner.write_with(key, value, options).await?;
        Ok(if options.condition == Condition::Any { Written::default() } else { written })
    }
}

/// Replaces the condition by means of the function `0`.
struct ReplacesCondition(fn(Condition) -> Condition);

#[async_trait]
impl Twist for ReplacesCondition {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let condition = (self.0)(options.condition.clone());
        inner.write_with(key, value, &options.clone().condition(condition)).await
    }

    async fn delete(&self, inner: &Store, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let condition = (self.0)(options.condition.clone());
        inner.delete_with(key, &options.clone().condition(condition)).await
    }

    async fn touch(&self, inner: &Store, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let condition = (self.0)(options.condition.clone());
        inner.touch_with(key, expiry, &options.clone().condition(condition)).await
    }
}

fn present_is_any(condition: Condition) -> Condition {
    if condition == Condition::Present { Condition::Any } else { condition }
}

/// Checks whether the entry exists, and changes it later without a condition.
struct ChecksPresenceThenActs;

/// Checks the condition, if `selects` selects it, and waits. Returns the condition that remains to be checked.
async fn check_early(
    inner: &Store,
    key: &Key,
    condition: &Condition,
    selects: fn(&Condition) -> bool,
) -> Result<Condition> {
    if !selects(condition) {
        return Ok(condition.clone());
    }
    let seen = inner.read(key).await?.and_then(|record| record.version);
    if !condition.holds(seen.as_ref()) {
        return Err(Error::conflict());
    }
    tokio::time::sleep(Duration::from_millis(2)).await;
    Ok(Condition::Any)
}

fn is_present(condition: &Condition) -> bool {
    *condition == Condition::Present
}

fn is_at(condition: &Condition) -> bool {
    matches!(condition, Condition::At(_))
}

#[async_trait]
impl Twist for ChecksPresenceThenActs {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let condition = check_early(inner, key, &options.condition, is_present).await?;
        inner.write_with(key, value, &options.clone().condition(condition)).await
    }

    async fn delete(&self, inner: &Store, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let condition = check_early(inner, key, &options.condition, is_present).await?;
        inner.delete_with(key, &options.clone().condition(condition)).await
    }
}

/// Compares the version, and deletes later without a condition.
struct ComparesThenDeletes;

#[async_trait]
impl Twist for ComparesThenDeletes {
    async fn delete(&self, inner: &Store, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let condition = check_early(inner, key, &options.condition, is_at).await?;
        inner.delete_with(key, &options.clone().condition(condition)).await
    }
}

/// Compares the version, and touches later without a condition.
struct ComparesThenTouches;

#[async_trait]
impl Twist for ComparesThenTouches {
    async fn touch(&self, inner: &Store, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let condition = check_early(inner, key, &options.condition, is_at).await?;
        inner.touch_with(key, expiry, &options.clone().condition(condition)).await
    }
}

/// Ignores the version in the condition of a touch.
struct TouchIgnoresVersions;

#[async_trait]
impl Twist for TouchIgnoresVersions {
    async fn touch(&self, inner: &Store, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        match options.condition {
            Condition::At(_) => inner.touch(key, expiry).await,
            _ => inner.touch_with(key, expiry, options).await,
        }
    }
}

/// Rewrites the value in a conditional touch.
struct TouchRewritesOnConditions;

#[async_trait]
impl Twist for TouchRewritesOnConditions {
    async fn touch(&self, inner: &Store, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        if options.condition == Condition::Any {
            return inner.touch(key, expiry).await;
        }
        let value = inner.read(key).await?.map(|record| record.value).unwrap_or_default();
        let condition = options.condition.clone();
        inner.write(key, value).expiry(expiry).condition(condition).await.map(|_| true)
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        fault(
            "does not return a version from an unconditional write",
            || ForgetsVersions,
            &["every_write_returns_its_version"],
        ),
        fault(
            "treats `Present` as `Any`",
            || ReplacesCondition(present_is_any),
            &[
                "write_if_present_replaces_and_never_creates",
                "delete_if_present_deletes_an_entry",
                "touch_if_present_touches_an_entry",
                "expired_entries_are_absent_to_conditional_touches",
                "present_conditions_race_with_deletes",
            ],
        ),
        fault(
            "checks presence, then acts",
            || ChecksPresenceThenActs,
            &["conditional_deletes_win_once", "present_conditions_race_with_deletes"],
        ),
        fault(
            "compares, then deletes",
            || ComparesThenDeletes,
            &["conditional_deletes_win_once", "conditional_deletes_and_writes_exclude_each_other"],
        ),
        fault(
            "compares, then touches",
            || ComparesThenTouches,
            &["a_touch_at_a_version_never_touches_the_next"],
        ),
        fault(
            "touches at any version",
            || TouchIgnoresVersions,
            &[
                "touch_at_a_stale_version_changes_nothing",
                "expired_entries_are_absent_to_conditional_touches",
                "a_touch_at_a_version_never_touches_the_next",
            ],
        ),
        fault(
            "rewrites the value in a conditional touch",
            || TouchRewritesOnConditions,
            &["touch_at_the_version_read_touches", "touch_if_present_touches_an_entry"],
        ),
    ]
}
