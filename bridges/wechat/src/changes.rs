//! The changes that a handler makes to a session. They can be applied again to a newer state of the session.

use std::sync::Arc;

use larder_core::Result;
use serde_json::value::RawValue;

use crate::fields::{Fields, Raw};

type Change = Arc<dyn Fn(Option<&RawValue>) -> Result<Option<Raw>> + Send + Sync>;

/// Changes of single fields, in order.
#[derive(Clone, Default)]
pub(crate) struct Changes(Vec<(String, Kind)>);

#[derive(Clone)]
enum Kind {
    Set(Raw),
    Remove,
    Update(Change),
}

impl Changes {
    pub(crate) fn set(&mut self, name: &str, value: Raw) {
        self.replace(name, Kind::Set(value));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.replace(name, Kind::Remove);
    }

    pub(crate) fn update(&mut self, name: &str, change: Change) {
        self.0.push((name.to_owned(), Kind::Update(change)));
    }

    /// Earlier changes of the field no longer matter.
    fn replace(&mut self, name: &str, kind: Kind) {
        self.0.retain(|(other, _)| other != name);
        self.0.push((name.to_owned(), kind));
    }

    /// Returns the fields with all changes applied.
    pub(crate) fn apply(&self, mut fields: Fields) -> Result<Fields> {
        for (name, kind) in &self.0 {
            let value = match kind {
                Kind::Set(value) => Some(value.clone()),
                Kind::Remove => None,
                Kind::Update(change) => change(fields.get(name))?,
            };
            match value {
                Some(value) => fields.set(name, value),
                None => fields.remove(name),
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::{decode, encode};

    #[test]
    fn changes_apply_to_a_newer_state() {
        let mut changes = Changes::default();
        changes.set("a", encode("a", &1).unwrap());
        changes.set("a", encode("a", &2).unwrap());
        changes.remove("b");
        changes.update(
            "n",
            Arc::new(|old| {
                let old: i32 = old.map(|old| decode("n", old)).transpose()?.unwrap_or(0);
                encode("n", &(old + 1)).map(Some)
            }),
        );
        assert_eq!(changes.0.len(), 3);

        let mut fields = Fields::default();
        for (name, value) in [("a", 7), ("b", 7), ("c", 7), ("n", 7)] {
            fields.set(name, encode(name, &value).unwrap());
        }
        let fields = changes.apply(fields).unwrap();
        assert_eq!(fields.encode().unwrap(), r#"{"a":2,"c":7,"n":8}"#);
    }
}
