//! Codecs, which convert typed values to bytes.

use std::{cell::Cell, fmt};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, ErrorKind, Result, finite::is_finite, surrogates::hide};

/// Converts values to bytes and back.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a codec",
    label = "expected a codec",
    note = "use `Json`, use `MessagePack` or `Cbor` (features `msgpack` and `cbor`), or implement `Codec`"
)]
pub trait Codec: Clone + fmt::Debug + Send + Sync + 'static {
    /// Returns the name of the format, for errors.
    fn name(&self) -> &'static str;

    /// Encodes `value`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`] if the format cannot represent the value (for example, JSON cannot represent a map
    /// whose keys are not strings). The message does not contain the value.
    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes>;

    /// Decodes `bytes`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`] if the bytes cannot be decoded as a `T`. The message does not contain
    /// the bytes.
    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T>;

    /// Encodes `value`, and checks that a `T` can be decoded from the bytes.
    ///
    /// Some types cannot decode every value that they encode: a field with `skip_serializing_if` but without
    /// `default` may be missing in the bytes, and a format may decode fewer levels of nesting than it encodes.
    /// This method decodes the bytes once and drops the result, so it takes as long as
    /// [`encode`](Codec::encode) and [`decode`](Codec::decode) together. With JSON, that is 3 times as long as
    /// encoding alone for a struct of 9 KB, and 5 times as long for a `serde_json::Value`.
    ///
    /// # Errors
    ///
    /// As [`encode`](Codec::encode); [`ErrorKind::Codec`] if the bytes cannot be decoded.
    fn encode_readable<T: Serialize + DeserializeOwned>(&self, value: &T) -> Result<Bytes> {
        let bytes = self.encode(value)?;
        self.decode::<T>(&bytes).map_err(not_readable)?;
        Ok(bytes)
    }
}

/// Creates the error of an encoded value that cannot be decoded.
#[doc(hidden)]
#[must_use]
pub fn not_readable(error: Error) -> Error {
    Error::new(
        ErrorKind::Codec,
        "the value was not saved, because it could not be decoded again: its type cannot decode every value that \
         it encodes, or the value is nested too deeply",
    )
    .with_source(error)
}

fn encode_error(format: &str) -> Error {
    Error::new(ErrorKind::Codec, format!("the value cannot be encoded as {format}"))
}

fn decode_error(format: &str, place: impl fmt::Display) -> Error {
    Error::new(
        ErrorKind::Codec,
        format!("the stored value cannot be decoded from {format} as the requested type{place}"),
    )
}

/// JSON (RFC 8259), the default. Every store can hold it, and SQLite, PostgreSQL, MySQL and MongoDB can query it.
///
/// - Every finite `f64` and every 64-bit integer is decoded as the same number.
/// - A larger integer is decoded exactly only by a type with a `u128` or an `i128`. A
///   [`serde_json::Value`](https://docs.rs/serde_json/latest/serde_json/enum.Value.html) or an untagged enum
///   decodes it as an `f64`, which is a different number: store such integers as text.
/// - JSON cannot represent NaN and infinities. Encoding a value with such a number fails, instead of writing
///   `null`.
/// - A lone UTF-16 surrogate (`"\ud83c"`) is decoded as U+FFFD. JavaScript writes one if a text was cut in the
///   middle of a character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Json;

impl Codec for Json {
    fn name(&self) -> &'static str {
        "JSON"
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes> {
        let bytes = with_buffer(|buffer| serde_json::to_writer(buffer, value))
            .map_err(|_| encode_error(self.name()))?;
        if !is_finite(value) {
            return Err(Error::new(
                ErrorKind::Codec,
                "the value contains NaN or an infinity, which JSON cannot represent: leave it out or use another codec",
            ));
        }
        Ok(bytes)
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        // The message of serde_json may quote the value; its position and category do not.
        let decoded = serde_json::from_slice(bytes).or_else(|error| match hide(bytes, false) {
            Some((bytes, _)) => serde_json::from_slice(&bytes),
            None => Err(error),
        });
        decoded.map_err(|error| {
            let (kind, line, column) = (error.classify(), error.line(), error.column());
            decode_error(self.name(), format!(" ({kind:?} error at line {line}, column {column})"))
        })
    }
}

/// Returns the bytes that `write` writes, in one allocation of the right size, by means of a buffer of the
/// thread. A vector that grows and then becomes `Bytes` takes four allocations for a session of 500 bytes.
fn with_buffer<E>(write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Bytes, E> {
    /// The capacity in bytes up to which the thread keeps its buffer.
    const KEPT: usize = 64 << 10;
    thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    // `write` may call this function again: then the thread's buffer is empty.
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    write(&mut buffer)?;
    if buffer.capacity() > KEPT {
        return Ok(buffer.into());
    }
    let bytes = Bytes::copy_from_slice(&buffer);
    // Fails while the thread ends: the buffer is then dropped.
    let _ = BUFFER.try_with(|kept| kept.set(buffer));
    Ok(bytes)
}

/// [MessagePack](https://msgpack.org). Structs are maps, so fields can be added later. Decodes at most 256 levels of
/// nesting, as [`Cbor`] does.
#[cfg(feature = "msgpack")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MessagePack;

/// The decoder's own limit is 1,024 levels, which need more than the 2 MiB of stack that threads usually have.
#[cfg(feature = "msgpack")]
const DEEPEST: usize = 256;

#[cfg(feature = "msgpack")]
impl Codec for MessagePack {
    fn name(&self) -> &'static str {
        "MessagePack"
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes> {
        rmp_serde::to_vec_named(value).map(Bytes::from).map_err(|_| encode_error(self.name()))
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        let mut rest = bytes;
        let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
        deserializer.set_max_depth(DEEPEST);
        let value = T::deserialize(&mut deserializer).map_err(|_| decode_error(self.name(), ""))?;
        // Bytes after the value were not written by this codec.
        if rest.is_empty() { Ok(value) } else { Err(decode_error(self.name(), "")) }
    }
}

/// [CBOR](https://www.rfc-editor.org/rfc/rfc8949) (RFC 8949).
#[cfg(feature = "cbor")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cbor;

#[cfg(feature = "cbor")]
impl Codec for Cbor {
    fn name(&self) -> &'static str {
        "CBOR"
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).map_err(|_| encode_error(self.name()))?;
        Ok(bytes.into())
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        let mut rest = bytes;
        let value = ciborium::from_reader(&mut rest).map_err(|_| decode_error(self.name(), ""))?;
        if rest.is_empty() { Ok(value) } else { Err(decode_error(self.name(), "")) }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Session {
        #[serde(default)]
        pizzas: u32,
        name: Option<String>,
    }

    fn round_trip(codec: impl Codec) {
        let session = Session { pizzas: 3, name: Some("Míša".into()) };
        let bytes = codec.encode(&session).unwrap();
        assert_eq!(codec.decode::<Session>(&bytes).unwrap(), session);

        // Fields can be added later.
        let old = codec.encode(&serde_json::json!({ "name": null })).unwrap();
        assert_eq!(codec.decode::<Session>(&old).unwrap(), Session::default());

        let mut longer = bytes.to_vec();
        longer.extend_from_slice(&bytes);
        for wrong in [&b"\xc1"[..], b"", &bytes[..bytes.len() - 1], &longer] {
            assert_eq!(codec.decode::<Session>(wrong).unwrap_err().kind(), ErrorKind::Codec);
        }
    }

    /// Decodes `T` directly, and by way of a [`serde_json::Value`], as migrations and dynamic sessions do.
    fn survives<T>(codec: impl Codec, number: T) -> bool
    where
        T: Serialize + DeserializeOwned + Copy + PartialEq,
    {
        let bytes = codec.encode(&number).unwrap();
        let value: serde_json::Value = codec.decode(&bytes).unwrap();
        let again = codec.encode(&value).unwrap();
        codec.decode::<T>(&bytes).unwrap() == number
            && codec.decode::<T>(&again).unwrap() == number
            && serde_json::from_value::<T>(serde_json::to_value(number).unwrap()).unwrap() == number
    }

    /// An `f64` that equals another one only if all their bits are equal.
    #[derive(Clone, Copy, Debug, Serialize, Deserialize)]
    struct Exact(f64);

    impl PartialEq for Exact {
        fn eq(&self, other: &Self) -> bool {
            self.0.to_bits() == other.0.to_bits()
        }
    }

    fn numbers_survive(codec: impl Codec) {
        let mut floats = vec![
            139.390_000_000_000_01,
            -120.654_873_651_235_05,
            -0.0,
            5e-324,
            f64::MIN_POSITIVE,
            f64::EPSILON,
            f64::MAX,
            f64::MIN,
            9_007_199_254_740_993.0,
        ];
        // A sample of all bit patterns that are finite numbers.
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..10_000 {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            floats.extend(Some(f64::from_bits(bits)).filter(|number| number.is_finite()));
        }
        let changed: Vec<f64> =
            floats.iter().copied().filter(|&number| !survives(codec.clone(), Exact(number))).collect();
        assert!(
            changed.is_empty(),
            "{} of {} changed, among them {:?}",
            changed.len(),
            floats.len(),
            &changed[..changed.len().min(3)]
        );
        for number in [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, (1 << 53) + 1] {
            assert!(survives(codec.clone(), number), "{number}");
        }
        for number in [-1, i64::MIN, i64::MIN + 1, i64::MAX, -(1 << 53) - 1] {
            assert!(survives(codec.clone(), number), "{number}");
        }
    }

    #[test]
    fn json_values_survive_a_round_trip() {
        round_trip(Json);
        numbers_survive(Json);
    }

    /// A thread of tokio or of the standard library has a stack of 2 MiB. An overflow ends the process.
    fn nesting_is_limited(codec: impl Codec, array_of_one: u8) {
        let nested = move |levels: usize| [vec![array_of_one; levels], vec![1]].concat();
        let decode = move |levels| codec.decode::<serde_json::Value>(&nested(levels)).map(drop);
        let decoded = std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(move || [100, 1_000, 100_000].map(decode))
            .unwrap()
            .join()
            .unwrap();
        let [shallow, deep, deeper] = decoded.map(|decoded| decoded.map_err(|error| error.kind()));
        assert_eq!((shallow, deep, deeper), (Ok(()), Err(ErrorKind::Codec), Err(ErrorKind::Codec)));
    }

    #[cfg(feature = "msgpack")]
    #[test]
    fn msgpack_values_survive_a_round_trip() {
        round_trip(MessagePack);
        numbers_survive(MessagePack);
        nesting_is_limited(MessagePack, 0x91);
    }

    #[cfg(feature = "cbor")]
    #[test]
    fn cbor_values_survive_a_round_trip() {
        round_trip(Cbor);
        numbers_survive(Cbor);
        nesting_is_limited(Cbor, 0x81);
    }

    #[test]
    fn json_rejects_numbers_that_it_cannot_represent() {
        for wrong in [f64::NAN, f64::INFINITY] {
            let error = Json.encode(&[Some(wrong)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Codec);
            assert!(error.message().contains("NaN"), "{error}");
        }
        assert_eq!(Json.encode(&[Some(1.5), None]).unwrap(), "[1.5,null]");
    }

    #[test]
    fn nested_and_large_values_do_not_disturb_later_ones() {
        struct Nested(u32);
        impl Serialize for Nested {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let inner = Json.encode(&vec![self.0; 3]).unwrap();
                serializer.serialize_str(std::str::from_utf8(&inner).unwrap())
            }
        }
        assert_eq!(Json.encode(&[Nested(1), Nested(2)]).unwrap(), r#"["[1,1,1]","[2,2,2]"]"#);
        let large = "x".repeat(1 << 20);
        assert_eq!(Json.encode(&large).unwrap().len(), large.len() + 2);
        assert_eq!(Json.encode("small").unwrap(), r#""small""#);
    }

    #[test]
    fn json_decodes_half_a_character_as_the_replacement_character() {
        assert_eq!(Json.decode::<String>(br#""a \ud83c""#).unwrap(), "a \u{fffd}");
        assert_eq!(Json.decode::<String>(br#""a \ud83c\udf55""#).unwrap(), "a 🍕");
    }

    #[test]
    fn a_value_that_its_type_cannot_decode_is_not_encoded() {
        #[derive(Debug, Serialize, Deserialize)]
        struct Skipping {
            #[serde(skip_serializing_if = "Vec::is_empty")]
            toppings: Vec<String>,
        }
        let error = Json.encode_readable(&Skipping { toppings: Vec::new() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Codec);
        let full = Skipping { toppings: vec!["ham".to_owned()] };
        assert_eq!(Json.encode_readable(&full).unwrap(), Json.encode(&full).unwrap());
    }

    #[test]
    fn errors_do_not_print_the_value() {
        let error = Json.decode::<u32>(b"\"hunter2\"").unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"));
        assert!(error.message().contains("line 1"));
    }
}
