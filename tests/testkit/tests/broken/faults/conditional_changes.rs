//! Conditions that are ignored, mistaken for others, or checked too early.

use std::time::Duration;

use larder_core::{
    Bytes, Condition, DeleteOptions, Error, Expiry, Key, Result, Store, TouchOptions, WriteOptions, Written,
    async_trait,
};

use crate::{Fault, fault, twist::Twist};

/// Returns a version only from a write on a condition.
struct ForgetsVersions;

#[async_trait]
impl Twist for ForgetsVersions {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let written = inner.write_with(key, value, options).await?;
        Ok(if options.condition == Condition::Any { Written::default() } else { written })
    }
}

/// Takes `0` in place of the condition.
struct Takes(fn(Condition) -> Condition);

#[async_trait]
impl Twist for Takes {
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

/// Looks whether there is an entry, and changes it a moment later, whatever has become of it.
struct LooksThenActs;

/// If the condition is one that `looks` picks, checks it, takes its time, and leaves none to check.
async fn look(
    inner: &Store,
    key: &Key,
    condition: &Condition,
    looks: fn(&Condition) -> bool,
) -> Result<Condition> {
    if !looks(condition) {
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
impl Twist for LooksThenActs {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let condition = look(inner, key, &options.condition, is_present).await?;
        inner.write_with(key, value, &options.clone().condition(condition)).await
    }

    async fn delete(&self, inner: &Store, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let condition = look(inner, key, &options.condition, is_present).await?;
        inner.delete_with(key, &options.clone().condition(condition)).await
    }
}

/// Compares the version, and deletes a moment later, whatever there is by then.
struct ComparesThenDeletes;

#[async_trait]
impl Twist for ComparesThenDeletes {
    async fn delete(&self, inner: &Store, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let condition = look(inner, key, &options.condition, is_at).await?;
        inner.delete_with(key, &options.clone().condition(condition)).await
    }
}

/// Compares the version, and touches a moment later, whatever there is by then.
struct ComparesThenTouches;

#[async_trait]
impl Twist for ComparesThenTouches {
    async fn touch(&self, inner: &Store, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let condition = look(inner, key, &options.condition, is_at).await?;
        inner.touch_with(key, expiry, &options.clone().condition(condition)).await
    }
}

/// Touches the entry at any version.
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

/// Writes the value again in order to touch on a condition.
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
            "returns no version from a plain write",
            || ForgetsVersions,
            &["every_write_returns_its_version"],
        ),
        fault(
            "takes present for any",
            || Takes(present_is_any),
            &[
                "write_if_present_replaces_and_never_creates",
                "delete_if_present_deletes_what_is_there",
                "touch_if_present_touches_what_is_there",
                "expired_entries_are_absent_to_conditional_touches",
                "present_conditions_race_with_deletes",
            ],
        ),
        fault(
            "looks, then acts",
            || LooksThenActs,
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
            "rewrites in a touch on a condition",
            || TouchRewritesOnConditions,
            &["touch_at_the_version_read_touches", "touch_if_present_touches_what_is_there"],
        ),
    ]
}
