//! Operations as they are put together: options, then `.await`.

use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;

use super::Store;
use crate::{
    Condition, DeleteOptions, Expiry, Key, Operation, ReadOptions, Record, Result, TouchOptions, Version,
    WriteOptions, Written,
};

/// A read, made by [`Store::read`]. `.await` it.
#[derive(Debug)]
#[must_use = "nothing is read until this is awaited"]
pub struct ReadRequest<'a> {
    store: &'a Store,
    key: Result<Key>,
    options: ReadOptions,
}

impl<'a> ReadRequest<'a> {
    pub(super) fn new(store: &'a Store, key: Result<Key>) -> Self {
        Self { store, key, options: ReadOptions::new() }
    }

    /// Also returns the time that the entry has left, as [`Record::expiry`].
    pub fn with_ttl(mut self) -> Self {
        self.options.ttl = true;
        self
    }

    /// Gives the entry a new expiry in the same step, counted from now.
    pub fn touching(mut self, expiry: impl Into<Expiry>) -> Self {
        self.options.touch = Some(expiry.into());
        self
    }

    /// Leaves the value out. The version may be absent then.
    pub fn without_value(mut self) -> Self {
        self.options.value = false;
        self
    }
}

impl<'a> IntoFuture for ReadRequest<'a> {
    type Output = Result<Option<Record>>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let key = self.store.checked_key(self.key, Operation::Read)?;
            self.store.read_with(&key, &self.options).await
        })
    }
}

/// A write, made by [`Store::write`]. `.await` it.
#[must_use = "nothing is written until this is awaited"]
pub struct WriteRequest<'a> {
    store: &'a Store,
    key: Result<Key>,
    value: Bytes,
    options: WriteOptions,
}

impl<'a> WriteRequest<'a> {
    pub(super) fn new(store: &'a Store, key: Result<Key>, value: Bytes) -> Self {
        Self { store, key, value, options: WriteOptions::new() }
    }

    /// The entry lives for `duration`.
    pub fn expires_in(self, duration: Duration) -> Self {
        self.expiry(duration)
    }

    /// How long the entry lives. Default: [`Expiry::Never`].
    pub fn expiry(mut self, expiry: impl Into<Expiry>) -> Self {
        self.options.expiry = expiry.into();
        self
    }
}

impl<'a> IntoFuture for WriteRequest<'a> {
    type Output = Result<Written>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let key = self.store.checked_key(self.key, Operation::Write)?;
            self.store.write_with(&key, self.value, &self.options).await
        })
    }
}

impl std::fmt::Debug for WriteRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteRequest")
            .field("store", &self.store)
            .field("key", &self.key)
            .field("value", &format_args!("{} bytes", self.value.len()))
            .field("options", &self.options)
            .finish()
    }
}

/// A deletion, made by [`Store::delete`]. `.await` it.
#[derive(Debug)]
#[must_use = "nothing is deleted until this is awaited"]
pub struct DeleteRequest<'a> {
    store: &'a Store,
    key: Result<Key>,
    options: DeleteOptions,
}

impl<'a> DeleteRequest<'a> {
    pub(super) fn new(store: &'a Store, key: Result<Key>) -> Self {
        Self { store, key, options: DeleteOptions::new() }
    }
}

impl<'a> IntoFuture for DeleteRequest<'a> {
    type Output = Result<bool>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let key = self.store.checked_key(self.key, Operation::Delete)?;
            self.store.delete_with(&key, &self.options).await
        })
    }
}

/// A touch, made by [`Store::touch`]. `.await` it.
#[derive(Debug)]
#[must_use = "nothing is touched until this is awaited"]
pub struct TouchRequest<'a> {
    store: &'a Store,
    key: Result<Key>,
    expiry: Expiry,
    options: TouchOptions,
}

impl<'a> TouchRequest<'a> {
    pub(super) fn new(store: &'a Store, key: Result<Key>, expiry: Expiry) -> Self {
        Self { store, key, expiry, options: TouchOptions::new() }
    }
}

impl<'a> IntoFuture for TouchRequest<'a> {
    type Output = Result<bool>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let key = self.store.checked_key(self.key, Operation::Touch)?;
            self.store.touch_with(&key, self.expiry, &self.options).await
        })
    }
}

macro_rules! conditions {
    ($($request:ident $does:literal),+) => {$(
        impl $request<'_> {
            #[doc = concat!($does, " only if there is no entry.")]
            pub fn if_absent(self) -> Self {
                self.condition(Condition::Absent)
            }

            #[doc = concat!($does, " only if there is an entry.")]
            pub fn if_present(self) -> Self {
                self.condition(Condition::Present)
            }

            #[doc = concat!($does, " only if the entry is still at `version`.")]
            pub fn if_at(self, version: Version) -> Self {
                self.condition(Condition::At(version))
            }

            #[doc = concat!($does, " only if `condition` holds. Otherwise the result is a")]
            /// [`Conflict`](crate::ErrorKind::Conflict) error and nothing changes.
            pub fn condition(mut self, condition: Condition) -> Self {
                self.options.condition = condition;
                self
            }
        }
    )+};
}

conditions!(WriteRequest "Writes", DeleteRequest "Deletes", TouchRequest "Touches");
