//! The claims of a store. It must reject everything that it does not claim.

use std::{fmt, time::Duration};

use futures_util::StreamExt;
use larder_core::{Error, ErrorKind, Expiry, Key, ListOptions, Version};

use crate::{Fails, Handle, Must, Target};

/// An ability that a law needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ability {
    Expiry,
    Conditions,
    Listing,
    Order,
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expiry => "expiry",
            Self::Conditions => "versions and conditions",
            Self::Listing => "listings",
            Self::Order => "ordered listings",
        })
    }
}

impl Target {
    /// Returns whether the store claims the ability. If it does not, checks that the store rejects the operations
    /// of this ability, and reports the case as ignored.
    pub(crate) async fn claims(&self, handle: &Handle, ability: Ability) -> bool {
        let info = handle.info();
        let claimed = match ability {
            Ability::Expiry => info.expiry,
            Ability::Conditions => info.conditions(),
            Ability::Listing => info.listing,
            Ability::Order => info.ordered,
        };
        if !claimed {
            for (what, error) in attempts(handle, ability).await {
                error.map_or(Ok(()), Err).fails(ErrorKind::Unsupported, what);
            }
            self.ignore(format!("rejected, as declared: {ability}"));
        }
        claimed
    }
}

/// Calls the operations that need the ability, and returns their errors.
async fn attempts(handle: &Handle, ability: Ability) -> Vec<(&'static str, Option<Error>)> {
    let (key, value) = (Key::new("refused").must("make a key"), handle.value("x"));
    let ttl = Duration::from_secs(60);
    match ability {
        Ability::Expiry => vec![
            ("write with a time to live", handle.write(&key, value).expires_in(ttl).await.err()),
            ("touch", handle.touch(&key, Expiry::Never).await.err()),
            ("ttl", handle.ttl(&key).await.err()),
            ("a read that touches", handle.read(&key).touching(ttl).await.err()),
        ],
        Ability::Conditions => vec![
            ("write if absent", handle.write(&key, value.clone()).if_absent().await.err()),
            ("write if present", handle.write(&key, value).if_present().await.err()),
            ("delete if at a version", handle.delete(&key).if_at(Version::unique()).await.err()),
        ],
        Ability::Listing => vec![
            ("list", handle.list(ListOptions::new()).next().await.and_then(Result::err)),
            ("clear", handle.clear("").await.err()),
        ],
        Ability::Order => {
            let options = ListOptions::new().start_after(key);
            vec![("list after a key", handle.list(options).next().await.and_then(Result::err))]
        }
    }
}
