//! The file of an entry in Larder's own layout.
//!
//! | at | bytes | content (numbers are little-endian) |
//! |---|---|---|
//! | 0 | 6 | `LARDER` |
//! | 6 | 1 | format version: 1 |
//! | 7 | 1 | 0 |
//! | 8 | 8 | version token, new with every write |
//! | 16 | 8 | length of the value |
//! | 24 | 2 | length of the key |
//! | 26 | 2 | 0 |
//! | 28 | 4 | CRC-32 of the value |
//! | 32 | 4 | CRC-32 of bytes 0 to 31 and of the key |
//! | 36 | 4 | CRC-32 of bytes 40 to 47 |
//! | 40 | 8 | expiry in Unix milliseconds, signed; 0: never |
//! | 48 | | the key, in UTF-8; the value after it |
//!
//! The expiry and its checksum are changed in place by a touch: twelve bytes within the first sector
//! of the disk, which is written whole or not at all.

use std::{
    fs::OpenOptions,
    io::{self, Seek, SeekFrom, Write},
    path::Path,
};

use bytes::Bytes;
use larder_core::{Info, Key, Purge, Result, Version, Versions};

use super::entry::{Encoded, EntryFormat, Header, Stored, check_key};
use crate::{
    error::{self, corrupt},
    files,
};

/// Larder's own layout, with values of any bytes.
#[derive(Debug)]
pub(crate) struct BinaryFormat;

const MAGIC: &[u8; 6] = b"LARDER";
const FORMAT: u8 = 1;
/// The length of the head before the key.
const FIXED: usize = 48;
/// Where the expiry's checksum is, with the expiry after it.
const EXPIRY: usize = 36;
/// The head of every file fits in.
const HEAD: usize = FIXED + Key::MAX_BYTES;

/// The head of a file.
#[derive(Debug)]
struct Head {
    key: Key,
    token: u64,
    deadline: Option<i64>,
    value_length: u64,
    value_sum: u32,
}

impl EntryFormat for BinaryFormat {
    fn info(&self) -> Info {
        Info::minimal("file")
            .with_expiry()
            .with_versions(Versions::Unique)
            .with_purge(Purge::Sweep)
            .with_listing()
            .with_persistence()
            .with_sharing()
    }

    fn marker(&self) -> Option<&'static str> {
        Some("bytes")
    }

    fn extension(&self) -> &'static str {
        ".larder"
    }

    fn changes_in_place(&self) -> bool {
        true
    }

    fn encode(&self, key: &Key, deadline: Option<i64>, value: &Bytes) -> Result<Encoded> {
        let version = Version::unique();
        let head = encode(key, version.as_token().unwrap_or_default(), deadline, value);
        Ok(Encoded { head, body: value.clone(), version })
    }

    fn load(&self, path: &Path, key: &Key, value: bool) -> Result<Option<Stored>> {
        let Some((head, value)) = read(path, value)? else {
            return Ok(None);
        };
        check_key(&head.key, key)?;
        Ok(Some(Stored { value, version: Version::from_token(head.token), deadline: head.deadline }))
    }

    fn peek_header(&self, path: &Path) -> Result<Option<Header>> {
        let header = |(head, _): (Head, Bytes)| Header { deadline: head.deadline, key: Some(head.key) };
        Ok(read(path, false)?.map(header))
    }

    fn touch(&self, path: &Path, _: &Key, deadline: Option<i64>, sync: bool) -> Result<Option<Vec<u8>>> {
        touch(path, deadline, sync)?;
        Ok(None)
    }
}

/// The head of a file for `value`.
fn encode(key: &Key, token: u64, deadline: Option<i64>, value: &[u8]) -> Vec<u8> {
    let key = key.as_bytes();
    let mut head = Vec::with_capacity(FIXED + key.len());
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&[FORMAT, 0]);
    head.extend_from_slice(&token.to_le_bytes());
    head.extend_from_slice(&(value.len() as u64).to_le_bytes());
    // A key has at most 512 bytes.
    head.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
    head.extend_from_slice(&[0, 0]);
    head.extend_from_slice(&crc32fast::hash(value).to_le_bytes());
    head.extend_from_slice(&head_sum(&head, key).to_le_bytes());
    head.extend_from_slice(&encode_expiry(deadline));
    head.extend_from_slice(key);
    head
}

fn head_sum(fixed: &[u8], key: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(fixed);
    sum.update(key);
    sum.finalize()
}

fn encode_expiry(deadline: Option<i64>) -> [u8; 12] {
    // A deadline of 0 would be 1970: so long ago that 1 says the same.
    let millis = deadline.map_or(0, |deadline| deadline.max(1)).to_le_bytes();
    let mut field = [0; 12];
    field[..4].copy_from_slice(&crc32fast::hash(&millis).to_le_bytes());
    field[4..].copy_from_slice(&millis);
    field
}

/// The bytes at `at`, as an array.
fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    bytes
        .get(at..at + N)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| corrupt("the entry's file ends within its head"))
}

/// Reads the head from the beginning of a file.
fn decode(bytes: &[u8]) -> Result<Head> {
    if array::<6>(bytes, 0)? != *MAGIC {
        return Err(corrupt("the file under the entry's name was not written by Larder"));
    }
    let [format] = array(bytes, 6)?;
    if format != FORMAT {
        return Err(corrupt("the entry's file has a format that this version of Larder does not know"));
    }
    let key_length = usize::from(u16::from_le_bytes(array(bytes, 24)?));
    let key = bytes
        .get(FIXED..FIXED + key_length)
        .ok_or_else(|| corrupt("the entry's file ends within its head"))?;
    if head_sum(&bytes[..32], key) != u32::from_le_bytes(array(bytes, 32)?) {
        return Err(corrupt("the head of the entry's file is damaged"));
    }
    let expiry: [u8; 8] = array(bytes, EXPIRY + 4)?;
    if crc32fast::hash(&expiry) != u32::from_le_bytes(array(bytes, EXPIRY)?) {
        return Err(corrupt("the expiry in the entry's file is damaged"));
    }
    let key = std::str::from_utf8(key).ok().and_then(|key| Key::new(key).ok());
    let deadline = i64::from_le_bytes(expiry);
    Ok(Head {
        key: key.ok_or_else(|| corrupt("the entry's file does not hold a valid key"))?,
        token: u64::from_le_bytes(array(bytes, 8)?),
        deadline: (deadline != 0).then_some(deadline),
        value_length: u64::from_le_bytes(array(bytes, 16)?),
        value_sum: u32::from_le_bytes(array(bytes, 28)?),
    })
}

/// Reads the file at `path`; `None` if there is none. Without `value` this checks that the file has the
/// right length, and does not look at the value.
fn read(path: &Path, value: bool) -> Result<Option<(Head, Bytes)>> {
    let Some((bytes, length)) = files::read_start(path, if value { usize::MAX } else { HEAD })? else {
        return Ok(None);
    };
    let head = decode(&bytes)?;
    let start = FIXED + head.key.as_bytes().len();
    // A false length in the head may be close to the largest number.
    if Some(length) != head.value_length.checked_add(start as u64) {
        return Err(corrupt("the entry's file does not have the length that its head says"));
    }
    if !value {
        return Ok(Some((head, Bytes::new())));
    }
    let value = bytes.slice(start..);
    if value.len() as u64 != head.value_length || crc32fast::hash(&value) != head.value_sum {
        return Err(corrupt("the value in the entry's file is damaged"));
    }
    Ok(Some((head, value)))
}

/// Gives the file at `path` another expiry, in place.
fn touch(path: &Path, deadline: Option<i64>, sync: bool) -> Result<()> {
    let mut file = OpenOptions::new().write(true).open(path).map_err(error::io)?;
    let mut change = || -> io::Result<()> {
        file.seek(SeekFrom::Start(EXPIRY as u64))?;
        file.write_all(&encode_expiry(deadline))?;
        #[cfg(all(test, unix))]
        crate::power_cut::content_changed(path);
        if sync { files::sync_content(&file, path) } else { Ok(()) }
    };
    change().map_err(|error| error::io(error).partly_applied())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use larder_core::ErrorKind;

    use super::*;

    fn key() -> Key {
        Key::new("chat:7").unwrap()
    }

    fn file(deadline: Option<i64>, value: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, [&encode(&key(), 77, deadline, value)[..], value].concat()).unwrap();
        (dir, path)
    }

    #[test]
    fn round_trip() {
        let edge = HEAD - FIXED - key().as_bytes().len();
        for length in [0, 1, edge - 1, edge, edge + 1, 3 * HEAD] {
            let value: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let (_dir, path) = file(Some(123), &value);
            let (head, read_value) = read(&path, true).unwrap().unwrap();
            assert_eq!((head.key, head.token), (key(), 77));
            assert_eq!(read_value, value);
            assert_eq!(head.deadline, Some(123));
            assert_eq!(read(&path, false).unwrap().unwrap().0.token, 77);
        }
    }

    #[test]
    fn touch_changes_the_expiry_alone() {
        let (_dir, path) = file(Some(123), b"value");
        touch(&path, Some(456), true).unwrap();
        let (head, value) = read(&path, true).unwrap().unwrap();
        assert_eq!((head.deadline, &value[..]), (Some(456), &b"value"[..]));
        touch(&path, None, false).unwrap();
        assert_eq!(read(&path, false).unwrap().unwrap().0.deadline, None);
        touch(&path, Some(-5), false).unwrap();
        assert_eq!(read(&path, false).unwrap().unwrap().0.deadline, Some(1));
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_noticed() {
        for value in [&b"the value"[..], &[9; 8 * HEAD]] {
            let (_dir, path) = file(Some(123), value);
            let whole = fs::read(&path).unwrap();
            for length in (0..whole.len()).filter(|at| *at < 200 || at % 97 == 0 || whole.len() - at < 3) {
                fs::write(&path, &whole[..length]).unwrap();
                assert_eq!(read(&path, true).unwrap_err().kind(), ErrorKind::Corrupt, "{length}");
                assert_eq!(read(&path, false).unwrap_err().kind(), ErrorKind::Corrupt, "{length}");
            }
            for at in (0..whole.len()).filter(|at| *at < 200 || at % 97 == 0) {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x10;
                fs::write(&path, &damaged).unwrap();
                assert_eq!(read(&path, true).unwrap_err().kind(), ErrorKind::Corrupt, "byte {at}");
            }
            fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
            assert_eq!(read(&path, true).unwrap_err().kind(), ErrorKind::Corrupt);
            assert_eq!(read(&path, false).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn missing_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(&dir.path().join("no"), true).unwrap().is_none());
        assert!(read(&dir.path().join("no"), false).unwrap().is_none());
    }
}
