//! A disk with a volatile cache.

use std::{mem, ops::Range, sync::Arc};

use fastrand::Rng;

/// The unit that a power cut keeps or loses as a whole, as the sector of a disk.
pub(crate) const BLOCK: usize = 4096;

type Block = Arc<[u8; BLOCK]>;

/// The contents of a disk. A block without an entry is zeroed. A clone shares all blocks.
type Blocks = Vec<Option<Block>>;

/// A disk that acknowledges writes when they are in its cache. A flush makes them permanent.
#[derive(Clone)]
pub(crate) struct Disk {
    /// The contents that reads return.
    current: Blocks,
    /// The contents that no power cut can change.
    permanent: Blocks,
    /// The writes since the last flush, in order: the number and the new contents of a block.
    cached: Vec<(usize, Block)>,
    flushes: Flushes,
}

/// Whether a disk does what a flush asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushes {
    Honoured,
    /// Flushes are acknowledged, and make nothing permanent.
    Ignored,
}

/// The part of the cache that reached the medium before a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cache {
    /// All of it, as on a disk without a cache.
    Kept,
    /// None of it.
    Lost,
    /// Each write with a probability of one half, in any order.
    Torn,
}

impl Cache {
    pub(crate) const ALL: [Self; 3] = [Self::Kept, Self::Lost, Self::Torn];
}

/// A request beyond the end of the disk.
#[derive(Debug)]
pub(crate) struct OutOfRange;

impl Disk {
    /// Creates a disk of zeros. `size` is in bytes.
    pub(crate) fn new(size: usize) -> Self {
        let blocks = vec![None; size / BLOCK];
        Self { current: blocks.clone(), permanent: blocks, cached: Vec::new(), flushes: Flushes::Honoured }
    }

    /// A disk with the same contents, all of them permanent.
    pub(crate) fn settled(&self, flushes: Flushes) -> Self {
        Self { permanent: self.current.clone(), current: self.current.clone(), cached: Vec::new(), flushes }
    }

    pub(crate) fn size(&self) -> usize {
        self.current.len() * BLOCK
    }

    /// Returns the bytes from `offset`, at most `length` of them: fewer at the end of the disk.
    pub(crate) fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        let end = offset.saturating_add(length).min(self.size());
        let mut bytes = Vec::with_capacity(end.saturating_sub(offset));
        for (number, range) in blocks(offset, end) {
            match &self.current[number] {
                Some(block) => bytes.extend_from_slice(&block[range]),
                None => bytes.resize(bytes.len() + range.len(), 0),
            }
        }
        bytes
    }

    pub(crate) fn write(&mut self, offset: usize, mut bytes: &[u8]) -> Result<(), OutOfRange> {
        let end = offset.checked_add(bytes.len()).filter(|end| *end <= self.size()).ok_or(OutOfRange)?;
        for (number, range) in blocks(offset, end) {
            let (part, rest) = bytes.split_at(range.len());
            let mut block = self.current[number].as_deref().copied().unwrap_or([0; BLOCK]);
            block[range].copy_from_slice(part);
            let block = Arc::new(block);
            self.current[number] = Some(Arc::clone(&block));
            self.cached.push((number, block));
            bytes = rest;
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) {
        if self.flushes == Flushes::Honoured {
            for (number, block) in mem::take(&mut self.cached) {
                self.permanent[number] = Some(block);
            }
        }
    }

    /// Returns the disk as it is after a power cut now, and the number of writes that the cut lost.
    pub(crate) fn cut(&self, cache: Cache, rng: &mut Rng) -> (Self, usize) {
        let mut after = self.permanent.clone();
        let mut lost = 0;
        for (number, block) in &self.cached {
            let kept = match cache {
                Cache::Kept => true,
                Cache::Lost => false,
                Cache::Torn => rng.bool(),
            };
            if kept {
                after[*number] = Some(Arc::clone(block));
            } else {
                lost += 1;
            }
        }
        let disk =
            Self { current: after.clone(), permanent: after, cached: Vec::new(), flushes: Flushes::Honoured };
        (disk, lost)
    }
}

/// The blocks of a range of bytes: the number of each, and the part of it within the range.
fn blocks(start: usize, end: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    (start / BLOCK..end.div_ceil(BLOCK)).map(move |number| {
        let first = number * BLOCK;
        (number, start.max(first) - first..(end - first).min(BLOCK))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three writes: one before a flush, and two after it, to one block and to another one.
    fn written() -> Disk {
        let mut disk = Disk::new(4 * BLOCK);
        disk.write(0, b"flushed").unwrap();
        disk.flush();
        disk.write(3, b"cached").unwrap();
        disk.write(2 * BLOCK - 2, b"across").unwrap();
        disk
    }

    fn at(disk: &Disk, offset: usize, length: usize) -> Vec<u8> {
        disk.read(offset, length)
    }

    #[test]
    fn reads_return_the_last_write() {
        let disk = written();
        assert_eq!(at(&disk, 0, 9), b"flucached");
        assert_eq!(at(&disk, 2 * BLOCK - 3, 8), b"\0across\0");
        assert_eq!(at(&disk, 4 * BLOCK - 2, 10), b"\0\0");
        assert_eq!(at(&disk, 5 * BLOCK, 10), b"");
    }

    #[test]
    fn a_write_beyond_the_end_changes_nothing() {
        let mut disk = written();
        disk.write(4 * BLOCK - 1, b"ab").unwrap_err();
        disk.write(usize::MAX, b"ab").unwrap_err();
        assert_eq!(at(&disk, 4 * BLOCK - 1, 1), b"\0");
    }

    #[test]
    fn a_cut_keeps_flushed_writes_and_a_part_of_the_cache() {
        let mut rng = Rng::with_seed(1);
        let disk = written();
        let (kept, lost) = disk.cut(Cache::Kept, &mut rng);
        assert_eq!((at(&kept, 0, 9), lost), (b"flucached".to_vec(), 0));
        let (without, lost) = disk.cut(Cache::Lost, &mut rng);
        assert_eq!((at(&without, 0, 9), lost), (b"flushed\0\0".to_vec(), 3));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let (torn, lost) = disk.cut(Cache::Torn, &mut rng);
            let across = at(&torn, 2 * BLOCK - 2, 6);
            assert_eq!(at(&torn, 0, 3), b"flu");
            assert_eq!(at(&torn, 0, 7) == b"flushed", at(&torn, 7, 2) == b"\0\0");
            seen.insert((at(&torn, 3, 1), across, lost));
        }
        assert_eq!(seen.len(), 8, "each subset of three writes: {seen:?}");
    }

    #[test]
    fn later_writes_do_not_change_a_cut() {
        let mut disk = written();
        let (cut, _) = disk.cut(Cache::Kept, &mut Rng::new());
        disk.write(0, b"changed").unwrap();
        disk.flush();
        assert_eq!(at(&cut, 0, 7), b"flucach");
    }

    #[test]
    fn a_disk_that_ignores_flushes_loses_them() {
        let mut disk = written().settled(Flushes::Ignored);
        disk.write(0, b"ignored").unwrap();
        disk.flush();
        let (cut, lost) = disk.cut(Cache::Lost, &mut Rng::new());
        assert_eq!((at(&cut, 0, 7), lost), (b"flucach".to_vec(), 1));
    }
}
