//! Larder's own table.

use larder_core::{Bytes, Expiry, Info, Purge, Record, Result, Values, Version, Versions};
use larder_kit::{check_json, prefix_end};
use tokio_postgres::Row;

use crate::{
    config::ValueFormat,
    model::{Model, corrupt},
    sql::MAX_VALUE,
    value::{Moment, Stored},
};

/// Larder's layout, with values in this format.
pub(crate) struct Larder(pub(crate) ValueFormat);

impl Model for Larder {
    fn info(&self, driver: Info) -> Info {
        let info = driver.with_ordered_listing().with_expiry();
        let info = info.with_versions(Versions::Unique).with_purge(Purge::Sweep);
        match self.0 {
            ValueFormat::Bytes => info.with_values(Values::Bytes).with_max_value(MAX_VALUE),
            // The limit of Postgres is 256 MiB for a parsed `jsonb` array or object.
            ValueFormat::Jsonb => info.with_values(Values::Json).with_max_value(250_000_000),
            ValueFormat::Json | ValueFormat::Text => {
                info.with_values(Values::JsonText).with_max_value(MAX_VALUE)
            }
        }
    }

    fn check(&self, value: &[u8]) -> Result<()> {
        if self.0 == ValueFormat::Bytes { Ok(()) } else { check_json(value) }
    }

    fn version(_: &Bytes) -> Version {
        Version::unique()
    }

    fn record(row: &Row, with_value: bool) -> Result<Record> {
        let deadline: Option<Moment> = row.try_get(3).map_err(corrupt)?;
        let now = row.try_get(4).map_err(corrupt)?;
        let expiry = deadline.map_or(Expiry::Never, |deadline| deadline.left_at(now));
        if !with_value {
            return Ok(Record::new(Bytes::new()).expires(expiry));
        }
        let Stored(value) = row.try_get(1).map_err(corrupt)?;
        let token: i64 = row.try_get(2).map_err(corrupt)?;
        Ok(Record::at(value, Version::from_token(token.cast_unsigned())).expires(expiry))
    }

    fn range(prefix: &str) -> (String, Option<String>) {
        (prefix.to_owned(), prefix_end(prefix))
    }
}
