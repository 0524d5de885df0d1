//! The file of an entry in Larder's own layout.
//!
//! | at | bytes | what (numbers are little-endian) |
//! |---|---|---|
//! | 0 | 6 | `LARDER` |
//! | 6 | 1 | format version: 1 |
//! | 7 | 1 | 0 |
//! | 8 | 8 | version token, drawn anew by every write |
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
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use bytes::Bytes;
use larder_core::{Key, Result, Version};

use crate::{
    atomic,
    error::{self, corrupt},
    form::{State, Stored, open},
};

const MAGIC: &[u8; 6] = b"LARDER";
const FORMAT: u8 = 1;
/// What stands before the key.
const FIXED: usize = 48;
/// Where the expiry's checksum is, with the expiry after it.
const EXPIRY: usize = 36;
/// The head of every file fits in.
const HEAD: usize = FIXED + Key::MAX_BYTES;
/// A file up to this size is read with one system call.
const SMALL: usize = 8 * 1024;

/// What the head of a file says.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) key: Key,
    pub(crate) token: u64,
    pub(crate) deadline: Option<i64>,
    value_length: u64,
    value_sum: u32,
}

impl Head {
    pub(crate) fn state(&self) -> State {
        State { version: Version::from_token(self.token), deadline: self.deadline }
    }

    fn value_start(&self) -> usize {
        FIXED + self.key.as_bytes().len()
    }

    fn file_length(&self) -> u64 {
        // The sum of what fits in the file's own fields; a false length is found out by comparing.
        (self.value_start() as u64).saturating_add(self.value_length)
    }
}

/// The head of a file for `value`.
pub(crate) fn encode(key: &Key, token: u64, deadline: Option<i64>, value: &[u8]) -> Vec<u8> {
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
        key: key.ok_or_else(|| corrupt("the key in the entry's file is none"))?,
        token: u64::from_le_bytes(array(bytes, 8)?),
        deadline: (deadline != 0).then_some(deadline),
        value_length: u64::from_le_bytes(array(bytes, 16)?),
        value_sum: u32::from_le_bytes(array(bytes, 28)?),
    })
}

/// Reads the beginning of a file, as much as fits, and its head.
fn read_head(file: &mut File, buffer: &mut [u8]) -> Result<(Head, usize)> {
    let mut filled = 0;
    loop {
        let read = match file.read(&mut buffer[filled..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // Somebody has the pipe open for writing.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(corrupt("there is a pipe where the entry's file belongs"));
            }
            read => read.map_err(error::io)?,
        };
        filled += read;
        match decode(&buffer[..filled]) {
            Ok(head) => return Ok((head, filled)),
            Err(error) if read == 0 => return Err(error),
            // What is not a head yet may become one: a call may return less than the file has.
            Err(_) => {}
        }
    }
}

/// The head of the file at `path`; `None` if there is no file. The file has the length that it
/// should have; the value has not been looked at.
pub(crate) fn head(path: &Path) -> Result<Option<Head>> {
    let Some(mut file) = open(path)? else {
        return Ok(None);
    };
    let mut buffer = [0; HEAD + 1];
    let (head, filled) = read_head(&mut file, &mut buffer)?;
    check_length(&file, &head, filled, buffer.len())?;
    Ok(Some(head))
}

/// A read that did not fill the buffer has seen the end of the file; otherwise its length is asked
/// for.
fn check_length(file: &File, head: &Head, filled: usize, buffer: usize) -> Result<()> {
    if filled < buffer && filled as u64 == head.file_length() {
        return Ok(());
    }
    if file.metadata().map_err(error::io)?.len() == head.file_length() {
        return Ok(());
    }
    Err(corrupt("the entry's file does not have the length that its head says"))
}

/// Reads the file at `path`; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<(Head, Stored)>> {
    let Some(mut file) = open(path)? else {
        return Ok(None);
    };
    let mut buffer = [0; SMALL];
    let (head, filled) = read_head(&mut file, &mut buffer)?;
    check_length(&file, &head, filled, buffer.len())?;
    let start = head.value_start();
    let length = usize::try_from(head.value_length)
        .map_err(|_| corrupt("the entry's value is larger than this machine can address"))?;
    let value = if filled - start >= length {
        Bytes::copy_from_slice(&buffer[start..start + length])
    } else {
        let mut value = Vec::with_capacity(length);
        value.extend_from_slice(&buffer[start..filled]);
        file.take((length - value.len()) as u64).read_to_end(&mut value).map_err(error::io)?;
        Bytes::from(value)
    };
    if value.len() != length || crc32fast::hash(&value) != head.value_sum {
        return Err(corrupt("the value in the entry's file is damaged"));
    }
    let State { version, deadline } = head.state();
    Ok(Some((head, Stored { value, version, deadline })))
}

/// Gives the file at `path` another expiry, in place.
pub(crate) fn touch(path: &Path, deadline: Option<i64>, sync: bool) -> Result<()> {
    let touch = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.seek(SeekFrom::Start(EXPIRY as u64))?;
        file.write_all(&encode_expiry(deadline))?;
        #[cfg(all(test, unix))]
        crate::power_cut::content_changed(path);
        if sync { atomic::sync_content(&file, path) } else { Ok(()) }
    };
    touch().map_err(error::io)
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
    fn round_trip_at_the_edges_of_the_buffer() {
        let edge = SMALL - FIXED - key().as_bytes().len();
        for length in [0, 1, HEAD - FIXED, edge - 1, edge, edge + 1, 3 * SMALL] {
            let value: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let (_dir, path) = file(Some(123), &value);
            let (head, stored) = read(&path).unwrap().unwrap();
            assert_eq!((head.key, head.token), (key(), 77));
            assert_eq!(stored.value, value);
            assert_eq!(stored.deadline, Some(123));
            assert_eq!(super::head(&path).unwrap().unwrap().token, 77);
        }
    }

    #[test]
    fn a_touch_changes_the_expiry_alone() {
        let (_dir, path) = file(Some(123), b"value");
        touch(&path, Some(456), true).unwrap();
        let (_, stored) = read(&path).unwrap().unwrap();
        assert_eq!((stored.deadline, &stored.value[..]), (Some(456), &b"value"[..]));
        touch(&path, None, false).unwrap();
        assert_eq!(super::head(&path).unwrap().unwrap().deadline, None);
        touch(&path, Some(-5), false).unwrap();
        assert_eq!(super::head(&path).unwrap().unwrap().deadline, Some(1));
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_noticed() {
        for value in [&b"the value"[..], &[9; SMALL + 5]] {
            let (_dir, path) = file(Some(123), value);
            let whole = fs::read(&path).unwrap();
            for length in (0..whole.len()).filter(|at| *at < 200 || at % 97 == 0 || whole.len() - at < 3) {
                fs::write(&path, &whole[..length]).unwrap();
                assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::Corrupt, "{length}");
                assert_eq!(super::head(&path).unwrap_err().kind(), ErrorKind::Corrupt, "{length}");
            }
            for at in (0..whole.len()).filter(|at| *at < 200 || at % 97 == 0) {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x10;
                fs::write(&path, &damaged).unwrap();
                assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::Corrupt, "byte {at}");
            }
            fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
            assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::Corrupt);
            assert_eq!(super::head(&path).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_missing_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(&dir.path().join("no")).unwrap().is_none());
        assert!(super::head(&dir.path().join("no")).unwrap().is_none());
    }
}
