//! Converts parameters and values to and from the wire format, with a single copy into or out of the message.

use std::{error::Error as StdError, fmt};

use bytes::{BufMut, Bytes, BytesMut};
use larder_core::{Expiry, Version};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// The version byte in front of `jsonb`.
const JSONB_VERSION: u8 = 1;

/// The bytes for a column of type `bytea`, `jsonb`, `json` or `text`.
pub(crate) struct Value<'a>(pub(crate) &'a [u8]);

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.0.len())
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        if *ty == Type::JSONB {
            out.put_u8(JSONB_VERSION);
        }
        out.put_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::BYTEA | Type::JSONB | Type::JSON | Type::TEXT)
    }

    to_sql_checked!();
}

/// The version that an entry must have: a number, or the content of a column of type `text`.
#[derive(Debug)]
pub(crate) struct Expected<'a>(pub(crate) &'a Version);

impl ToSql for Expected<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self.0.as_content() {
            Some(content) => Value(content).to_sql(ty, out),
            None => self.0.as_token().map(u64::cast_signed).to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT8 | Type::TEXT)
    }

    to_sql_checked!();
}

/// The bytes of a column of such a type, or `varchar`.
pub(crate) struct Stored(pub(crate) Bytes);

impl<'a> FromSql<'a> for Stored {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        let raw = match *ty {
            Type::JSONB => raw.strip_prefix(&[JSONB_VERSION]).ok_or("an unknown version of jsonb")?,
            _ => raw,
        };
        // Copied because the message contains whole pages of rows, which a slice would keep in memory.
        Ok(Self(Bytes::copy_from_slice(raw)))
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::BYTEA | Type::JSONB | Type::JSON | Type::TEXT | Type::VARCHAR)
    }
}

/// A time by the server's clock, in microseconds. The smallest and the largest `i64` mean infinity.
#[derive(Clone, Copy)]
pub(crate) struct Moment(i64);

impl Moment {
    /// Returns the remaining time at `now` of an entry with this deadline that had not expired.
    pub(crate) fn left_at(self, Self(now): Self) -> Expiry {
        if self.0 == i64::MAX {
            return Expiry::Never;
        }
        let micros = u64::try_from(self.0.saturating_sub(now)).unwrap_or(0);
        // At least 1 ms, because the server found the entry live.
        Expiry::after_millis(micros.div_ceil(1_000).max(1))
    }
}

impl<'a> FromSql<'a> for Moment {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        i64::from_sql(&Type::INT8, raw).map(Self)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

/// A parameter whose `Debug` hides it. The driver logs the `Debug` of parameters, which include keys, and a key may be
/// enough to use another user's session.
pub(crate) struct Redacted<'a>(pub(crate) &'a (dyn ToSql + Sync));

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl ToSql for Redacted<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        self.0.to_sql_checked(ty, out)
    }

    /// The parameter checks its own type.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jsonb_has_its_version_in_front() {
        let mut out = BytesMut::new();
        Value(b"{}").to_sql(&Type::JSONB, &mut out).unwrap();
        assert_eq!(&out[..], b"\x01{}");
        assert_eq!(&Stored::from_sql(&Type::JSONB, &out).unwrap().0[..], b"{}");
        assert!(Stored::from_sql(&Type::JSONB, b"\x02{}").is_err());
        assert!(Stored::from_sql(&Type::JSONB, b"").is_err());
        assert_eq!(&Stored::from_sql(&Type::BYTEA, b"\x01").unwrap().0[..], b"\x01");
    }

    #[test]
    fn the_remaining_time_is_in_milliseconds_rounded_up() {
        let left = |deadline: i64, now: i64| Moment(deadline).left_at(Moment(now));
        assert_eq!(left(5_000, 2_000), Expiry::after_millis(3));
        assert_eq!(left(5_001, 2_000), Expiry::after_millis(4));
        assert_eq!(left(-5_000, -7_000), Expiry::after_millis(2));
        // It expired in the meantime.
        assert_eq!(left(2_000, 5_000), Expiry::after_millis(1));
        assert_eq!(left(i64::MAX, 5_000), Expiry::Never);
    }

    #[test]
    fn debug_prints_no_value() {
        assert_eq!(format!("{:?}", Value(b"hunter2")), "Value(7 bytes)");
    }

    #[test]
    fn a_redacted_parameter_is_sent_but_not_printed() {
        let (mut bare, mut redacted) = (BytesMut::new(), BytesMut::new());
        "hunter2".to_sql(&Type::TEXT, &mut bare).unwrap();
        Redacted(&"hunter2").to_sql_checked(&Type::TEXT, &mut redacted).unwrap();
        assert_eq!(bare, redacted);
        assert!(Redacted(&"hunter2").to_sql_checked(&Type::INT8, &mut redacted).is_err());
        assert_eq!(format!("{:?}", [Redacted(&"hunter2")]), "[..]");
    }
}
