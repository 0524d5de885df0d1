//! The layout of grammY's file adapter (`@grammyjs/storage-file`):
//! `<directory>/<last two characters of the key>/<key>.json`.
//!
//! Characters are JavaScript's: units of UTF-16. Where the last two begin with the second half of a
//! surrogate pair, Node writes U+FFFD in its place, and so do we.

use std::{borrow::Cow, fs, path::Path};

use bytes::Bytes;
use larder_core::{Error, ErrorKind, Info, Key, Result, Values, Version, Versions};
use larder_kit::check_json;

use super::{
    entry::{Encoded, EntryFormat, Header, Stored},
    json_text,
    name::{self, FileName},
};
use crate::{
    error::{corrupt, if_found},
    files,
};

/// The layout of grammY's file adapter.
#[derive(Debug)]
pub(crate) struct GrammyFormat;

/// The longest file name on any usual file system, in bytes.
const MAX_NAME: usize = 255;

const EXTENSION: &str = ".json";

impl EntryFormat for GrammyFormat {
    fn info(&self) -> Info {
        Info::minimal("file")
            .with_versions(Versions::Content)
            .with_values(Values::JsonText)
            .with_restricted_keys()
            .with_listing()
            .with_persistence()
            .with_sharing()
    }

    fn marker(&self) -> Option<&'static str> {
        None
    }

    fn extension(&self) -> &'static str {
        EXTENSION
    }

    fn has_plain_names(&self) -> bool {
        true
    }

    fn locate(&self, key: &Key) -> Result<(String, String)> {
        let text = key.as_str();
        let directory = last_two(text);
        if text.contains(['/', '\\']) {
            return Err(refused("grammY's layout has no place for a key with a slash or a backslash"));
        }
        if directory == "." || directory == ".." {
            return Err(refused("in grammY's layout a key that ends so would be outside of its directory"));
        }
        if text.len() + EXTENSION.len() > MAX_NAME {
            return Err(refused("the key is too long for a file name, which grammY's layout makes of it"));
        }
        if cfg!(windows) && !windows_can(&directory, text) {
            return Err(refused(
                "Windows cannot hold a file of the name that grammY's layout makes of this key",
            ));
        }
        Ok((directory, text.to_owned()))
    }

    fn is_shard(&self, name: &str) -> bool {
        !name.is_empty() && name != "." && name != ".." && name.encode_utf16().count() <= 2
    }

    fn parse(&self, shard: &str, stem: &str) -> Result<Option<FileName>> {
        // grammY would not have put it there.
        if last_two(stem) != shard {
            return Ok(None);
        }
        let key = Key::new(stem).and_then(|key| self.locate(&key).map(|_| key));
        key.map(|key| Some(FileName::Key(key))).map_err(|error| name::not_a_key(error.message()))
    }

    fn encode(&self, _: &Key, _: Option<i64>, value: &Bytes) -> Result<Encoded> {
        check_json(value)?;
        let version = Version::from_content(compact(value.clone()));
        Ok(Encoded { head: json_text::indent(value, 0), body: Bytes::new(), version })
    }

    fn read(&self, path: &Path, _: bool) -> Result<Option<(Option<Key>, Stored)>> {
        let Some(text) = files::read(path)? else {
            return Ok(None);
        };
        check_json(&text).map_err(|_| corrupt("the entry's file is not JSON"))?;
        let value = compact(text);
        let stored = Stored { version: Version::from_content(value.clone()), value, deadline: None };
        Ok(Some((None, stored)))
    }

    fn peek(&self, path: &Path) -> Result<Option<Header>> {
        Ok(if_found(fs::symlink_metadata(path))?.map(|_| Header { key: None, deadline: None }))
    }
}

fn compact(json: Bytes) -> Bytes {
    match json_text::compact(&json) {
        Cow::Owned(compact) => Bytes::from(compact),
        Cow::Borrowed(_) => json,
    }
}

/// `key.slice(-2)`.
fn last_two(text: &str) -> String {
    let units: Vec<u16> = text.encode_utf16().collect();
    String::from_utf16_lossy(&units[units.len().saturating_sub(2)..])
}

fn windows_can(directory: &str, key: &str) -> bool {
    let base = key.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let numbered = |prefix| base.strip_prefix(prefix).is_some_and(|rest| rest.chars().count() == 1);
    let device = ["con", "prn", "aux", "nul", "conin$", "conout$"].contains(&base.as_str())
        || numbered("com")
        || numbered("lpt");
    !device && !key.contains(['<', '>', ':', '"', '|', '?', '*']) && !directory.ends_with(['.', ' '])
}

fn refused(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidKey, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(text: &str) -> String {
        let path = GrammyFormat.path(&Key::new(text).unwrap()).unwrap();
        format!("{}/{}", path.shard, path.file)
    }

    #[test]
    fn where_grammy_puts_them() {
        for (key, path) in [
            ("424242", "42/424242.json"),
            ("-1001234567890", "90/-1001234567890.json"),
            ("7", "7/7.json"),
            ("ab", "ab/ab.json"),
            ("a.b", ".b/a.b.json"),
            ("日本", "日本/日本.json"),
            // The pizza is two units, so it fills the directory's name ...
            ("x🍕", "🍕/x🍕.json"),
            // ... and here only its second half would be in it.
            ("🍕x", "\u{fffd}x/🍕x.json"),
        ] {
            assert_eq!(placed(key), path);
            let (directory, file) = path.split_once('/').unwrap();
            let stem = file.strip_suffix(EXTENSION).unwrap();
            let name = FileName::Key(Key::new(key).unwrap());
            assert_eq!(GrammyFormat.parse(directory, stem).unwrap(), Some(name));
            assert!(GrammyFormat.is_shard(directory));
        }
    }

    #[test]
    fn unsafe_keys_are_refused() {
        let long = "k".repeat(251);
        for text in ["a/b", "../../x", "a\\b", ".", "..", "x..", "/etc", &long] {
            let error = GrammyFormat.locate(&Key::new(text).unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey, "{text}");
            assert!(!error.message().contains(text) || text.len() < 3);
        }
        assert!(GrammyFormat.locate(&Key::new("k".repeat(250)).unwrap()).is_ok());
    }

    #[test]
    fn other_files_are_not_entries() {
        for (directory, stem) in [("42", "7"), ("", "a"), ("42", "4 2"), ("42", "a\\b")] {
            assert_eq!(GrammyFormat.parse(directory, stem).unwrap(), None, "{directory}/{stem}");
        }
        for (directory, stem) in [("\\b", "a\\b"), ("42", "\\42"), ("42", "\n42"), ("\u{7f}2", "4\u{7f}2")] {
            let error = GrammyFormat.parse(directory, stem).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey, "{directory}/{stem}");
        }
        for name in ["", ".", "..", ".larder", "abc", "🍕x"] {
            assert!(!GrammyFormat.is_shard(name), "{name}");
        }
    }

    #[test]
    fn windows_is_asked_less() {
        for (directory, key) in [("1", "a:1"), ("on", "con"), ("1t", "nul.1t"), (" .", "x ."), ("m1", "com1")]
        {
            assert!(!windows_can(directory, key), "{key}");
        }
        assert!(windows_can("90", "-1001234567890"));
    }
}
