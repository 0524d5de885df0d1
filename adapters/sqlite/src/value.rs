//! Values on their way into a column and out of it.

use larder_core::{Bytes, Error, ErrorKind, Record, Result, Values, Version};
use sqlx::{
    Encode, Row, Sqlite, Type,
    encode::IsNull,
    error::BoxDynError,
    sqlite::{SqliteArgumentsBuffer, SqliteRow, SqliteTypeInfo},
};

use crate::{NAME, config::ValueColumn, error::from_driver};

/// The largest value, in bytes: SQLite's limit for a row, less room for the key and the other
/// columns.
pub const MAX_VALUE: u64 = 1_000_000_000 - 1_024;

/// A value as the column takes it.
pub(crate) enum Column {
    Blob(Vec<u8>),
    Text(String),
}

impl ValueColumn {
    pub(crate) const fn values(self) -> Values {
        match self {
            Self::Blob => Values::Bytes,
            Self::Json => Values::JsonText,
        }
    }

    /// The value for the column, if the column can hold it.
    pub(crate) fn encode(self, value: Bytes) -> Result<Column> {
        if value.len() as u64 > MAX_VALUE {
            let message =
                format!("SQLite takes values of at most {MAX_VALUE} bytes; this one has {}", value.len());
            return Err(Error::new(ErrorKind::TooLarge, message).with_adapter(NAME));
        }
        match self {
            Self::Blob => Ok(Column::Blob(value.into())),
            Self::Json => {
                let refuse = || {
                    let message = "the value is not JSON, and the storage is set to `values=json`";
                    Error::new(ErrorKind::InvalidValue, message).with_adapter(NAME)
                };
                serde_json::from_slice::<serde::de::IgnoredAny>(&value).map_err(|_| refuse())?;
                String::from_utf8(value.into()).map(Column::Text).map_err(|_| refuse())
            }
        }
    }

    /// What stands in a row that is written expired.
    pub(crate) fn nothing(self) -> Column {
        match self {
            Self::Blob => Column::Blob(Vec::new()),
            // SQLite's JSON functions fail for a whole query if one row is not JSON.
            Self::Json => Column::Text("null".to_owned()),
        }
    }
}

impl Column {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Blob(bytes) => bytes.len(),
            Self::Text(text) => text.len(),
        }
    }

    pub(crate) fn duplicate(&self) -> Self {
        match self {
            Self::Blob(bytes) => Self::Blob(bytes.clone()),
            Self::Text(text) => Self::Text(text.clone()),
        }
    }
}

impl Type<Sqlite> for Column {
    fn type_info() -> SqliteTypeInfo {
        <Vec<u8> as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for Column {
    fn encode(self, arguments: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        match self {
            Self::Blob(bytes) => <Vec<u8> as Encode<'_, Sqlite>>::encode(bytes, arguments),
            Self::Text(text) => <String as Encode<'_, Sqlite>>::encode(text, arguments),
        }
    }

    fn encode_by_ref(&self, arguments: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode(self.duplicate(), arguments)
    }
}

/// The record in a row that has the value in column `at` and the version after it.
pub(crate) fn record(row: &SqliteRow, at: usize) -> Result<Record> {
    // Unchecked: text and blobs are both bytes, and a foreign writer may have stored either.
    let value: Option<Vec<u8>> = row.try_get_unchecked(at).map_err(from_driver)?;
    // Checked: text read as a number is 0, and a comparison in SQL would never find it equal.
    let version: Option<i64> = row.try_get(at + 1).map_err(from_driver)?;
    let (Some(value), Some(version)) = (value, version) else {
        let message = "a row has no value or no version, so this adapter has not written it";
        return Err(Error::new(ErrorKind::Corrupt, message).with_adapter(NAME));
    };
    Ok(Record::at(value.into(), Version::from_token(version.cast_unsigned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_checked_and_kept_as_it_is() {
        for json in ["{\"a\" : 1.0, \"a\":2}", " null ", "\"\\u0000\"", "1e400"] {
            let Column::Text(text) = ValueColumn::Json.encode(Bytes::from(json)).unwrap() else {
                panic!("JSON is kept as text");
            };
            assert_eq!(text, json);
        }
        for refused in [&b""[..], b"{", b"{}x", b"\xff", b"\"\xff\"", b"NaN", b"secret"] {
            let error = ValueColumn::Json.encode(Bytes::from_static(refused)).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidValue);
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
    }
}
