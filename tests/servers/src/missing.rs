use std::fmt;

use crate::{Kind, image};

/// A server that is not available, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The server.
    pub server: Kind,
    /// The reason, and what to do about it.
    pub reason: String,
}

impl Missing {
    pub(crate) fn new(server: Kind, reason: impl Into<String>) -> Self {
        Self { server, reason: reason.into() }
    }

    /// Whether `LARDER_TEST_REQUIRE` names this server. A test then fails without it, instead of being skipped. `all`
    /// does not name a server whose image `ci/servers` could not get.
    #[must_use]
    pub fn required(&self) -> bool {
        let out_of_reach = image::is_out_of_reach(self.server);
        is_required(self.server.name(), out_of_reach)
    }
}

/// Something on this machine that tests need in the same way as a server. `ci/tools` installs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `browser`: chromedriver with its browser, for tests of pages.
    Browser,
    /// `mounts`: FUSE and loop devices, which need root, for power cuts on real file systems.
    Mounts,
    /// `strace`, for power cuts of processes whose system calls are recorded.
    Strace,
}

impl Tool {
    const ALL: [Self; 3] = [Self::Browser, Self::Mounts, Self::Strace];

    /// The name in `LARDER_TEST_REQUIRE`.
    const fn name(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Mounts => "mounts",
            Self::Strace => "strace",
        }
    }

    /// Whether `LARDER_TEST_REQUIRE` names this tool. A test then fails without it, instead of being skipped.
    #[must_use]
    pub fn required(self) -> bool {
        is_required(self.name(), false)
    }
}

fn is_required(name: &str, out_of_reach: bool) -> bool {
    std::env::var("LARDER_TEST_REQUIRE").is_ok_and(|list| requires(&list, name, out_of_reach))
}

/// An unknown name requires everything, because a misspelt name must not switch tests off. A server out of reach is
/// required only by its own name.
fn requires(list: &str, wanted: &str, out_of_reach: bool) -> bool {
    let is_known = |name| {
        Kind::ALL.iter().any(|known| known.name() == name)
            || Tool::ALL.iter().any(|known| known.name() == name)
    };
    list.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .any(|name| name == wanted || (!out_of_reach && (name == "all" || !is_known(name))))
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} server is not available: {}", self.server, self.reason)
    }
}

impl std::error::Error for Missing {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_requires_the_servers_in_it() {
        assert!(requires("postgres, redis", "redis", false));
        assert!(!requires("postgres, redis", "redis-tls", false));
        assert!(!requires("", "redis", false));
        assert!(!requires("browser, mounts, strace", "redis", false));
        assert!(requires("redis, browser", "browser", false));
        assert!(requires("all", "redis-tls", false));
        assert!(requires("all", "mounts", false));
    }

    #[test]
    fn an_unknown_name_requires_everything() {
        assert!(requires("postgers", "browser", false));
        assert!(requires("postgers", "redis", false));
    }

    #[test]
    fn a_server_out_of_reach_is_required_only_by_name() {
        assert!(!requires("all", "mysql", true));
        assert!(requires("all, mysql", "mysql", true));
    }

    #[test]
    fn the_message_names_the_server_and_the_reason() {
        let missing = Missing::new(Kind::RedisTls, "the engine is not running");
        assert_eq!(missing.to_string(), "the redis-tls server is not available: the engine is not running");
    }
}
