//! Requests: an operation, its options, and then `.await`.

use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;

use super::Store;
use crate::{
    Condition, DeleteOptions, Expiry, IntoKey, Key, Operation, ReadOptions, Record, Result, TouchOptions,
    Version, WriteOptions, Written,
};

impl Store {
    /// Reads the entry under `key`: `store.read(key).await?` is `None` if the entry does not exist. See
    /// [`ReadRequest`] for the options.
    pub fn read(&self, key: impl IntoKey) -> ReadRequest<'_> {
        ReadRequest { store: self, key: key.into_key(), options: ReadOptions::new() }
    }

    /// Writes `value` under `key`: `store.write(key, value).await?`. See [`WriteRequest`] for the
    /// options.
    pub fn write(&self, key: impl IntoKey, value: impl Into<Bytes>) -> WriteRequest<'_> {
        WriteRequest { store: self, key: key.into_key(), value: value.into(), options: WriteOptions::new() }
    }

    /// Deletes the entry under `key`: `store.delete(key).await?` is `true` if the entry existed. See
    /// [`DeleteRequest`] for the options.
    pub fn delete(&self, key: impl IntoKey) -> DeleteRequest<'_> {
        DeleteRequest { store: self, key: key.into_key(), options: DeleteOptions::new() }
    }

    /// Gives the entry under `key` a new expiry, counted from now: `store.touch(key, expiry).await?` is `true`
    /// if the entry existed. See [`TouchRequest`] for the options.
    pub fn touch(&self, key: impl IntoKey, expiry: impl Into<Expiry>) -> TouchRequest<'_> {
        TouchRequest { store: self, key: key.into_key(), expiry: expiry.into(), options: TouchOptions::new() }
    }
}

/// A read, created by [`Store::read`]. `.await` it.
#[derive(Debug)]
#[must_use = "nothing is read until this is awaited"]
pub struct ReadRequest<'a> {
    store: &'a Store,
    key: Result<Key>,
    options: ReadOptions,
}

impl ReadRequest<'_> {
    /// Also returns the time until the entry expires, as [`Record::expiry`].
    pub fn with_ttl(mut self) -> Self {
        self.options.ttl = true;
        self
    }

    /// Also gives the entry a new expiry in the same step, counted from now.
    pub fn touching(mut self, expiry: impl Into<Expiry>) -> Self {
        self.options.touch = Some(expiry.into());
        self
    }

    /// Does not return the value. The version may then be `None`.
    pub fn without_value(mut self) -> Self {
        self.options.value = false;
        self
    }
}

/// A write, created by [`Store::write`]. `.await` it.
#[must_use = "nothing is written until this is awaited"]
pub struct WriteRequest<'a> {
    store: &'a Store,
    key: Result<Key>,
    value: Bytes,
    options: WriteOptions,
}

impl WriteRequest<'_> {
    /// Sets the time until the entry expires. Default: the entry does not expire.
    pub fn expires_in(self, duration: Duration) -> Self {
        self.expiry(duration)
    }

    /// Sets the expiry of the entry. Default: [`Expiry::Never`].
    pub fn expiry(mut self, expiry: impl Into<Expiry>) -> Self {
        self.options.expiry = expiry.into();
        self
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

/// A deletion, created by [`Store::delete`]. `.await` it.
#[derive(Debug)]
#[must_use = "nothing is deleted until this is awaited"]
pub struct DeleteRequest<'a> {
    store: &'a Store,
    key: Result<Key>,
    options: DeleteOptions,
}

/// A touch, created by [`Store::touch`]. `.await` it.
#[derive(Debug)]
#[must_use = "nothing is touched until this is awaited"]
pub struct TouchRequest<'a> {
    store: &'a Store,
    key: Result<Key>,
    expiry: Expiry,
    options: TouchOptions,
}

macro_rules! conditions {
    ($($request:ident $does:literal),+) => {$(
        impl $request<'_> {
            #[doc = concat!($does, " only if the entry does not exist.")]
            pub fn if_absent(self) -> Self {
                self.condition(Condition::Absent)
            }

            #[doc = concat!($does, " only if the entry exists.")]
            pub fn if_present(self) -> Self {
                self.condition(Condition::Present)
            }

            #[doc = concat!($does, " only if the entry still has this version.")]
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

macro_rules! awaitable {
    ($($request:ident -> $output:ty, $operation:ident: |$self:ident, $key:ident| $call:expr;)+) => {$(
        impl<'a> IntoFuture for $request<'a> {
            type Output = Result<$output>;
            type IntoFuture = BoxFuture<'a, Self::Output>;

            fn into_future($self) -> Self::IntoFuture {
                Box::pin(async move {
                    let $key = &$self.store.checked_key($self.key, Operation::$operation)?;
                    $call.await
                })
            }
        }
    )+};
}

awaitable! {
    ReadRequest -> Option<Record>, Read: |self, key| self.store.read_with(key, &self.options);
    WriteRequest -> Written, Write: |self, key| self.store.write_with(key, self.value, &self.options);
    DeleteRequest -> bool, Delete: |self, key| self.store.delete_with(key, &self.options);
    TouchRequest -> bool, Touch: |self, key| self.store.touch_with(key, self.expiry, &self.options);
}
