//! Quotes the names of schemas, tables and indexes, so that any characters in them are data.

use larder_core::{Error, ErrorKind, Result};

/// The maximum length of a name. Postgres silently truncates longer ones, so two names could mean the same table.
const MAX_NAME: usize = 63;

/// The name of the table, and of its schema if that is set.
pub(crate) struct TableName {
    pub(crate) schema: Option<String>,
    pub(crate) table: String,
}

impl TableName {
    /// Without `schema`, a dot in `table` separates the two; with it, the dot is part of the name.
    pub(crate) fn new(schema: Option<&str>, table: &str) -> Self {
        let (schema, table) = match (schema, table.split_once('.')) {
            (None, Some((schema, table))) => (Some(schema), table),
            (schema, _) => (schema, table),
        };
        Self { schema: schema.map(str::to_owned), table: table.to_owned() }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let schema = self.schema.iter().map(|name| ("schema", name));
        for (object, name) in schema.chain([("table", &self.table)]) {
            let wrong = match name.as_str() {
                "" => "is empty",
                name if name.contains('\0') => "contains a NUL character",
                name if name.len() > MAX_NAME => "is longer than 63 bytes, the limit of Postgres",
                _ => continue,
            };
            return Err(Error::new(ErrorKind::InvalidConfig, format!("the name of the {object} {wrong}")));
        }
        Ok(())
    }

    /// Returns the name as SQL.
    pub(crate) fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quote(schema), quote(&self.table)),
            None => quote(&self.table),
        }
    }

    /// Returns the name, as SQL, of an index of this table (an index is in the schema of its table). A name that is too
    /// long ends with a hash, so that names remain distinct.
    pub(crate) fn index(&self, prefix: &str, suffix: &str) -> String {
        let whole = format!("{prefix}{}{suffix}", self.table);
        if whole.len() <= MAX_NAME {
            return quote(&whole);
        }
        let end = format!("_{:08x}{suffix}", fnv(&self.table) & 0xffff_ffff);
        let room = self.table.floor_char_boundary(MAX_NAME - prefix.len() - end.len());
        quote(&format!("{prefix}{}{end}", &self.table[..room]))
    }
}

/// Returns `name` as an SQL identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns the FNV-1a hash: small, and the same in every build, unlike the hashers of the standard library.
fn fnv(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_any_characters_are_quoted() {
        let name = TableName::new(Some("Ünï cøde"), "we\"ird; drop table x --");
        assert_eq!(name.quoted(), "\"Ünï cøde\".\"we\"\"ird; drop table x --\"");
        name.check().unwrap();
    }

    #[test]
    fn a_dot_separates_only_without_a_schema() {
        assert_eq!(TableName::new(None, "app.sessions").quoted(), "\"app\".\"sessions\"");
        assert_eq!(TableName::new(Some("app"), "v1.sessions").quoted(), "\"app\".\"v1.sessions\"");
        assert_eq!(TableName::new(None, "sessions").quoted(), "\"sessions\"");
    }

    #[test]
    fn invalid_names_are_rejected() {
        for (schema, table) in [
            (None, ""),
            (None, ".x"),
            (None, "x."),
            (None, "a\0b"),
            (Some(""), "x"),
            (Some("x"), &*"t".repeat(64)),
        ] {
            let error = TableName::new(schema, table).check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        }
        TableName::new(None, &"t".repeat(63)).check().unwrap();
    }

    #[test]
    fn names_of_indexes_are_short_and_distinct() {
        let short = TableName::new(None, "larder").index("", "_expires_at_idx");
        assert_eq!(short, "\"larder_expires_at_idx\"");
        let one = TableName::new(None, &format!("{}1", "é".repeat(31))).index("", "_expires_at_idx");
        let two = TableName::new(None, &format!("{}2", "é".repeat(31))).index("", "_expires_at_idx");
        assert_ne!(one, two);
        assert!(one.len() <= MAX_NAME + 2 && two.len() <= MAX_NAME + 2);
    }
}
