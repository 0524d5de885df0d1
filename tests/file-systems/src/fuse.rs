//! Disks as files of a FUSE file system, on which the kernel makes loop devices.
//!
//! The kernel sends each write of a loop device as `FUSE_WRITE`, because the files are opened with `FOPEN_DIRECT_IO`,
//! and each flush as `FUSE_FSYNC` (`lo_req_flush` in `drivers/block/loop.c`). A loop device has no forced unit
//! access, so the block layer sends a flush after such a write. One thread answers the requests in the order of their
//! arrival, and a disk is copied between two of them.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite,
    Request, WriteFlags,
};
use parking_lot::Mutex;

use crate::disk::{BLOCK, Disk, OutOfRange};

/// The disks by the numbers of their files.
type Table = Arc<Mutex<BTreeMap<u64, Arc<Mutex<Served>>>>>;

type Copier = Box<dyn FnOnce(&Disk) + Send>;

struct Served {
    disk: Disk,
    /// The number of writes until the disk is copied, and what copies it.
    copier: Option<(usize, Copier)>,
}

/// A directory of disks. It is unmounted on drop.
pub(crate) struct Disks {
    table: Table,
    directory: PathBuf,
    next: AtomicU64,
    _session: BackgroundSession,
}

/// The file of a disk, which is removed on drop.
pub(crate) struct DiskFile {
    served: Arc<Mutex<Served>>,
    table: Table,
    number: u64,
    path: PathBuf,
}

impl Disks {
    /// Mounts the file system on an empty directory.
    pub(crate) fn mount(directory: &Path) -> io::Result<Self> {
        let table = Table::default();
        let mut config = fuser::Config::default();
        config.mount_options.push(MountOption::FSName("disks".into()));
        let session = fuser::spawn_mount(Files(Arc::clone(&table)), directory, &config)?;
        // The root directory has the number 1.
        Ok(Self { table, directory: directory.into(), next: AtomicU64::new(2), _session: session })
    }

    /// Adds a disk.
    pub(crate) fn add(&self, disk: Disk) -> DiskFile {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let served = Arc::new(Mutex::new(Served { disk, copier: None }));
        self.table.lock().insert(number, Arc::clone(&served));
        let path = self.directory.join(number.to_string());
        DiskFile { served, table: Arc::clone(&self.table), number, path }
    }
}

impl DiskFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the disk as it is now, with its cache.
    pub(crate) fn copy(&self) -> Disk {
        self.served.lock().disk.clone()
    }

    /// Returns the disk as it is after so many more writes, or after a time if this is earlier. `note` is called just
    /// before the copy, while no request changes the disk, and must not use it.
    pub(crate) fn copy_after<T: Send + 'static>(
        &self,
        writes: usize,
        time: Duration,
        note: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, Disk), String> {
        let (sender, copied) = mpsc::channel();
        let copier = move |disk: &Disk| drop(sender.send((note(), disk.clone())));
        self.served.lock().copier = Some((writes, Box::new(copier)));
        let copied = copied.recv_timeout(time).or_else(|_| {
            let mut served = self.served.lock();
            if let Some((_, copier)) = served.copier.take() {
                copier(&served.disk);
            }
            copied.recv()
        });
        copied.map_err(|error| format!("the disk was not copied: {error}"))
    }
}

impl Served {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange> {
        self.disk.write(offset, bytes)?;
        if let Some((writes, copier)) = self.copier.take() {
            match writes.saturating_sub(1) {
                0 => copier(&self.disk),
                left => self.copier = Some((left, copier)),
            }
        }
        Ok(())
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        self.table.lock().remove(&self.number);
    }
}

/// The time for which the kernel may keep names and attributes: none.
const UNCACHED: Duration = Duration::ZERO;

struct Files(Table);

impl Files {
    fn attributes(&self, number: u64) -> Result<FileAttr, Errno> {
        let (kind, perm, size) = if number == INodeNo::ROOT.0 {
            (FileType::Directory, 0o700, 0)
        } else {
            let size = self.disk(INodeNo(number)).map_err(|_| Errno::ENOENT)?.lock().disk.size();
            (FileType::RegularFile, 0o600, size as u64)
        };
        Ok(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: BLOCK as u32,
            flags: 0,
        })
    }

    fn disk(&self, file: INodeNo) -> Result<Arc<Mutex<Served>>, Errno> {
        self.0.lock().get(&file.0).cloned().ok_or(Errno::EIO)
    }
}

fn position(offset: u64) -> Result<usize, Errno> {
    usize::try_from(offset).map_err(|_| Errno::EINVAL)
}

impl Filesystem for Files {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let number = name.to_str().and_then(|name| name.parse().ok()).ok_or(Errno::ENOENT);
        match number.and_then(|number| self.attributes(number)) {
            Ok(attributes) => reply.entry(&UNCACHED, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, file: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(file.0) {
            Ok(attributes) => reply.attr(&UNCACHED, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        file: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = || Ok(self.disk(file)?.lock().disk.read(position(offset)?, size as usize));
        match read() {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        file: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let write = || {
            let size = u32::try_from(bytes.len()).map_err(|_| Errno::EINVAL)?;
            self.disk(file)?.lock().write(position(offset)?, bytes).map_err(|_| Errno::ENOSPC)?;
            Ok(size)
        };
        match write() {
            Ok(size) => reply.written(size),
            Err(error) => reply.error(error),
        }
    }

    fn fsync(&self, _: &Request, file: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.disk(file) {
            Ok(served) => {
                served.lock().disk.flush();
                reply.ok();
            }
            Err(error) => reply.error(error),
        }
    }
}
