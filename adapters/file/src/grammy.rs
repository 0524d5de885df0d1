//! The layout of grammY's file adapter (`@grammyjs/storage-file`):
//! `<directory>/<last two characters of the key>/<key>.json`.
//!
//! Characters are JavaScript's: units of UTF-16. Where the last two begin with the second half of a
//! surrogate pair, Node writes U+FFFD in its place, and so do we.

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

/// The longest file name on any usual file system, in bytes.
const MAX_NAME: usize = 255;

const EXTENSION: &str = ".json";

/// A storage on a directory in grammY's layout.
pub(crate) type GrammyStorage = FileStorage<Sessions>;

/// The sessions that grammY wrote, and ours.
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
        Ok(EntryPath::new(directory, format!("{text}{EXTENSION}")))
    }

    fn found(&self, shard: &OsStr, name: &OsStr, prefix: &str) -> Result<Option<Found>> {
        let Some(stem) = name.as_encoded_bytes().strip_suffix(EXTENSION.as_bytes()) else {
            return Ok(None);
        };
        let Some(directory) = shard.to_str() else {
            let error = not_a_key("its directory's name is not UTF-8");
            return Err(error.with_stored_name(shard.as_encoded_bytes()));
        };
        if stem.is_empty() || !stem.starts_with(prefix.as_bytes()) {
            return Ok(None);
        }
        let key = str::from_utf8(stem).map_err(|_| not_a_key("it is not UTF-8")).and_then(|stem| {
            // grammY would not have put it elsewhere.
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
        check_json(&text).map_err(|_| corrupt("the entry's file is not JSON"))?;
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

/// Whether a directory of that name may hold sessions.
pub(crate) fn is_shard(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && name.encode_utf16().count() <= 2
}

/// Refuses a directory that has no session in it, but something else.
pub(crate) fn check_directory(tree: &Tree) -> Result<()> {
    if tree.dir.marker.exists() {
        return Err(configuration("the directory has Larder's own layout; leave `layout=grammy` out"));
    }
    let names = tree.dir.names()?;
    if names.is_empty() || names.iter().filter_map(|name| name.to_str()).any(is_shard) {
        return Ok(());
    }
    Err(configuration(
        "the directory holds files, and none where grammY's file storage puts them; name its directory, an empty \
         one or a new one",
    ))
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

    /// The key of the file of that name.
    fn parsed(directory: &str, stem: &str) -> Result<Option<Key>> {
        let found = sessions().found(directory.as_ref(), format!("{stem}{EXTENSION}").as_ref(), "")?;
        Ok(found.and_then(|found| found.key))
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
            assert_eq!(placed(key).unwrap(), path);
            let (directory, file) = path.split_once('/').unwrap();
            let stem = file.strip_suffix(EXTENSION).unwrap();
            assert_eq!(parsed(directory, stem).unwrap(), Some(Key::new(key).unwrap()));
            assert!(is_shard(directory));
        }
    }

    #[test]
    fn unsafe_keys_are_refused() {
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
    fn windows_is_asked_less() {
        for (directory, key) in [("1", "a:1"), ("on", "con"), ("1t", "nul.1t"), (" .", "x ."), ("m1", "com1")]
        {
            assert!(!windows_can(directory, key), "{key}");
        }
        assert!(windows_can("90", "-1001234567890"));
    }
}
