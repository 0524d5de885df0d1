//! Reads and writes the file of an entry in Larder's own layout.
//!
//! | at | bytes | content (numbers are little-endian) |
//! |---|---|---|
//! | 0 | 6 | `LARDER` |
//! | 6 | 1 | format version: 1 |
//! | 7 | 1 | 0 |
//! | 8 | 8 | version token, new at every write |
//! | 16 | 8 | length of the value |
//! | 24 | 2 | length of the key |
//! | 26 | 2 | 0 |
//! | 28 | 4 | CRC-32 of the value |
//! | 32 | 4 | CRC-32 of bytes 0 to 31 and of the key |
//! | 36 | 4 | CRC-32 of bytes 40 to 47 |
//! | 40 | 8 | expiry in Unix milliseconds, signed; 0: never |
//! | 48 | | the key, in UTF-8; the value after it |
//!
//! A touch changes the expiry and its checksum in place: twelve bytes within the first sector of the disk, which is
//! written completely or not at all.

use std::{
    fs::OpenOptions,
    io::{Seek, SeekFrom, Write},
    path::Path,
};

use bytes::{Buf, BufMut, Bytes};
use larder_core::{Info, Key, Purge, Result, Version, Versions, unique};

use super::{Encoded, EntryFormat, Stored};
use crate::{
    error::{self, corrupt},
    files,
    sys::{self, Output},
    tree::CHANGED_IN_PLACE,
};

/// Larder's own layout, with any bytes as values.
pub(crate) struct BinaryFormat;

const MAGIC: &[u8; 6] = b"LARDER";
const FORMAT: u8 = 1;
/// The length of the head without the key.
const FIXED: usize = 48;
/// The position of the expiry's checksum. The expiry follows it.
const EXPIRY: u64 = 36;
/// The maximum length of the head with the key.
const HEAD: usize = FIXED + Key::MAX_BYTES;

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

    fn extension(&self) -> &'static str {
        CHANGED_IN_PLACE
    }

    fn encode(&self, key: &Key, deadline: Option<i64>, value: &Bytes) -> Result<Encoded> {
        let token = unique::id64();
        let head = encode(key, token, deadline, value);
        Ok(Encoded { head, body: value.clone(), version: Version::from_token(token) })
    }

    fn read(&self, path: &Path, value: bool) -> Result<Option<(Key, Stored)>> {
        let read = files::read_start(path, if value { usize::MAX } else { HEAD })?;
        read.map(|(bytes, length)| decode(&bytes, length, value)).transpose()
    }

    fn touch(&self, path: &Path, deadline: Option<i64>, sync: bool) -> Result<Option<Vec<u8>>> {
        let mut file = sys::open(OpenOptions::new().write(true), path).map_err(error::io)?;
        let mut change = || {
            file.seek(SeekFrom::Start(EXPIRY))?;
            Output(&file).write_all(&encode_expiry(deadline))?;
            if sync { sys::sync_data(&file) } else { Ok(()) }
        };
        change().map(|()| None).map_err(|error| error::io(error).partly_applied())
    }
}

/// Returns the head of the file for `value`.
fn encode(key: &Key, token: u64, deadline: Option<i64>, value: &[u8]) -> Vec<u8> {
    let key = key.as_bytes();
    let mut head = Vec::with_capacity(FIXED + key.len());
    head.put_slice(MAGIC);
    head.put_slice(&[FORMAT, 0]);
    head.put_u64_le(token);
    head.put_u64_le(value.len() as u64);
    // A key has at most 512 bytes.
    head.put_u16_le(u16::try_from(key.len()).unwrap_or(u16::MAX));
    head.put_u16_le(0);
    head.put_u32_le(crc32fast::hash(value));
    head.put_u32_le(head_sum(&head, key));
    head.put_slice(&encode_expiry(deadline));
    head.put_slice(key);
    head
}

fn head_sum(fixed: &[u8], key: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(fixed);
    sum.update(key);
    sum.finalize()
}

fn encode_expiry(deadline: Option<i64>) -> Vec<u8> {
    // 0 means never. A deadline of 0, which is in 1970, has long passed, and so has 1.
    let millis = deadline.map_or(0, |deadline| deadline.max(1)).to_le_bytes();
    [&crc32fast::hash(&millis).to_le_bytes()[..], &millis].concat()
}

/// Reads the key and the entry from the start of a file of `length` bytes. With `value`, `bytes` must be the whole
/// file. Otherwise this checks the length of the file, and not the value.
fn decode(bytes: &Bytes, length: u64, value: bool) -> Result<(Key, Stored)> {
    let ends_early = || corrupt("the file of the entry ends within its header");
    if !bytes.starts_with(MAGIC) && !MAGIC.starts_with(bytes) {
        return Err(corrupt("the file with the name of the entry was not written by Larder"));
    }
    let (mut fixed, rest) = bytes.split_at_checked(FIXED).ok_or_else(ends_early)?;
    fixed.advance(MAGIC.len());
    if fixed.get_u8() != FORMAT {
        return Err(corrupt(
            "the file of the entry has a format that this version of Larder does not support",
        ));
    }
    fixed.advance(1);
    let version = Version::from_token(fixed.get_u64_le());
    let value_length = fixed.get_u64_le();
    let key = rest.get(..usize::from(fixed.get_u16_le())).ok_or_else(ends_early)?;
    fixed.advance(2);
    let value_sum = fixed.get_u32_le();
    if fixed.get_u32_le() != head_sum(&bytes[..32], key) {
        return Err(corrupt("the header in the file of the entry is damaged"));
    }
    if fixed.get_u32_le() != crc32fast::hash(fixed) {
        return Err(corrupt("the expiry in the file of the entry is damaged"));
    }
    let deadline = Some(fixed.get_i64_le()).filter(|deadline| *deadline != 0);
    let start = FIXED + key.len();
    // Checked, because an invalid length in the head may overflow.
    if Some(length) != value_length.checked_add(start as u64) {
        return Err(corrupt("the length of the entry's file differs from that in its header"));
    }
    if value && (bytes.len() as u64 != length || crc32fast::hash(&bytes[start..]) != value_sum) {
        return Err(corrupt("the value in the file of the entry is damaged"));
    }
    let key = str::from_utf8(key).ok().and_then(|key| Key::new(key).ok());
    let key = key.ok_or_else(|| corrupt("the key in the file of the entry is not valid"))?;
    let value = if value { bytes.slice(start..) } else { Bytes::new() };
    Ok((key, Stored { value, version, deadline }))
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

    fn read(path: &Path, value: bool) -> Result<Option<(Key, Stored)>> {
        BinaryFormat.read(path, value)
    }

    #[test]
    fn an_encoded_entry_is_read_back() {
        let edge = HEAD - FIXED - key().as_bytes().len();
        for length in [0, 1, edge - 1, edge, edge + 1, 3 * HEAD] {
            let value: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let (_dir, path) = file(Some(123), &value);
            let (found, stored) = read(&path, true).unwrap().unwrap();
            assert_eq!((found, stored.version), (key(), Version::from_token(77)));
            assert_eq!(stored.value, value);
            assert_eq!(stored.deadline, Some(123));
            assert_eq!(read(&path, false).unwrap().unwrap().1.version, Version::from_token(77));
        }
    }

    #[test]
    fn a_touch_changes_only_the_expiry() {
        let (_dir, path) = file(Some(123), b"value");
        assert!(BinaryFormat.touch(&path, Some(456), true).unwrap().is_none());
        let (_, stored) = read(&path, true).unwrap().unwrap();
        assert_eq!((stored.deadline, &stored.value[..]), (Some(456), &b"value"[..]));
        assert!(BinaryFormat.touch(&path, None, false).unwrap().is_none());
        assert_eq!(read(&path, false).unwrap().unwrap().1.deadline, None);
        assert!(BinaryFormat.touch(&path, Some(-5), false).unwrap().is_none());
        assert_eq!(read(&path, false).unwrap().unwrap().1.deadline, Some(1));
    }

    #[test]
    fn every_truncation_and_flipped_bit_is_detected() {
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
    fn a_missing_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(&dir.path().join("no"), true).unwrap().is_none());
        assert!(read(&dir.path().join("no"), false).unwrap().is_none());
    }
}
