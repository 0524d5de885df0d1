//! The layout of grammY's file adapter (`@grammyjs/storage-file`):
//! `<directory>/<last two characters of the key>/<key>.json`.
//!
//! Characters are those of JavaScript: UTF-16 code units. If the last two begin with the second half of a surrogate
//! pair, Node replaces it by U+FFFD, and so does this module.

use std::{borrow::Cow, ffi::OsStr, fs};

use larder_core::{
    Action, Applied, Bytes, Change, Condition, Error, ErrorKind, Expiry, Info, Key, ReadOptions, Record,
    Result, Values, Version, Versions, Written,
};
use larder_kit::check_json;

use crate::{
    entries::{Entries, Found},
    error::{configuration, corrupt, if_found},
    files,
    format::{json_text, name::not_a_key},
    storage::FileStorage,
    tree::{Changes, EntryPath, Tree},
};

/// The maximum length of a file name on common file systems, in bytes.
const MAX_NAME: usize = 255;

const EXTENSION: &str = ".json";

/// A storage on a directory in grammY's layout.
pub(crate) type GrammyStorage = FileStorage<Sessions>;

/// The entries in grammY's layout.
pub(crate) struct Sessions(pub(crate) Tree);

impl Entries for Sessions {
    fn info(&self) -> Info {
        Info::minimal("file")
            .with_versions(Versions::Content)
            .with_values(Values::JsonText)
            .with_restricted_keys()
            .with_listing()
            .with_persistence()
            .with_sharing()
    }

    fn tree(&self) -> &Tree {
        &self.0
    }

    fn path(&self, key: &Key) -> Result<EntryPath> {
        let text = key.as_str();
        let directory = last_two(text);
        if text.contains(['/', '\\']) {
            return Err(refused("a key in grammY's layout must not contain a slash or a backslash"));
        }
        if directory == "." || directory == ".." {
            return Err(refused(
                "in grammY's layout, a key with this ending would be outside of its directory",
            ));
        }
        if text.len() + EXTENSION.len() > MAX_NAME {
            return Err(refused("the key is too long for a file name, as grammY's layout requires"));
        }
        if cfg!(windows) && !windows_can(&directory, text) {
            return Err(refused("the file name of this key in grammY's layout is not valid on Windows"));
        }
        Ok(EntryPath::new(directory, format!("{text}{EXTENSION}")))
    }

    fn found(&self, shard: &OsStr, name: &OsStr, prefix: &str) -> Result<Option<Found>> {
        let Some(stem) = name.as_encoded_bytes().strip_suffix(EXTENSION.as_bytes()) else {
            return Ok(None);
        };
        let Some(directory) = shard.to_str() else {
            let error = not_a_key("the name of its directory is not UTF-8");
            return Err(error.with_stored_name(shard.as_encoded_bytes()));
        };
        if stem.is_empty() || !stem.starts_with(prefix.as_bytes()) {
            return Ok(None);
        }
        let key = str::from_utf8(stem).map_err(|_| not_a_key("it is not UTF-8")).and_then(|stem| {
            // grammY would use another directory.
            if last_two(stem) != directory {
                return Ok(None);
            }
            let key = Key::new(stem).and_then(|key| self.path(&key).map(|_| key));
            key.map(Some).map_err(|error| not_a_key(error.message()))
        });
        let key = key.map_err(|error| error.with_stored_name(name.as_encoded_bytes()))?;
        Ok(key.map(|key| Found { at: EntryPath::new(shard, name), key: Some(key) }))
    }

    fn is_alive(&self, at: &EntryPath) -> Result<bool> {
        Ok(if_found(fs::symlink_metadata(self.0.path(at)))?.is_some())
    }

    fn read(&self, at: &EntryPath, _: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let Some(text) = files::read(&self.0.path(at))? else {
            return self.0.dir.check().map(|()| None);
        };
        check_json(&text).map_err(|_| corrupt("the file of the entry is not JSON"))?;
        let value = compact(text);
        let record = Record::at(value.clone(), Version::from_content(value));
        Ok(Some(if options.ttl { record.expires(Expiry::Never) } else { record }))
    }

    fn change(&self, changes: &mut Changes<'_>, at: &EntryPath, change: &Change) -> Result<Applied> {
        if change.condition != Condition::Any {
            let current = self.read(at, &change.key, &ReadOptions::new()).map_err(Error::not_applied)?;
            change.condition.check(current.and_then(|record| record.version).as_ref())?;
        }
        match &change.action {
            Action::Put(value, _) => {
                check_json(value)?;
                changes.replace(at, &json_text::indent(value, 0), b"")?;
                Ok(Applied::Put(Written::at(Version::from_content(compact(value.clone())))))
            }
            Action::Delete => changes.remove(at).map(Applied::Deleted),
            Action::Touch(_) => Err(Error::unsupported()),
        }
    }
}

/// Returns whether a directory with this name may have sessions.
pub(crate) fn is_shard(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && name.encode_utf16().count() <= 2
}

/// Rejects a directory that has other contents and no session.
pub(crate) fn check_directory(tree: &Tree) -> Result<()> {
    if tree.dir.marker.exists() {
        return Err(configuration(
            "the directory has Larder's own layout: remove the option `layout=grammy`",
        ));
    }
    let names = tree.dir.names()?;
    if names.is_empty() || names.iter().filter_map(|name| name.to_str()).any(is_shard) {
        return Ok(());
    }
    Err(configuration(
        "the directory has files, but none where grammY's file storage puts them: use grammY's directory, an \
         empty one, or a new one",
    ))
}

fn compact(json: Bytes) -> Bytes {
    match json_text::compact(&json) {
        Cow::Owned(compact) => Bytes::from(compact),
        Cow::Borrowed(_) => json,
    }
}

/// Returns `key.slice(-2)`, as in JavaScript.
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

fn refused(reason: &'static str) -> Error {
    Error::new(ErrorKind::InvalidKey, reason)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{data_dir::DataDir, lock::Locks, permissions::Permissions};

    fn sessions() -> Sessions {
        let dir = DataDir::new("".into(), "", Permissions::default());
        Sessions(Tree { locks: Locks::new(dir.clone(), Duration::ZERO), dir, sync: true, is_shard })
    }

    fn placed(text: &str) -> Result<String> {
        let at = sessions().path(&Key::new(text).unwrap())?;
        Ok(format!("{}/{}", at.shard.display(), at.file.display()))
    }

    /// Returns the key of a file with this name.
    fn parsed(directory: &str, stem: &str) -> Result<Option<Key>> {
        let found = sessions().found(directory.as_ref(), format!("{stem}{EXTENSION}").as_ref(), "")?;
        Ok(found.and_then(|found| found.key))
    }

    #[test]
    fn entries_are_where_grammy_puts_them() {
        for (key, path) in [
            ("424242", "42/424242.json"),
            ("-1001234567890", "90/-1001234567890.json"),
            ("7", "7/7.json"),
            ("ab", "ab/ab.json"),
            ("a.b", ".b/a.b.json"),
            ("日本", "日本/日本.json"),
            // The pizza is two code units, which are the whole directory name ...
            ("x🍕", "🍕/x🍕.json"),
            // ... and here only its second half is in it.
            ("🍕x", "\u{fffd}x/🍕x.json"),
        ] {
            assert_eq!(placed(key).unwrap(), path);
            let (directory, file) = path.split_once('/').unwrap();
            let stem = file.strip_suffix(EXTENSION).unwrap();
            assert_eq!(parsed(directory, stem).unwrap(), Some(Key::new(key).unwrap()));
            assert!(is_shard(directory));
        }
    }

    #[test]
    fn unsafe_keys_are_rejected() {
        let long = "k".repeat(251);
        for text in ["a/b", "../../x", "a\\b", ".", "..", "x..", "/etc", &long] {
            let error = placed(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey, "{text}");
            assert!(!error.message().contains(text) || text.len() < 3);
        }
        assert!(placed(&"k".repeat(250)).is_ok());
    }

    #[test]
    fn other_files_are_not_entries() {
        for (directory, stem) in [("42", "7"), ("", "a"), ("42", "4 2"), ("42", "a\\b")] {
            assert_eq!(parsed(directory, stem).unwrap(), None, "{directory}/{stem}");
        }
        for (directory, stem) in [("\\b", "a\\b"), ("42", "\\42"), ("42", "\n42"), ("\u{7f}2", "4\u{7f}2")] {
            let error = parsed(directory, stem).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey, "{directory}/{stem}");
        }
        for name in ["", ".", "..", ".larder", "abc", "🍕x"] {
            assert!(!is_shard(name), "{name}");
        }
    }

    #[test]
    fn names_that_windows_forbids_are_rejected() {
        for (directory, key) in [("1", "a:1"), ("on", "con"), ("1t", "nul.1t"), (" .", "x ."), ("m1", "com1")]
        {
            assert!(!windows_can(directory, key), "{key}");
        }
        assert!(windows_can("90", "-1001234567890"));
    }
}
