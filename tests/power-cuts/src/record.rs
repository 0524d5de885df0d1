//! Records calls, and lets them fail.
//!
//! A program calls these functions with the real call. They call it, and record its effect, if its path or file is in
//! the directory of a [`Recorder`].

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Seek},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use crate::{
    image::{Image, Ino, RealIno},
    log::{Change, Log, Op},
};

/// The kind of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // The names of the calls.
pub enum Call {
    Open,
    CreateFile,
    CreateDirectory,
    Read,
    ReadDirectory,
    Write,
    WriteInPlace,
    SetLength,
    Rename,
    Remove,
    SyncFile,
    SyncDirectory,
}

impl Call {
    /// All kinds.
    pub const ALL: [Self; 12] = [
        Self::Open,
        Self::CreateFile,
        Self::CreateDirectory,
        Self::Read,
        Self::ReadDirectory,
        Self::Write,
        Self::WriteInPlace,
        Self::SetLength,
        Self::Rename,
        Self::Remove,
        Self::SyncFile,
        Self::SyncDirectory,
    ];
}

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The process ends before the call. This call and all later ones fail and have no effect.
    Kill,
    /// The call fails with this error number. Of a write, the first half is written.
    Error(i32),
}

impl Fault {
    /// An error of the device.
    pub const EIO: Self = Self::Error(5);
    /// A full disk.
    pub const ENOSPC: Self = Self::Error(28);
}

/// The number of calls and faults.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// The calls.
    pub calls: BTreeMap<Call, usize>,
    /// The faults, by the call that failed.
    pub faults: BTreeMap<(Fault, Call), usize>,
}

impl Counts {
    /// Adds the numbers of another.
    pub fn add(&mut self, other: &Self) {
        for (call, count) in &other.calls {
            *self.calls.entry(*call).or_default() += count;
        }
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
    }
}

static AREAS: RwLock<Vec<Arc<Area>>> = RwLock::new(Vec::new());

/// The recorder of one directory. The record ends when this is dropped.
#[derive(Debug)]
pub struct Recorder {
    area: Arc<Area>,
}

#[derive(Debug)]
struct Area {
    root: PathBuf,
    /// The same without links, because a program may resolve those: the temporary directory of macOS has one.
    canonical: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    log: Log,
    /// The files and directories as programs see them.
    live: Image,
    inos: HashMap<RealIno, Ino>,
    next: usize,
    counts: Counts,
    /// The calls since the last [`Recorder::fail`].
    calls: usize,
    fault: Option<(usize, Fault)>,
    fired: Option<Call>,
    dead: bool,
    paused: bool,
    keeps_length: bool,
}

impl Recorder {
    /// Starts a record of the calls in `root`. Its present content counts as being on the disk.
    ///
    /// # Errors
    ///
    /// Those of reading the directory.
    pub fn start(root: &Path) -> io::Result<Self> {
        let (root, canonical) = (root.to_owned(), fs::canonicalize(root)?);
        let area = Arc::new(Area { root, canonical, state: Mutex::default() });
        let recorder = Self { area };
        recorder.restart()?;
        AREAS.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&recorder.area));
        Ok(recorder)
    }

    /// Starts a new record. The present content of the directory counts as being on the disk.
    ///
    /// # Errors
    ///
    /// Those of reading the directory.
    pub fn restart(&self) -> io::Result<()> {
        let (live, inos) = Image::scan(&self.area.root)?;
        let mut state = self.area.state();
        state.log = Log { initial: live.clone(), ops: Vec::new() };
        state.live = live;
        state.next = inos.len();
        state.inos = inos;
        Ok(())
    }

    /// Compares the files with the record.
    ///
    /// # Errors
    ///
    /// If they differ, because a call was not recorded, and those of reading the directory.
    pub fn check(&self) -> io::Result<()> {
        let state = self.area.state();
        let (real, recorded) = (Image::scan(&self.area.root)?.0.tree(), state.live.tree());
        if real.has_same_files(&recorded) {
            return Ok(());
        }
        Err(io::Error::other(format!("a call was not recorded:\n{real:?}the record has:\n{recorded:?}")))
    }

    /// Returns the record so far.
    #[must_use]
    pub fn log(&self) -> Log {
        self.area.state().log.clone()
    }

    /// Returns the number of recorded calls so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.area.state().log.len()
    }

    /// Returns whether no call was recorded so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the numbers of calls and faults.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.area.state().counts.clone()
    }

    /// Lets the `nth` call from now fail; the first is 0. Includes calls that read.
    pub fn fail(&self, nth: usize, fault: Fault) {
        let mut state = self.area.state();
        (state.calls, state.fault, state.fired) = (0, Some((nth, fault)), None);
    }

    /// Returns the call that failed, if the fault has happened.
    #[must_use]
    pub fn fired(&self) -> Option<Call> {
        self.area.state().fired
    }

    /// Returns whether a process has ended by a fault.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.area.state().dead
    }

    /// Starts another process: calls succeed again.
    pub fn revive(&self) {
        let mut state = self.area.state();
        (state.dead, state.fault) = (false, None);
    }

    /// Neither records calls nor lets them fail until [`resume`](Self::resume). The calls must change nothing.
    pub fn pause(&self) {
        self.area.state().paused = true;
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.area.state().paused = false;
    }

    /// Plants a bug: files keep their content when they are truncated.
    pub fn keep_length(&self) {
        self.area.state().keeps_length = true;
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let mut areas = AREAS.write().unwrap_or_else(PoisonError::into_inner);
        areas.retain(|area| !Arc::ptr_eq(area, &self.area));
    }
}

impl Area {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call, unless it fails, and records it.
    fn call<T>(
        &self,
        call: Call,
        real: impl FnOnce() -> io::Result<T>,
        record: impl FnOnce(&mut State, &T),
    ) -> io::Result<T> {
        let mut state = self.state();
        state.begin(call)?;
        // Within the lock, so that the record has the order in which calls take effect.
        let done = real()?;
        if !state.paused {
            record(&mut state, &done);
        }
        Ok(done)
    }

    /// Returns the path within the directory.
    fn inner<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        path.strip_prefix(&self.root).or_else(|_| path.strip_prefix(&self.canonical)).ok()
    }

    /// Returns the inode above the path, and its name.
    fn place<'a>(&self, state: &State, path: &'a Path) -> Option<(Ino, &'a OsStr)> {
        let inner = self.inner(path)?;
        Some((state.live.find(inner.parent()?)?, inner.file_name()?))
    }
}

impl State {
    fn begin(&mut self, call: Call) -> io::Result<()> {
        if self.paused {
            return Ok(());
        }
        if self.dead {
            return Err(io::Error::other("the process has ended"));
        }
        let now = self.calls;
        self.calls += 1;
        *self.counts.calls.entry(call).or_default() += 1;
        if let Some((nth, fault)) = self.fault
            && nth == now
        {
            (self.fault, self.fired) = (None, Some(call));
            *self.counts.faults.entry((fault, call)).or_default() += 1;
            self.dead = fault == Fault::Kill;
            return Err(match fault {
                Fault::Kill => io::Error::other("the process ends"),
                Fault::Error(number) => io::Error::from_raw_os_error(number),
            });
        }
        Ok(())
    }

    fn push(&mut self, op: Op) {
        op.apply(&mut self.live);
        self.log.ops.push(op);
    }

    fn new_ino(&mut self, real: RealIno) -> Ino {
        let ino = Ino(self.next);
        self.next += 1;
        self.inos.insert(real, ino);
        ino
    }

    /// Forgets a file without a name, because its number may be used again.
    fn forget(&mut self, ino: Option<Ino>) {
        let Some(ino) = ino else { return };
        if !self.live.names.values().any(|names| names.values().any(|named| *named == ino)) {
            self.inos.retain(|_, known| *known != ino);
        }
    }
}

/// Returns the recorder of a path.
fn of_path(path: &Path) -> Option<Arc<Area>> {
    let areas = AREAS.read().unwrap_or_else(PoisonError::into_inner);
    areas.iter().find(|area| area.inner(path).is_some()).cloned()
}

/// Returns the recorder of an open file, and its inode.
fn of_file(file: &File) -> Option<(Arc<Area>, Ino)> {
    let areas = AREAS.read().unwrap_or_else(PoisonError::into_inner).clone();
    if areas.is_empty() {
        return None;
    }
    let real = number(&file.metadata().ok()?);
    areas.into_iter().find_map(|area| {
        let ino = area.state().inos.get(&real).copied()?;
        Some((area, ino))
    })
}

fn number(metadata: &fs::Metadata) -> RealIno {
    (metadata.dev(), metadata.ino())
}

/// Opens the file at `path`, which may create or truncate it.
///
/// # Errors
///
/// Those of the call, and faults.
pub fn open(path: &Path, real: impl FnOnce() -> io::Result<File>) -> io::Result<File> {
    let Some(area) = of_path(path) else { return real() };
    let exists = path.exists();
    area.call(if exists { Call::Open } else { Call::CreateFile }, real, |state, file| {
        let (Ok(metadata), Some((directory, name))) = (file.metadata(), area.place(state, path)) else {
            return;
        };
        if !metadata.is_file() {
            return;
        }
        match state.live.name(directory, name) {
            None => {
                let ino = state.new_ino(number(&metadata));
                state.push(Op::Create { directory, name: name.to_owned(), ino });
            }
            Some(ino) if metadata.len() == 0 && !state.live.content(ino).is_empty() => {
                state.push(Op::Change { ino, change: Change::SetLen(0) });
            }
            Some(_) => {}
        }
    })
}

/// Reads from an open file.
///
/// # Errors
///
/// Those of the call, and faults.
pub fn read<T>(file: &File, real: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match of_file(file) {
        Some((area, _)) => area.call(Call::Read, real, |_, _| {}),
        None => real(),
    }
}

/// Writes at the position of an open file.
///
/// # Errors
///
/// Those of the call, and faults.
pub fn write(
    mut file: &File,
    bytes: &[u8],
    real: impl FnOnce(&[u8]) -> io::Result<usize>,
) -> io::Result<usize> {
    let Some((area, ino)) = of_file(file) else { return real(bytes) };
    let mut state = area.state();
    let at = usize::try_from(file.stream_position()?).map_err(io::Error::other)?;
    let in_place = at + bytes.len() <= state.live.content(ino).len();
    let failed = state.begin(if in_place { Call::WriteInPlace } else { Call::Write }).err();
    let written = match &failed {
        // Two bytes of twelve within a sector are not torn by a device.
        Some(_) if state.dead || in_place => 0,
        Some(_) => real(&bytes[..bytes.len() / 2])?,
        None => real(bytes)?,
    };
    if written > 0 && !state.paused {
        state.push(Op::Change { ino, change: Change::Write { at, bytes: bytes[..written].into() } });
    }
    failed.map_or(Ok(written), Err)
}

/// Sets the length of an open file.
///
/// # Errors
///
/// Those of the call, and faults.
pub fn set_len(file: &File, length: u64, real: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let Some((area, ino)) = of_file(file) else { return real() };
    if length == 0 && area.state().keeps_length {
        return Ok(());
    }
    area.call(Call::SetLength, real, |state, ()| {
        let length = usize::try_from(length).unwrap_or_default();
        state.push(Op::Change { ino, change: Change::SetLen(length) });
    })
}

/// Syncs an open file. The real call is not made for a recorded one, because the record says what is on the disk.
///
/// # Errors
///
/// Those of the call, and faults.
pub fn sync(file: &File, real: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let Some((area, ino)) = of_file(file) else { return real() };
    area.call(Call::SyncFile, || Ok(()), |state, ()| state.push(Op::Sync { ino }))
}

/// Syncs the names in a directory. The real call is not made for a recorded directory, and for those above, which count
/// as being on the disk.
///
/// # Errors
///
/// Those of the call, and faults.
pub fn sync_directory(path: &Path, real: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let Some(area) = of_path(path) else {
        let areas = AREAS.read().unwrap_or_else(PoisonError::into_inner);
        let is_above =
            areas.iter().any(|area| area.root.starts_with(path) || area.canonical.starts_with(path));
        drop(areas);
        return if is_above { Ok(()) } else { real() };
    };
    area.call(
        Call::SyncDirectory,
        || fs::metadata(path),
        |state, _| {
            if let Some(directory) = area.inner(path).and_then(|inner| state.live.find(inner)) {
                state.push(Op::SyncNames { directory });
            }
        },
    )
    .map(drop)
}

/// Renames a file within the directory of a recorder.
///
/// # Errors
///
/// Those of the call, and faults.
pub fn rename(from: &Path, to: &Path, real: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let Some(area) = of_path(from) else { return real() };
    area.call(Call::Rename, real, |state, ()| {
        let (Some(source), Some(target)) = (area.place(state, from), area.place(state, to)) else { return };
        let Some(ino) = state.live.name(source.0, source.1) else { return };
        let replaced = state.live.name(target.0, target.1);
        let (from, to) = ((source.0, source.1.to_owned()), (target.0, target.1.to_owned()));
        state.push(Op::Rename { from, to, ino, replaces: replaced.is_some() });
        state.forget(replaced);
    })
}

/// Removes a file.
///
/// # Errors
///
/// Those of the call, and faults.
pub fn remove_file(path: &Path, real: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let Some(area) = of_path(path) else { return real() };
    area.call(Call::Remove, real, |state, ()| {
        let Some((directory, name)) = area.place(state, path) else { return };
        let removed = state.live.name(directory, name);
        state.push(Op::Remove { directory, name: name.to_owned() });
        state.forget(removed);
    })
}

/// Creates a directory.
///
/// # Errors
///
/// Those of the call, and faults.
pub fn create_directory(path: &Path, real: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let Some(area) = of_path(path) else { return real() };
    area.call(Call::CreateDirectory, real, |state, ()| {
        let (Ok(metadata), Some((directory, name))) = (fs::metadata(path), area.place(state, path)) else {
            return;
        };
        let ino = state.new_ino(number(&metadata));
        state.live.names.entry(ino).or_default();
        // Reachable only through its name, so it may be there from the start.
        state.log.initial.names.entry(ino).or_default();
        state.push(Op::Create { directory, name: name.to_owned(), ino });
    })
}

/// Reads the names in a directory.
///
/// # Errors
///
/// Those of the call, and faults.
pub fn names(path: &Path, real: impl FnOnce() -> io::Result<Vec<OsString>>) -> io::Result<Vec<OsString>> {
    match of_path(path) {
        Some(area) => area.call(Call::ReadDirectory, real, |_, _| {}),
        None => real(),
    }
}
