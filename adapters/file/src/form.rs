//! The three forms in which a directory holds entries, behind one face.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{self, Read},
    path::Path,
};

use bytes::Bytes;
use larder_core::{Key, Result, Version};

use crate::{
    binary, envelope,
    error::{self, corrupt},
    grammy, json_text, lock,
    name::{self, Named},
};

/// How a directory holds entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Larder's layout, any bytes.
    Binary,
    /// Larder's layout, JSON that people can read and edit.
    Json,
    /// grammY's layout.
    Grammy,
}

/// Where an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) shard: String,
    pub(crate) file: String,
    pub(crate) lock: usize,
}

/// An entry as stored.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) value: Bytes,
    pub(crate) version: Version,
    pub(crate) deadline: Option<i64>,
}

/// An entry without its value.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) version: Version,
    pub(crate) deadline: Option<i64>,
}

/// What to write into an entry's file: `head`, then `body`.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) head: Vec<u8>,
    pub(crate) body: Bytes,
    pub(crate) version: Version,
}

/// What a listing learns about a file without reading the value.
#[derive(Debug)]
pub(crate) struct Glance {
    /// The key, where the form keeps it in the file.
    pub(crate) key: Option<Key>,
    pub(crate) deadline: Option<i64>,
}

impl Form {
    /// Where the entry for `key` is.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](larder_core::ErrorKind::InvalidKey) in grammY's layout.
    pub(crate) fn place(self, key: &Key) -> Result<Place> {
        let (shard, file) = match self {
            Self::Grammy => grammy::place(key)?,
            Self::Binary | Self::Json => {
                (format!("{:02x}", name::shard(key)), format!("{}{}", name::stem(key), self.extension()))
            }
        };
        let lock = Self::lock(&shard);
        Ok(Place { shard, file, lock })
    }

    /// The lock of a directory.
    pub(crate) fn lock(shard: &str) -> usize {
        usize::from(crc32fast::hash(shard.as_bytes()).to_le_bytes()[0]) % lock::COUNT
    }

    const fn extension(self) -> &'static str {
        match self {
            Self::Binary => ".larder",
            Self::Json | Self::Grammy => ".json",
        }
    }

    /// Whether a directory of that name may hold entries.
    pub(crate) fn is_shard(self, name: &str) -> bool {
        match self {
            Self::Grammy => grammy::is_directory(name),
            Self::Binary | Self::Json => {
                name.len() == 2 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            }
        }
    }

    /// Reads the key from the file's name; `None` for a file that is not an entry's.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](larder_core::ErrorKind::InvalidKey) for an entry's file whose key Larder cannot
    /// hold.
    pub(crate) fn parse(self, shard: &str, file: &OsStr) -> Result<Option<Named>> {
        let stem = file.as_encoded_bytes().strip_suffix(self.extension().as_bytes());
        let Some(stem) = stem.filter(|stem| !stem.is_empty()) else {
            return Ok(None);
        };
        let stem = std::str::from_utf8(stem).map_err(|_| name::not_a_key("it is not UTF-8"))?;
        match self {
            Self::Grammy => Ok(grammy::key(shard, stem)?.map(Named::Key)),
            Self::Binary | Self::Json => name::parse(stem),
        }
    }

    pub(crate) fn encode(self, key: &Key, deadline: Option<i64>, value: &Bytes) -> Result<Encoded> {
        match self {
            Self::Binary => {
                let version = Version::unique();
                let token = version.as_token().unwrap_or_default();
                let head = binary::encode(key, token, deadline, value);
                Ok(Encoded { head, body: value.clone(), version })
            }
            Self::Json => {
                json_text::check_value(value)?;
                let token = Version::unique().as_token().unwrap_or_default();
                let compact = json_text::compact(value);
                let head = envelope::encode(key, token, deadline, &compact);
                Ok(Encoded { head, body: Bytes::new(), version: envelope::version(token, &compact) })
            }
            Self::Grammy => {
                json_text::check_value(value)?;
                let head = json_text::indent(value, 0);
                Ok(Encoded {
                    head,
                    body: Bytes::new(),
                    version: Version::from_content(compact(value.clone())),
                })
            }
        }
    }

    /// Reads the entry for `key`, expired or not, from the file at `path`.
    pub(crate) fn load(self, path: &Path, key: &Key) -> Result<Option<Stored>> {
        match self {
            Self::Binary => match binary::read(path)? {
                Some((head, stored)) => same_key(&head.key, key).map(|()| Some(stored)),
                None => Ok(None),
            },
            Self::Json => match read_whole(path)? {
                Some(text) => envelope::decode(&text, key).map(Some),
                None => Ok(None),
            },
            Self::Grammy => {
                let Some(text) = read_whole(path)? else {
                    return Ok(None);
                };
                if !json_text::is_json(&text) {
                    return Err(corrupt("the entry's file is not JSON"));
                }
                let value = compact(text);
                Ok(Some(Stored { version: Version::from_content(value.clone()), value, deadline: None }))
            }
        }
    }

    /// The same without the value, where that is less work.
    pub(crate) fn state(self, path: &Path, key: &Key) -> Result<Option<State>> {
        if self != Self::Binary {
            let state = |stored: Stored| State { version: stored.version, deadline: stored.deadline };
            return Ok(self.load(path, key)?.map(state));
        }
        match binary::head(path)? {
            Some(head) => same_key(&head.key, key).map(|()| Some(head.state())),
            None => Ok(None),
        }
    }

    /// What a listing has to know, without reading the value. `None` if there is no file.
    pub(crate) fn glance(self, path: &Path) -> Result<Option<Glance>> {
        match self {
            Self::Binary => {
                Ok(binary::head(path)?.map(|head| Glance { deadline: head.deadline, key: Some(head.key) }))
            }
            Self::Json => envelope::glance(path),
            Self::Grammy => match std::fs::symlink_metadata(path) {
                Ok(_) => Ok(Some(Glance { key: None, deadline: None })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error::io(error)),
            },
        }
    }
}

/// The key in a file is the one that its name stands for.
pub(crate) fn same_key(found: &Key, wanted: &Key) -> Result<()> {
    if found == wanted { Ok(()) } else { Err(corrupt("the entry's file holds another key's entry")) }
}

/// Opens a file for reading; `None` if there is none. A pipe is opened too, without waiting for
/// somebody who writes into it.
pub(crate) fn open(path: &Path) -> Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    match options.open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error::io(error)),
    }
}

/// Reads a file; `None` if there is none.
pub(crate) fn read_whole(path: &Path) -> Result<Option<Bytes>> {
    let Some(mut file) = open(path)? else {
        return Ok(None);
    };
    let metadata = file.metadata().map_err(error::io)?;
    if !metadata.is_file() {
        return Err(corrupt("there is a directory, a pipe or a device where a file belongs"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.read_to_end(&mut bytes).map_err(error::io)?;
    Ok(Some(Bytes::from(bytes)))
}

fn compact(json: Bytes) -> Bytes {
    match json_text::compact(&json) {
        std::borrow::Cow::Owned(compact) => Bytes::from(compact),
        std::borrow::Cow::Borrowed(_) => json,
    }
}
