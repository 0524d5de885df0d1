//! Names of schemas, tables and indexes: whatever they contain, they are quoted and stay data.

use larder_core::{Error, ErrorKind, Result};

/// Postgres cuts longer names off, silently: two long names could then mean one table.
const MAX_NAME: usize = 63;

/// Where the entries are: a table, perhaps in a named schema.
pub(crate) struct TableName {
    pub(crate) schema: Option<String>,
    pub(crate) table: String,
}

impl TableName {
    /// Without a schema a dot in `table` separates the two; with one, the dot is part of the name.
    pub(crate) fn new(schema: Option<&str>, table: &str) -> Self {
        let (schema, table) = match (schema, table.split_once('.')) {
            (None, Some((schema, table))) => (Some(schema), table),
            (schema, _) => (schema, table),
        };
        Self { schema: schema.map(str::to_owned), table: table.to_owned() }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let schema = self.schema.iter().map(|name| ("schema", name));
        for (what, name) in schema.chain([("table", &self.table)]) {
            let wrong = match name.as_str() {
                "" => "is empty",
                name if name.contains('\0') => "contains a NUL character",
                name if name.len() > MAX_NAME => "is longer than the 63 bytes that Postgres keeps of a name",
                _ => continue,
            };
            return Err(Error::new(ErrorKind::InvalidConfig, format!("the name of the {what} {wrong}")));
        }
        Ok(())
    }

    /// The name as SQL.
    pub(crate) fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quote(schema), quote(&self.table)),
            None => quote(&self.table),
        }
    }

    /// The name, as SQL, of an index of this table (an index lives in its table's schema). Names
    /// that would be cut off end in a hash instead, so that they stay apart.
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

/// `name` as an SQL identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// FNV-1a: small, and the same in every build, which the standard library's hashers do not promise.
fn fnv(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_whatever_they_contain() {
        let name = TableName::new(Some("Ünï cøde"), "we\"ird; drop table x --");
        assert_eq!(name.quoted(), "\"Ünï cøde\".\"we\"\"ird; drop table x --\"");
        name.check().unwrap();
    }

    #[test]
    fn a_dot_separates_only_where_no_schema_is_given() {
        assert_eq!(TableName::new(None, "app.sessions").quoted(), "\"app\".\"sessions\"");
        assert_eq!(TableName::new(Some("app"), "v1.sessions").quoted(), "\"app\".\"v1.sessions\"");
        assert_eq!(TableName::new(None, "sessions").quoted(), "\"sessions\"");
    }

    #[test]
    fn impossible_names_are_refused() {
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
    fn names_of_indexes_fit_and_stay_apart() {
        let short = TableName::new(None, "larder").index("", "_expires_at_idx");
        assert_eq!(short, "\"larder_expires_at_idx\"");
        let one = TableName::new(None, &format!("{}1", "é".repeat(31))).index("", "_expires_at_idx");
        let two = TableName::new(None, &format!("{}2", "é".repeat(31))).index("", "_expires_at_idx");
        assert_ne!(one, two);
        assert!(one.len() <= MAX_NAME + 2 && two.len() <= MAX_NAME + 2);
    }
}
