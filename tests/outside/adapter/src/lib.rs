//! A folder with one file per entry, as a small adapter that depends on `larder-core` and `larder-kit` only.

use std::{fs, io, path::PathBuf, sync::Arc};

use futures_util::{StreamExt, stream};
use larder_core::{
    Bytes, DeleteOptions, Entry, EntryStream, Error, ErrorKind, Info, Key, ListOptions, ReadOptions, Record,
    Result, Storage, Store, WriteOptions, Written, async_trait,
};
use larder_kit::StoreUrl;

/// Opens folders by URL: `larder::Registry::builtin().with(larder_folder::Adapter)`.
#[derive(Clone, Copy, Debug)]
pub struct Adapter;

impl larder_kit::Adapter for Adapter {
    const SCHEMES: &'static [&'static str] = &["folder"];
    const URLS: &'static [(&'static str, &'static str)] =
        &[("folder:DIR", "a folder with one file per entry")];

    async fn connect(&self, url: &str) -> Result<Store> {
        let folder = folder(url)?;
        fs::create_dir_all(&folder).map_err(failed)?;
        Ok(Store::new(Folder(folder)))
    }

    async fn connect_existing(&self, url: &str) -> Result<Store> {
        let folder = folder(url)?;
        if folder.is_dir() {
            Ok(Store::new(Folder(folder)))
        } else {
            Err(Error::new(ErrorKind::InvalidConfig, "the folder does not exist"))
        }
    }
}

fn folder(url: &str) -> Result<PathBuf> {
    let url = StoreUrl::parse(url)?;
    url.finish([] as [&str; 0])?;
    Ok(url.path()?.into())
}

struct Folder(PathBuf);

impl Folder {
    /// The file of an entry: the bytes of the key in hexadecimal.
    fn file(&self, key: &Key) -> PathBuf {
        self.0.join(key.as_str().bytes().map(|byte| format!("{byte:02x}")).collect::<String>())
    }
}

fn key(file: &str) -> Result<Key> {
    let digits =
        file.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
    let bytes: Option<Vec<u8>> = digits.collect();
    let name = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    Key::new(&name.ok_or_else(|| Error::new(ErrorKind::InvalidKey, "the file is not the file of an entry"))?)
}

fn failed(error: io::Error) -> Error {
    Error::new(ErrorKind::Other, "the folder could not be read or written").with_source(error)
}

/// `None` if the file does not exist.
fn found<T>(result: io::Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some).map_err(failed),
    }
}

#[async_trait]
impl Storage for Folder {
    async fn read(&self, key: &Key, _: &ReadOptions) -> Result<Option<Record>> {
        Ok(found(fs::read(self.file(key)))?.map(|value| Record::new(value.into())))
    }

    async fn write(&self, key: &Key, value: Bytes, _: &WriteOptions) -> Result<Written> {
        fs::write(self.file(key), value).map_err(failed)?;
        Ok(Written::default())
    }

    async fn delete(&self, key: &Key, _: &DeleteOptions) -> Result<bool> {
        Ok(found(fs::remove_file(self.file(key)))?.is_some())
    }

    fn info(&self) -> Info {
        Info::minimal("folder").with_listing().with_persistence()
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        let files = match fs::read_dir(&self.0) {
            Ok(files) => files,
            Err(error) => return stream::iter([Err(failed(error))]).boxed(),
        };
        let entry = move |file: io::Result<fs::DirEntry>| {
            let key = file.map_err(failed).and_then(|file| key(&file.file_name().to_string_lossy()));
            match key {
                Ok(key) if !key.as_str().starts_with(&options.prefix) => None,
                Ok(key) if options.values => match found(fs::read(self.file(&key))) {
                    Ok(value) => value.map(|value| Ok(Entry::new(key, Record::new(value.into())))),
                    Err(error) => Some(Err(error)),
                },
                key => Some(key.map(Entry::key)),
            }
        };
        stream::iter(files.filter_map(entry)).boxed()
    }
}
