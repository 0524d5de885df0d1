//! The member names of a JSON object.

use std::fmt;

use serde::{
    Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};

/// Whether `json` is an object and `each` accepts all its member names. Names are unescaped. Stops at the
/// first name that `each` rejects. The nesting depth of values is not limited.
pub(crate) fn all(json: &[u8], each: impl FnMut(&str) -> bool) -> bool {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    deserializer.deserialize_map(Members(each)).is_ok() && deserializer.end().is_ok()
}

struct Members<F>(F);

impl<'de, F: FnMut(&str) -> bool> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            if !(self.0)(&name) {
                return Err(A::Error::custom("refused"));
            }
            members.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}
