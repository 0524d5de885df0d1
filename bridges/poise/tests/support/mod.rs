//! Helpers of the tests: bots on a fake Discord, users, and places.

#![allow(dead_code, unused_imports)] // No test uses all of it.

pub(crate) mod bot;
#[path = "../../examples/ping/main.rs"]
pub(crate) mod example;
mod server;

pub(crate) use larder_fake_discord::payload::{self, Person, Place, button, command, modal};

pub(crate) use self::server::{PATIENCE, Server, TOKEN};

pub(crate) const CHANNEL: Place = Place::Guild { guild: 1, channel: 42 };
pub(crate) const OTHER_CHANNEL: Place = Place::Guild { guild: 1, channel: 43 };
pub(crate) const THREAD: Place = Place::Thread { guild: 1, parent: 42, thread: 45 };
pub(crate) const OTHER_GUILD: Place = Place::Guild { guild: 2, channel: 44 };
/// An old guild, whose first channel has the id of the guild.
pub(crate) const OLD_GUILD: Place = Place::Guild { guild: 42, channel: 42 };
pub(crate) const DIRECT: Place = Place::Direct { channel: 50 };
/// A group of users, one of whom has installed the bot.
pub(crate) const PRIVATE: Place = Place::Private { channel: 60 };

pub(crate) fn nelly() -> Person {
    Person { id: 80_351_110_224_678_912, name: "nelly".to_owned() }
}

pub(crate) fn mason() -> Person {
    Person { id: 53_908_232_506_183_680, name: "mason".to_owned() }
}
