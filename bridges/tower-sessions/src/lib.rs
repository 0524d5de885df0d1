#![doc = include_str!("../README.md")]

mod error;
mod store;
mod stored;

#[cfg(not(any(feature = "tower-sessions-0-14", feature = "tower-sessions-0-15")))]
compile_error!(
    "larder-tower-sessions needs the feature of your version of tower-sessions: `tower-sessions-0-15` (the default), \
     or `tower-sessions-0-14`, which axum-login 0.18 uses"
);

// The versions of tower-sessions have equal traits and records but distinct types, so one file implements the traits
// for each version.

#[cfg(feature = "tower-sessions-0-14")]
#[path = "."]
mod tower_sessions_0_14 {
    use tower_sessions_core_0_14 as framework;

    #[path = "traits.rs"]
    mod traits;
}

#[cfg(feature = "tower-sessions-0-15")]
#[path = "."]
mod tower_sessions_0_15 {
    use tower_sessions_core_0_15 as framework;

    #[path = "traits.rs"]
    #[allow(clippy::duplicate_mod)] // On purpose; see above.
    mod traits;
}

pub use larder_core::{Error, ErrorKind, Result};
pub use larder_web_sessions::OwnedSession;

pub use crate::store::LarderStore;
