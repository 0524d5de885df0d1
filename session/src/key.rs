//! Under which key a session is kept: an update's chat, its user, both, or anything else.

use std::fmt;

use larder_core::{Error, ErrorKind, Key, Result};

/// Keys that begin so are Larder's own (leases, the index of owners, the timers of moves); no session is kept there.
pub(crate) const RESERVED: &str = "larder:";

/// The key of a session, or why there is none.
///
/// Made of text, a number, a [`Key`] or an `Option` of one; the functions of this module make it for
/// the usual cases. The prefix of the [`Sessions`](crate::Sessions) comes before it.
///
/// Where there is no key (an update that belongs to no chat), there is no session: nothing is read
/// or written, and touching the session is an [`InvalidKey`](ErrorKind::InvalidKey) error that says
/// why.
///
/// ```
/// use larder_session::key::{SessionKey, per_chat, per_user_and_chat};
///
/// let key: SessionKey = per_chat(Some(-1001234567890_i64));
/// assert_eq!(key.as_str(), Some("-1001234567890"));
/// assert_eq!(per_user_and_chat(Some(7), Some(42)).as_str(), Some("7/42"));
/// assert_eq!(per_chat(None::<i64>).as_str(), None);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey(Repr);

#[derive(Clone, PartialEq, Eq)]
enum Repr {
    Text(String),
    Missing(&'static str),
}

impl SessionKey {
    /// No key; `reason` completes "there is no session here: ...".
    #[must_use]
    pub const fn missing(reason: &'static str) -> Self {
        Self(Repr::Missing(reason))
    }

    /// The key as text, without the prefix; `None` if there is none.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            Repr::Text(text) => Some(text),
            Repr::Missing(_) => None,
        }
    }

    /// The storage's key: the prefix, and this.
    pub(crate) fn under(&self, prefix: &str) -> Result<Key> {
        match &self.0 {
            Repr::Missing(reason) => Err(invalid(format!("there is no session here: {reason}"))),
            Repr::Text(text) if text.is_empty() => {
                Err(invalid("there is no session here: the session key is empty"))
            }
            Repr::Text(text) => {
                let key = Key::new([prefix, text].concat())?;
                if key.as_str().starts_with(RESERVED) {
                    return Err(invalid(format!(
                        "keys that begin with `{RESERVED}` are Larder's own; give the sessions a prefix"
                    )));
                }
                Ok(key)
            }
        }
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidKey, message)
}

/// One session per chat: the id in decimal, as grammY has it by default.
#[must_use]
pub fn per_chat(chat: Option<impl fmt::Display>) -> SessionKey {
    chat.map_or(SessionKey::missing("the update belongs to no chat"), |chat| text(&chat))
}

/// One session per user, wherever the user writes.
#[must_use]
pub fn per_user(user: Option<impl fmt::Display>) -> SessionKey {
    user.map_or(SessionKey::missing("the update comes from no user"), |user| text(&user))
}

/// One session per user and chat, as `user/chat`: the form that grammY's documentation uses.
#[must_use]
pub fn per_user_and_chat(user: Option<impl fmt::Display>, chat: Option<impl fmt::Display>) -> SessionKey {
    match (user, chat) {
        (Some(user), Some(chat)) => text(&format_args!("{user}/{chat}")),
        (None, _) => SessionKey::missing("the update comes from no user"),
        (_, None) => SessionKey::missing("the update belongs to no chat"),
    }
}

fn text(text: &dyn fmt::Display) -> SessionKey {
    SessionKey(Repr::Text(text.to_string()))
}

impl From<&str> for SessionKey {
    fn from(text: &str) -> Self {
        Self(Repr::Text(text.to_owned()))
    }
}

impl From<String> for SessionKey {
    fn from(text: String) -> Self {
        Self(Repr::Text(text))
    }
}

impl From<&String> for SessionKey {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<&Key> for SessionKey {
    fn from(key: &Key) -> Self {
        key.as_str().into()
    }
}

impl From<Key> for SessionKey {
    fn from(key: Key) -> Self {
        key.as_str().into()
    }
}

impl From<&Self> for SessionKey {
    fn from(key: &Self) -> Self {
        key.clone()
    }
}

macro_rules! from_numbers {
    ($($number:ty),+) => {$(
        impl From<$number> for SessionKey {
            fn from(number: $number) -> Self {
                text(&number)
            }
        }
    )+};
}

from_numbers!(i32, i64, u32, u64);

impl<K: Into<Self>> From<Option<K>> for SessionKey {
    fn from(key: Option<K>) -> Self {
        key.map_or(Self::missing("the update has no session key"), Into::into)
    }
}

/// Prints no key: it may be a secret.
impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Text(text) => write!(f, "SessionKey({} bytes)", text.len()),
            Repr::Missing(reason) => write!(f, "SessionKey(none: {reason})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_empty_key_is_an_error_that_says_why() {
        for (key, why) in [
            (per_chat(None::<i64>), "belongs to no chat"),
            (per_user(None::<i64>), "comes from no user"),
            (per_user_and_chat(Some(1), None::<i64>), "belongs to no chat"),
            (None::<i64>.into(), "no session key"),
            ("".into(), "is empty"),
            ("larder:lease:x".into(), "Larder's own"),
        ] {
            let error = key.under("").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
            assert!(error.message().contains(why), "{error}");
        }
    }

    #[test]
    fn the_prefix_comes_first() {
        assert_eq!(per_chat(Some(42)).under("chat:").unwrap().as_str(), "chat:42");
        assert_eq!(SessionKey::from("lease:x").under("larder:").unwrap_err().kind(), ErrorKind::InvalidKey);
    }
}
