//! Listings, page by page, and what goes through all entries.
//!
//! A listing goes through the directories one after the other. The names in one are taken down in
//! one go while no writer is at it, since on some file systems a name that is replaced during a
//! listing is missed; the files are looked at after that, a page at a time. So what a listing holds
//! in memory are the names of one directory (a 256th of all in Larder's own layout) and a page.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
    vec,
};

use larder_core::{Entry, Error, ErrorKind, Expiry, Key, Record, Result, clock::unix_millis};

use crate::{
    atomic,
    directory::{Directory, is_alive},
    error,
    form::{self, Form, Place},
    lock::Turn,
    name::{self, Named},
};

/// How many files are looked at in one go.
const PAGE: usize = 256;
/// After how many bytes of values a page is full.
const PAGE_BYTES: usize = 1 << 20;

/// A file that a listing found.
#[derive(Debug)]
pub(crate) struct Found {
    place: Place,
    named: Named,
}

/// A listing under way.
#[derive(Debug)]
pub(crate) struct Walk {
    directory: Arc<Directory>,
    prefix: String,
    shards: Option<vec::IntoIter<String>>,
    found: vec::IntoIter<Found>,
}

/// What a listing returns for each file.
pub(crate) trait Item: Sized + Send + 'static {
    /// Looks at the file; `None` if there is no entry (any more) or its key has another prefix.
    fn look(directory: &Directory, found: Found, prefix: &str) -> Result<Option<Self>>;

    /// How much of a page it takes up.
    fn size(&self) -> usize;
}

impl Walk {
    pub(crate) fn new(directory: Arc<Directory>, prefix: &str) -> Self {
        Self { directory, prefix: prefix.to_owned(), shards: None, found: Vec::new().into_iter() }
    }

    /// The next items; none at the end. Blocks the thread.
    pub(crate) fn page<T: Item>(&mut self) -> Result<Vec<Result<T>>> {
        loop {
            let page = self.look();
            if !page.is_empty() {
                return Ok(page);
            }
            if self.shards.is_none() {
                let (shards, refused) = self.directory.shards().map_err(whole)?;
                self.shards = Some(shards.into_iter());
                if !refused.is_empty() {
                    return Ok(refused.into_iter().map(Err).collect());
                }
            }
            let Some(shard) = self.shards.as_mut().and_then(Iterator::next) else {
                return Ok(Vec::new());
            };
            let (found, refused) = self.directory.names(&shard, &self.prefix).map_err(whole)?;
            self.found = found.into_iter();
            if !refused.is_empty() {
                return Ok(refused.into_iter().map(Err).collect());
            }
        }
    }

    fn look<T: Item>(&mut self) -> Vec<Result<T>> {
        let mut page = Vec::new();
        let mut size = 0;
        for found in self.found.by_ref().take(PAGE) {
            match T::look(&self.directory, found, &self.prefix) {
                Ok(None) => continue,
                Ok(Some(item)) => {
                    size += item.size();
                    page.push(Ok(item));
                }
                Err(error) => page.push(Err(error)),
            }
            if size >= PAGE_BYTES {
                break;
            }
        }
        page
    }
}

/// Opens a file to sync it. Windows syncs only what is open for writing.
fn open_to_sync(path: &Path) -> Option<File> {
    if cfg!(windows) {
        return fs::OpenOptions::new().write(true).open(path).ok();
    }
    form::open(path).ok().flatten()
}

/// An error about a directory. `Corrupt` says of a listing that one entry is damaged; here any number
/// may be missing.
fn whole(error: Error) -> Error {
    if error.kind() != ErrorKind::Corrupt {
        return error;
    }
    Error::new(ErrorKind::Other, "the listing is not whole: a directory could not be read").with_source(error)
}

impl Item for Key {
    fn look(directory: &Directory, found: Found, prefix: &str) -> Result<Option<Self>> {
        let path = directory.path(&found.place);
        let glance = match directory.settled(found.place.lock, || directory.form.glance(&path)) {
            Ok(Some(glance)) => glance,
            Ok(None) => return Ok(None),
            Err(error) => {
                return match found.named {
                    // A damaged entry is there: reading it says what is wrong, deleting it helps.
                    Named::Key(key) if error.kind() == ErrorKind::Corrupt => Ok(Some(key)),
                    _ => Err(error),
                };
            }
        };
        if !is_alive(glance.deadline, unix_millis()) {
            return Ok(None);
        }
        let key = match found.named {
            Named::Key(key) => key,
            Named::Digest => found.place.checked(directory.form, glance.key)?,
        };
        Ok(key.as_str().starts_with(prefix).then_some(key))
    }

    fn size(&self) -> usize {
        self.as_bytes().len()
    }
}

impl Item for Entry {
    fn look(directory: &Directory, found: Found, prefix: &str) -> Result<Option<Self>> {
        let path = directory.path(&found.place);
        let look = || -> Result<Option<Self>> {
            let key = match &found.named {
                Named::Key(key) => key.clone(),
                Named::Digest => match directory.form.glance(&path)? {
                    Some(glance) => found.place.checked(directory.form, glance.key)?,
                    None => return Ok(None),
                },
            };
            if !key.as_str().starts_with(prefix) {
                return Ok(None);
            }
            let Some(stored) = directory.form.load(&path, &key)? else {
                return Ok(None);
            };
            let expiry = Expiry::until(stored.deadline, unix_millis());
            Ok(expiry.map(|expiry| Self::new(key, Record::at(stored.value, stored.version), expiry)))
        };
        directory.settled(found.place.lock, look)
    }

    fn size(&self) -> usize {
        self.key.as_bytes().len() + self.record.value.len()
    }
}

impl Place {
    /// The key that was found in the file here, if this is where it belongs.
    fn checked(&self, form: Form, key: Option<Key>) -> Result<Key> {
        key.filter(|key| form.place(key).is_ok_and(|place| place == *self))
            .ok_or_else(|| error::corrupt("a file in the directory holds an entry that belongs elsewhere"))
    }
}

impl Directory {
    /// The directories that may hold entries. Beside them an error for each whose entries have keys
    /// that Larder cannot hold.
    pub(crate) fn shards(&self) -> Result<(Vec<String>, Vec<Error>)> {
        self.home.check()?;
        let mut shards = Vec::new();
        let mut refused = Vec::new();
        for entry in fs::read_dir(self.home.root()).map_err(error::io)? {
            match entry.map_err(error::io)?.file_name().into_string() {
                Ok(name) if self.form.is_shard(&name) => shards.push(name),
                Err(name) if self.form == Form::Grammy && self.form.is_shard(&name.to_string_lossy()) => {
                    let error = name::not_a_key("its directory's name is not UTF-8");
                    refused.push(error.with_stored_name(name.as_encoded_bytes()));
                }
                _ => {}
            }
        }
        Ok((shards, refused))
    }

    /// The files of entries in a directory, but for those whose name says that their key has not
    /// the prefix. Beside them an error for each file whose key Larder cannot hold.
    fn names(&self, shard: &str, prefix: &str) -> Result<(Vec<Found>, Vec<Error>)> {
        let lock = Form::lock(shard);
        loop {
            let visit = self.locks.visit(lock)?;
            let names = self.names_now(shard, prefix)?;
            // With no lock there was no writer either, unless the first one has come just now.
            if visit.is_some() || !self.locks.exists(lock) || self.locks.visit(lock)?.is_none() {
                return Ok(names);
            }
        }
    }

    fn names_now(&self, shard: &str, prefix: &str) -> Result<(Vec<Found>, Vec<Error>)> {
        let entries = match fs::read_dir(self.home.root().join(shard)) {
            Ok(entries) => entries,
            // A file of that name, or a directory that somebody has just removed.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound) => {
                return Ok((Vec::new(), Vec::new()));
            }
            Err(error) => return Err(error::io(error)),
        };
        let mut names = Vec::new();
        let mut refused = Vec::new();
        for entry in entries {
            let file = entry.map_err(error::io)?.file_name();
            let named = match self.form.parse(shard, &file) {
                Ok(Some(named)) => named,
                Ok(None) => continue,
                Err(error) => {
                    // In grammY's layout the name is the key as it is.
                    if self.form != Form::Grammy || file.as_encoded_bytes().starts_with(prefix.as_bytes()) {
                        refused.push(error.with_stored_name(file.as_encoded_bytes()));
                    }
                    continue;
                }
            };
            // A name that has been parsed is UTF-8.
            let Ok(file) = file.into_string() else {
                continue;
            };
            if matches!(&named, Named::Key(key) if !key.as_str().starts_with(prefix)) {
                continue;
            }
            let place = Place { shard: shard.to_owned(), file, lock: Form::lock(shard) };
            // A key's file in a directory where nobody would look for it is nobody's.
            if matches!(&named, Named::Key(key) if self.form.place(key).ok().as_ref() != Some(&place)) {
                continue;
            }
            names.push(Found { place, named });
        }
        Ok((names, refused))
    }

    /// Puts the contents of the entries' files in a directory on the disk: a touch that was killed may
    /// have changed one in place. The other forms never change a file that has its final name.
    pub(crate) fn sync_contents(&self, shard: &str) -> Result<()> {
        if self.form != Form::Binary {
            return Ok(());
        }
        for found in self.names_now(shard, "")?.0 {
            let path = self.path(&found.place);
            // A file that cannot be opened cannot be read either: no answer follows from it.
            let file = open_to_sync(&path).filter(|file| file.metadata().is_ok_and(|file| file.is_file()));
            if let Some(file) = file {
                atomic::sync_content(&file, &path).map_err(error::io)?;
            }
        }
        Ok(())
    }

    /// Deletes the entries in a directory whose keys begin with `prefix`; returns how many.
    pub(crate) fn clear_shard(&self, turn: &mut Turn, shard: &str, prefix: &str) -> Result<u64> {
        let (names, _) = self.names(shard, prefix)?;
        let mut deleted = 0;
        // A directory without entries is one page too: that they are gone may not be on the disk yet.
        for page in names.chunks(PAGE).chain(names.is_empty().then_some(&[][..])) {
            let held = self.begin(turn)?;
            for found in page {
                if found.named == Named::Digest && !prefix.is_empty() {
                    let glance = self.form.glance(&self.path(&found.place));
                    // What cannot be read has no known prefix; who clears everything gets rid of it.
                    let key = glance.ok().flatten().and_then(|glance| glance.key);
                    if !key.is_some_and(|key| key.as_str().starts_with(prefix)) {
                        continue;
                    }
                }
                deleted += u64::from(self.delete_at(&held, &found.place)?);
            }
            self.settle(&held, shard)?;
        }
        Ok(deleted)
    }

    /// Removes the entries in a directory that have expired and whose keys begin with `prefix`, as far
    /// as their names say; returns how many. Not synced: what comes back after a power cut is still
    /// expired.
    pub(crate) fn purge_shard(&self, turn: &mut Turn, shard: &str, prefix: &str) -> Result<u64> {
        let (mut expired, _) = self.names(shard, prefix)?;
        expired.retain(|found| self.is_expired(found));
        let mut purged = 0;
        for page in expired.chunks(PAGE) {
            let _held = turn.exclusive()?;
            for found in page {
                // It may have been written anew since.
                if self.is_expired(found) {
                    match fs::remove_file(self.path(&found.place)) {
                        Ok(()) => purged += 1,
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error::io(error)),
                    }
                }
            }
        }
        Ok(purged)
    }

    fn is_expired(&self, found: &Found) -> bool {
        // A damaged entry is not for us to remove: somebody may want to see it.
        matches!(self.form.glance(&self.path(&found.place)), Ok(Some(glance)) if !is_alive(glance.deadline, unix_millis()))
    }
}
