//! The keys of sessions: per chat, per user, both, or any other text or number.

use std::{borrow::Cow, fmt, sync::Arc};

use larder_core::{Error, ErrorKind, Key, Result};

/// The prefix of the keys that are reserved for leases, for the index of owners, and for the timers of moves.
pub(crate) const RESERVED: &str = "larder:";

/// The key of a session, or the reason why there is no key.
///
/// The storage's key is the prefix of the [`Sessions`](crate::Sessions), followed by this key.
///
/// | made from | key |
/// |---|---|
/// | text: `&str`, `String`, `Box<str>`, `Arc<str>`, `Cow<str>`, [`Key`] | the text |
/// | an integer | its decimal digits |
/// | a tuple of two or three of them, or of `Option`s | `a/b` or `a/b/c`; see below |
/// | an `Option` of one of these | the same, or [no key](Self::missing) |
///
/// References to texts and integers are accepted too. The functions of [this module](self) make the usual
/// keys of bots.
///
/// ```
/// use larder_session::key::{SessionKey, per_chat, per_user_and_chat};
///
/// let (user, chat) = (7_u64, -1001234567890_i64);
/// assert_eq!(SessionKey::from(&chat).as_str(), Some("-1001234567890"));
/// assert_eq!(SessionKey::from((user, chat)).as_str(), Some("7/-1001234567890"));
/// assert_eq!(per_user_and_chat(Some(user), Some(chat)).as_str(), Some("7/-1001234567890"));
/// assert_eq!(per_chat(None::<i64>).as_str(), None);
/// ```
///
/// # Updates without a key
///
/// Some updates have no key: a poll belongs to no chat, for example. Reading or changing their session fails
/// with [`InvalidKey`](ErrorKind::InvalidKey), and the error states the reason. Nothing is read or written.
///
/// # Tuples
///
/// In the parts of a tuple, `%` and `/` are replaced by `%25` and `%2F`. Tuples whose parts differ therefore
/// never share a key:
///
/// ```
/// # use larder_session::key::SessionKey;
/// assert_eq!(SessionKey::from(("a/b", "c")).as_str(), Some("a%2Fb/c"));
/// assert_eq!(SessionKey::from(("a", "b/c")).as_str(), Some("a/b%2Fc"));
/// ```
///
/// A tuple with a part that is missing or empty is not a key. A tuple is not a part of another tuple:
///
/// ```compile_fail,E0277
/// # use larder_session::key::SessionKey;
/// SessionKey::from((("a", "b"), "c"));
/// ```
///
/// # Ids of frameworks
///
/// A crate cannot convert another crate's type to a `SessionKey`, so the id types of frameworks are not
/// accepted directly. Use the number inside (`chat.id.0` in teloxide, `user.id.get()` in serenity), or
/// [`per_chat`], [`per_user`] or [`per_user_and_chat`], which accept every type that implements
/// [`Display`](fmt::Display):
///
/// ```
/// # use larder_session::{Sessions, key::per_chat};
/// # struct ChatId(i64);
/// # impl std::fmt::Display for ChatId {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { self.0.fmt(f) }
/// # }
/// # async fn example(sessions: Sessions<u32>, chat_id: ChatId) -> larder_session::Result<()> {
/// sessions.get(chat_id.0).await?;
/// sessions.get(per_chat(Some(chat_id))).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey(Repr);

#[derive(Clone, PartialEq, Eq)]
enum Repr {
    Text(String),
    Missing(&'static str),
}

impl SessionKey {
    /// Creates the key of an update that has no session. `reason` completes the error message
    /// "there is no session here: ...".
    #[must_use]
    pub const fn missing(reason: &'static str) -> Self {
        Self(Repr::Missing(reason))
    }

    /// Returns the key as text, without the prefix of the sessions, or `None` if there is no key.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            Repr::Text(text) => Some(text),
            Repr::Missing(_) => None,
        }
    }

    /// Returns the storage's key: `prefix`, followed by this key.
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
                        "keys that begin with `{RESERVED}` are reserved; give the sessions a prefix"
                    )));
                }
                Ok(key)
            }
        }
    }

    /// Joins the parts of a tuple. Different parts never make the same text.
    fn joined<const N: usize>(parts: [Self; N]) -> Self {
        let escaped = parts.into_iter().map(|part| match part.0 {
            Repr::Text(text) if text.is_empty() => Err("a part of the session key is empty"),
            Repr::Text(text) => Ok(text.replace('%', "%25").replace('/', "%2F")),
            Repr::Missing(reason) => Err(reason),
        });
        match escaped.collect::<Result<Vec<_>, _>>() {
            Ok(parts) => parts.join("/").into(),
            Err(reason) => Self::missing(reason),
        }
    }
}

fn invalid(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidKey, message)
}

/// One session per chat. The key is the chat's id as text, grammY's default.
#[must_use]
pub fn per_chat(chat: Option<impl fmt::Display>) -> SessionKey {
    chat.map_or(SessionKey::missing("the update belongs to no chat"), |chat| text(&chat))
}

/// One session per user, shared by all chats of the user. The key is the user's id as text.
#[must_use]
pub fn per_user(user: Option<impl fmt::Display>) -> SessionKey {
    user.map_or(SessionKey::missing("the update comes from no user"), |user| text(&user))
}

/// One session per user and chat. The key is that of the tuple `(user, chat)`: `user/chat`, the form that
/// grammY's documentation uses.
#[must_use]
pub fn per_user_and_chat(user: Option<impl fmt::Display>, chat: Option<impl fmt::Display>) -> SessionKey {
    SessionKey::joined([per_user(user), per_chat(chat)])
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

impl From<&Self> for SessionKey {
    fn from(key: &Self) -> Self {
        key.clone()
    }
}

/// A part of a tuple that is converted to a [`SessionKey`]: a text, an integer, or an `Option` of one.
///
/// A [`SessionKey`] or a tuple is not a part: `(("a", "b"), "c")` would have the same key as `("a/b", "c")`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a part of a session's key",
    label = "expected a text, an integer, or an `Option`"
)]
pub trait KeyPart: Into<SessionKey> {}

impl KeyPart for &str {}
impl KeyPart for String {}
impl<P: KeyPart> KeyPart for Option<P> {}

macro_rules! from_text {
    ($($type:ty),+) => {$(
        impl KeyPart for $type {}

        impl From<$type> for SessionKey {
            fn from(value: $type) -> Self {
                text(&value)
            }
        }
    )+};
}

macro_rules! from_values_and_references {
    ($($type:ty),+) => {
        from_text!($($type, &$type),+);
    };
}

from_text!(&&str, &String);
from_values_and_references!(Box<str>, Arc<str>, Cow<'_, str>, Key);
from_values_and_references!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);

impl<A: KeyPart, B: KeyPart> From<(A, B)> for SessionKey {
    fn from((a, b): (A, B)) -> Self {
        Self::joined([a.into(), b.into()])
    }
}

impl<A: KeyPart, B: KeyPart, C: KeyPart> From<(A, B, C)> for SessionKey {
    fn from((a, b, c): (A, B, C)) -> Self {
        Self::joined([a.into(), b.into(), c.into()])
    }
}

impl<K: Into<Self>> From<Option<K>> for SessionKey {
    fn from(key: Option<K>) -> Self {
        key.map_or(Self::missing("the update has no session key"), Into::into)
    }
}

/// A [`SessionKey`], or a value that can be converted to one: a text, an integer, a tuple, an `Option`.
///
/// Implemented for every type that implements `Into<SessionKey>`; see [`SessionKey`] for the list. The trait
/// exists for the compiler's message about other types:
///
/// ```compile_fail,E0277
/// # struct ChatId(i64);
/// # async fn example(sessions: larder_session::Sessions<u32>, chat_id: ChatId) -> larder_session::Result<()> {
/// sessions.get(chat_id).await?; // chat_id.0
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the key of a session",
    label = "expected a text, an integer, a tuple of them, or an `Option`",
    note = "for the id type of a framework, use the number inside, or `key::per_chat(Some(id))`"
)]
pub trait IntoSessionKey: Into<SessionKey> {}

#[diagnostic::do_not_recommend]
impl<K: Into<SessionKey>> IntoSessionKey for K {}

/// Prints only the length: a key may be a secret.
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
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_missing_or_empty_key_is_an_error_with_the_reason() {
        for (key, reason) in [
            (per_chat(None::<i64>), "belongs to no chat"),
            (per_user(None::<i64>), "comes from no user"),
            (per_user_and_chat(Some(1), None::<i64>), "belongs to no chat"),
            (None::<i64>.into(), "no session key"),
            ((7, None::<i64>).into(), "no session key"),
            ("".into(), "is empty"),
            ((7, "", 42).into(), "a part of the session key is empty"),
            ("larder:lease:x".into(), "reserved"),
        ] {
            let error = key.under("").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
            assert!(error.message().contains(reason), "{error}");
        }
    }

    #[test]
    fn the_prefix_comes_first() {
        assert_eq!(per_chat(Some(42)).under("chat:").unwrap().as_str(), "chat:42");
        assert_eq!(SessionKey::from("lease:x").under("larder:").unwrap_err().kind(), ErrorKind::InvalidKey);
    }

    #[test]
    fn integers_are_decimal() {
        for (key, expected) in [
            (SessionKey::from(-8_i8), "-8"),
            ((&-1001234567890_i64).into(), "-1001234567890"),
            (usize::MAX.into(), &usize::MAX.to_string()),
            (i128::MIN.into(), "-170141183460469231731687303715884105728"),
            (u128::MAX.into(), "340282366920938463463374607431768211455"),
        ] {
            assert_eq!(key.as_str(), Some(expected));
        }
    }

    #[test]
    fn every_kind_of_text_is_the_same_key() {
        let (boxed, counted, key): (Box<str>, Arc<str>, _) = ("a/b".into(), "a/b".into(), Key::new("a/b"));
        let key = key.unwrap();
        for same in [
            SessionKey::from("a/b"),
            (&"a/b").into(),
            (&"a/b".to_owned()).into(),
            (&boxed).into(),
            boxed.into(),
            (&counted).into(),
            counted.into(),
            (&Cow::from("a/b")).into(),
            Cow::from("a/b").into(),
            (&key).into(),
            key.into(),
        ] {
            assert_eq!(same.as_str(), Some("a/b"));
        }
    }

    #[test]
    fn a_tuple_joins_its_parts() {
        let key = SessionKey::from((Some(7_u64), "a/b%2F", &-42_i64));
        assert_eq!(key.as_str(), Some("7/a%2Fb%252F/-42"));
        assert_eq!(SessionKey::from((7, 42)), per_user_and_chat(Some(7), Some(42)));
    }

    proptest! {
        #[test]
        fn different_tuples_have_different_keys(a in parts(), b in parts()) {
            let key = |parts: &[String]| match parts {
                [a, b] => SessionKey::from((a, b)),
                [a, b, c] => SessionKey::from((a, b, c)),
                _ => unreachable!(),
            };
            prop_assert_eq!(key(&a) == key(&b), a == b);
        }
    }

    /// Two or three short texts of the characters that matter, so that collisions are likely.
    fn parts() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("[/%2F]{1,3}", 2..=3)
    }
}
