//! The stored form of a session.

use std::collections::{BTreeMap, HashMap};

use larder_core::{Bytes, Codec, Error, ErrorKind, Json, Result};
use serde::Deserialize;
use serde_json::value::RawValue;

pub(crate) type State = HashMap<String, String>;

/// A session. The id is not part of the form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Session(pub(crate) State);

/// The form of actix-session's main branch, which is not released. Each value is JSON, not JSON in a string.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Versioned {
    v: u64,
    state: HashMap<String, Box<RawValue>>,
}

impl larder_web_sessions::Session for Session {
    type Data = State;

    fn data(&self) -> &State {
        &self.0
    }

    /// Writes the form of actix-session 0.11.
    fn encode(&self, _: Option<&str>) -> Result<Bytes> {
        // Sorted by name, so that equal sessions are equal bytes.
        Json.encode(&self.0.iter().collect::<BTreeMap<_, _>>())
    }

    /// Reads both forms. No value has both: the members of the released form are strings, whatever their names, and
    /// those of the versioned form are a number and an object.
    fn decode(value: &[u8], _: Option<&str>) -> Result<Self> {
        let error = match Json.decode(value) {
            Ok(state) => return Ok(Self(state)),
            Err(error) => error,
        };
        // serde would also read the struct from an array.
        if !value.trim_ascii_start().starts_with(b"{") {
            return Err(foreign(error));
        }
        match Json.decode(value) {
            Ok(Versioned { v: 1, state }) => {
                let text = |value: Box<RawValue>| String::from(Box::<str>::from(value));
                Ok(Self(state.into_iter().map(|(name, value)| (name, text(value))).collect()))
            }
            Ok(Versioned { v: 2.., .. }) => Err(Error::new(
                ErrorKind::VersionTooNew,
                "a newer version of actix-session wrote this session; it was left unchanged",
            )),
            Ok(Versioned { v: 0, .. }) | Err(_) => Err(foreign(error)),
        }
    }
}

fn foreign(error: Error) -> Error {
    Error::new(error.kind(), "the value under this session key is not a session; it was left unchanged")
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use larder_web_sessions::Session as _;

    use super::*;

    fn state<const N: usize>(members: [(&str, &str); N]) -> State {
        members.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    fn session(text: &str) -> State {
        decode(text.as_bytes()).unwrap()
    }

    fn encode(state: &State) -> Bytes {
        Session(state.clone()).encode(None).unwrap()
    }

    fn decode(value: &[u8]) -> Result<State> {
        Session::decode(value, None).map(|session| session.0)
    }

    #[test]
    fn the_written_form_is_that_of_actix_sessions_own_stores() {
        let state = state([("name", r#""ann""#), ("count", "2")]);
        let text = r#"{"count":"2","name":"\"ann\""}"#;
        assert_eq!(encode(&state), text);
        assert_eq!(session(text), state);
    }

    #[test]
    fn the_form_of_the_main_branch_is_read() {
        let text =
            r#"{"v":1,"state":{"name":"ann","n":0.1,"big":123456789012345678901,"deep":{"a":[1,null]}}}"#;
        let expected = state([
            ("name", r#""ann""#),
            ("n", "0.1"),
            ("big", "123456789012345678901"),
            ("deep", r#"{"a":[1,null]}"#),
        ]);
        assert_eq!(session(text), expected);
        // The order of the members is not part of the form, nor is white space.
        assert_eq!(session(r#"{ "state": {"n": 1}, "v": 1 }"#), state([("n", "1")]));
        assert_eq!(session(r#"{"v":1,"state":{}}"#), State::new());
    }

    #[test]
    fn members_called_v_and_state_do_not_change_the_form() {
        for state in [
            state([("v", "1"), ("state", r#"{"name":"ann"}"#)]),
            state([("v", "1"), ("state", "{}"), ("name", r#""ann""#)]),
            state([("v", "1")]),
        ] {
            assert_eq!(decode(&encode(&state)).unwrap(), state);
        }
        let inner = r#"{"v":1,"state":{"v":2,"state":{"name":"ann"}}}"#;
        assert_eq!(session(inner), state([("v", "2"), ("state", r#"{"name":"ann"}"#)]));
    }

    #[test]
    fn other_values_are_no_sessions() {
        for (text, kind) in [
            (r#"{"v":1,"state":"{}"}"#, ErrorKind::Codec),
            (r#"{"v":"1","state":{}}"#, ErrorKind::Codec),
            (r#"{"v":1,"state":{},"user":"ann"}"#, ErrorKind::Codec),
            (r#"{"v":1}"#, ErrorKind::Codec),
            (r#"{"v":1,"v":1,"state":{}}"#, ErrorKind::Codec),
            (r#"{"state":{}}"#, ErrorKind::Codec),
            (r#"{"v":0,"state":{}}"#, ErrorKind::Codec),
            (r#"{"v":1.0,"state":{}}"#, ErrorKind::Codec),
            (r#"{"v":2,"state":{}}"#, ErrorKind::VersionTooNew),
            (r#"{"count":1}"#, ErrorKind::Codec),
            ("[1,{}]", ErrorKind::Codec),
            ("[2,{}]", ErrorKind::Codec),
            (r#"["name","ann"]"#, ErrorKind::Codec),
            (r#"["moving","1"]"#, ErrorKind::Codec),
            ("", ErrorKind::Codec),
        ] {
            assert_eq!(decode(text.as_bytes()).unwrap_err().kind(), kind, "{text}");
        }
    }
}
