//! What the table looks like.

use larder_core::{Capabilities, Purge, Values, Versions};
use tokio_postgres::types::Type;

/// The type of the column `value`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueColumn {
    /// `bytea`: any bytes, handed back as they were.
    #[default]
    Bytea,
    /// `jsonb`: JSON that the database can index and query; handed back as an equal JSON value.
    /// What `jsonb` cannot hold (the escape `\u0000`, unpaired surrogates) is refused. Numbers keep
    /// their exact value but not their spelling, and a negative zero comes back as zero.
    Jsonb,
    /// `json`: JSON that the database can query, handed back as it was written.
    Json,
    /// `text` that holds JSON, handed back as it was written.
    Text,
}

impl ValueColumn {
    pub(crate) const ALL: [Self; 4] = [Self::Bytea, Self::Jsonb, Self::Json, Self::Text];

    pub(crate) const fn sql(self) -> &'static str {
        match self {
            Self::Bytea => "bytea",
            Self::Jsonb => "jsonb",
            Self::Json => "json",
            Self::Text => "text",
        }
    }

    pub(crate) const fn value_type(self) -> Type {
        match self {
            Self::Bytea => Type::BYTEA,
            Self::Jsonb => Type::JSONB,
            Self::Json => Type::JSON,
            Self::Text => Type::TEXT,
        }
    }

    pub(crate) const fn array_type(self) -> Type {
        match self {
            Self::Bytea => Type::BYTEA_ARRAY,
            Self::Jsonb => Type::JSONB_ARRAY,
            Self::Json => Type::JSON_ARRAY,
            Self::Text => Type::TEXT_ARRAY,
        }
    }

    const fn values(self) -> Values {
        match self {
            Self::Bytea => Values::Bytes,
            Self::Jsonb => Values::Json,
            Self::Json | Self::Text => Values::JsonText,
        }
    }
}

/// The shape of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `key`, `value`, `version`, `expires_at`.
    Larder(ValueColumn),
    /// `"key"` and `"value"`, as `@grammyjs/storage-psql` makes it.
    Grammy,
}

impl Layout {
    pub(crate) const fn column(self) -> ValueColumn {
        match self {
            Self::Larder(column) => column,
            Self::Grammy => ValueColumn::Text,
        }
    }

    pub(crate) const fn capabilities(self) -> Capabilities {
        let common = Capabilities::minimal()
            .with_listing()
            .with_persistence()
            .with_sharing()
            .with_values(self.column().values())
            .with_max_value(self.max_value() as u64);
        match self {
            Self::Larder(_) => common.with_expiry().with_versions(Versions::Unique).with_purge(Purge::Sweep),
            Self::Grammy => common.with_versions(Versions::Content),
        }
    }

    /// Postgres stops at 1 GiB for a message and for a field; a parsed `jsonb` array or object at
    /// 256 MiB. What lies between these limits and ours is room for the rest of the message.
    pub(crate) const fn max_value(self) -> usize {
        match self {
            Self::Larder(ValueColumn::Jsonb) => 250_000_000,
            _ => 1_000_000_000,
        }
    }
}
