//! Codecs, lone surrogates, and the values of stores that hold only JSON.

use std::collections::BTreeMap;

use larder_core::{
    Cbor, Codec, ErrorKind, Json, MessagePack,
    surrogates::{Hidden, hide, reveal},
};
use larder_kit::{check_json, json_members};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use crate::{Verdict, refused};

/// A type with one of each kind of field.
#[derive(Serialize, Deserialize)]
struct Session {
    #[serde(default)]
    pizzas: u32,
    name: Option<String>,
    #[serde(default)]
    steps: Vec<Step>,
    #[serde(default)]
    prices: BTreeMap<String, f64>,
    #[serde(default)]
    big: i128,
    #[serde(default)]
    at: (i64, bool),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Start,
    Asked(String),
    Ordered { toppings: Vec<String>, until: Option<i64> },
}

pub(super) fn json(input: &[u8]) -> Verdict {
    let verdict = codec(&Json, input);
    // Another parser has the same opinion, unless it refuses a lone surrogate.
    if let Ok(expected) = serde_json::from_slice::<Value>(input) {
        assert_eq!(Json.decode::<Value>(input).unwrap(), expected);
    }
    verdict
}

pub(super) fn msgpack(input: &[u8]) -> Verdict {
    codec(&MessagePack, input)
}

pub(super) fn cbor(input: &[u8]) -> Verdict {
    codec(&Cbor, input)
}

fn codec(codec: &impl Codec, input: &[u8]) -> Verdict {
    round_trip::<Session>(codec, input).or(round_trip::<Value>(codec, input))
}

fn round_trip<T: Serialize + DeserializeOwned>(codec: &impl Codec, input: &[u8]) -> Verdict {
    let value: T = match codec.decode(input) {
        Ok(value) => value,
        Err(error) => return refused(&error, &[ErrorKind::Codec]),
    };
    // MessagePack and CBOR have numbers that are not finite, which JSON refuses.
    let encoded = codec.encode_readable(&value).unwrap();
    let again: T = codec.decode(&encoded).unwrap();
    assert_eq!(codec.encode(&again).unwrap(), encoded);
    Verdict::Accepted
}

pub(super) fn surrogates(input: &[u8]) -> Verdict {
    let Some((hidden, how)) = hide(input, true) else { return Verdict::Refused };
    assert_eq!(serde_json::from_slice::<Value>(&hidden).is_err(), Json.decode::<Value>(input).is_err());
    if how == Hidden::Irreversibly {
        return Verdict::Accepted;
    }
    let revealed = reveal(&hidden);
    // Only the digits of the escapes may be of another case.
    assert!(revealed.eq_ignore_ascii_case(input));
    assert_eq!(hide(&revealed, true), Some((hidden, how)));
    Verdict::Accepted
}

/// The check of the stores with `values=json`, and of grammY's layouts.
pub(super) fn values_json(input: &[u8]) -> Verdict {
    if let Err(error) = check_json(input) {
        assert!(serde_json::from_slice::<Value>(input).is_err());
        return refused(&error, &[ErrorKind::InvalidValue]);
    }
    let value: &RawValue = serde_json::from_slice(input).unwrap();
    let mut json = serde_json::Deserializer::from_str(value.get());
    let members: Result<Vec<(String, &RawValue)>, _> = json_members(&mut json);
    if let (Ok(members), Ok(object)) = (members, serde_json::from_slice::<BTreeMap<String, &RawValue>>(input))
    {
        // The last of the members with one name counts.
        let last: BTreeMap<_, _> = members.into_iter().map(|(name, value)| (name, value.get())).collect();
        assert!(
            last.iter().eq(object
                .iter()
                .map(|(name, value)| (name, value.get()))
                .collect::<BTreeMap<_, _>>()
                .iter()
                .map(|(name, value)| (*name, value)))
        );
    }
    Verdict::Accepted
}
