//! The laws. Each is a function that panics if a storage breaks the law.
//!
//! Each law needs its own [`Target`](crate::Target), with an empty space. [`all`] returns all laws, and
//! a [`Suite`](crate::Suite) runs them.

macro_rules! laws {
    ($($law:ident),+ $(,)?) => {
        /// The laws of this module, by name.
        pub const LAWS: &[crate::Law] =
            &[$(crate::Law::new(stringify!($law), |target| Box::pin($law(target)))),+];
    };
}

pub mod basics;
pub mod batches;
pub mod closing;
pub mod concurrency;
pub mod conditional_changes;
pub mod conditions;
pub mod damage;
pub mod expired;
pub mod expiry;
pub mod fencing;
pub mod keys;
pub mod listings;
pub mod locations;
pub mod mixed_batches;
pub mod ordered_listings;
pub mod outcomes;
pub mod read_options;
pub mod secrets;
pub mod spaces;
mod stage;
pub mod values;

use crate::Law;

/// Returns all laws of the suite.
pub fn all() -> impl Iterator<Item = &'static Law> {
    [
        basics::LAWS,
        values::LAWS,
        keys::LAWS,
        expiry::LAWS,
        expired::LAWS,
        read_options::LAWS,
        conditions::LAWS,
        conditional_changes::LAWS,
        batches::LAWS,
        mixed_batches::LAWS,
        listings::LAWS,
        ordered_listings::LAWS,
        damage::LAWS,
        spaces::LAWS,
        locations::LAWS,
        concurrency::LAWS,
        secrets::LAWS,
        fencing::LAWS,
        outcomes::LAWS,
        closing::LAWS,
    ]
    .into_iter()
    .flatten()
}

/// Returns the law with this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Law> {
    all().find(|law| law.name() == name)
}

/// Returns whether `left` is a plausible remaining time of `ttl`, which was set less than 5 minutes ago.
fn remains_of(left: Option<larder_core::Expiry>, ttl: std::time::Duration) -> bool {
    const A_WHILE: std::time::Duration = std::time::Duration::from_secs(300);
    let larder_core::Expiry::After(left) = left.unwrap_or_default() else { return false };
    left <= ttl && left + A_WHILE >= ttl
}

/// Creates a key that every storage accepts, including storages with restricted keys.
pub(crate) fn key(text: &str) -> larder_core::Key {
    crate::Must::must(larder_core::Key::new(text), "make a key")
}
