//! Power cuts during a load.

use std::{
    collections::BTreeMap,
    env, fmt,
    fs::{self, File},
    io::{self, Write},
    mem,
    ops::AddAssign,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use fastrand::Rng;
use parking_lot::Mutex;

use crate::{
    case::{Case, Expected},
    disk::{Cache, Disk},
    fuse::{DiskFile, Disks},
    history::{Comparison, Event, History, State},
    mount::{FileSystem, Mount},
    processes::{RunningLoad, look},
};

/// The most cuts of one disk. The next ones begin with an empty disk again.
const CUTS_PER_DISK: usize = 6;
/// The most writes of the disk between two cuts. Most cuts come just after a write, because a disk that flushes often
/// has an empty cache at most other times.
const MOST_WRITES: usize = 200;
/// The longest time between two cuts, in milliseconds.
const LONGEST_PAUSE: u64 = 1000;
/// The most writes of the disk from the mount of a copy to its second cut.
const MOST_REPAIRS: usize = 40;
/// The longest time from the mount of a copy to its second cut, in milliseconds.
const LONGEST_REPAIR: u64 = 250;
/// One cut in so many comes just after the load was killed, and then another load continues.
const KILL_EACH: usize = 3;
/// After one cut in so many, the power is cut again while the file system and the store are repaired.
const CUT_AGAIN_EACH: usize = 3;

/// The disks and mounts of a run.
pub(crate) struct Machine {
    disks: Disks,
    directory: PathBuf,
    mounts: AtomicU64,
}

impl Machine {
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        let disks = directory.join("disks");
        fs::create_dir(&disks)?;
        Ok(Self { disks: Disks::mount(&disks)?, directory: directory.into(), mounts: AtomicU64::new(0) })
    }

    /// Makes an empty file system.
    ///
    /// # Errors
    ///
    /// If a program or the kernel does not support it.
    pub(crate) fn make(&self, kind: FileSystem) -> Result<Disk, String> {
        let file = self.disks.add(kind.disk());
        kind.make(file.path())?;
        let made = file.copy();
        // A machine without this file system fails here, and not in a trial.
        self.mount(kind, &file)?;
        Ok(made)
    }

    /// Mounts a disk.
    fn mount(&self, kind: FileSystem, disk: &DiskFile) -> Result<Mount, String> {
        let number = self.mounts.fetch_add(1, Ordering::Relaxed);
        Mount::new(kind, disk.path(), self.directory.join(format!("mount-{number}")))
    }
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// The disks after a cut that were opened.
    copies: usize,
    /// Those of them whose power was cut twice.
    second: usize,
    kills: usize,
    /// The writes in the cache of the disk that the cuts lost.
    dropped: usize,
    acknowledged: usize,
    old: usize,
    new: usize,
    /// The copies in which an acknowledged change was missing.
    lossy: usize,
    lost: usize,
    /// The copies that could not be opened, or in which an entry or a database was damaged.
    damaged: usize,
}

impl Counts {
    /// Whether to report the progress of a long run.
    pub(crate) fn is_milestone(&self) -> bool {
        self.copies.is_multiple_of(25)
    }
}

impl AddAssign<&Comparison> for Counts {
    fn add_assign(&mut self, comparison: &Comparison) {
        self.acknowledged += comparison.acknowledged;
        self.old += comparison.old;
        self.new += comparison.new;
        self.lost += comparison.lost.len();
        self.lossy += usize::from(!comparison.lost.is_empty());
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { copies, second, kills, dropped, acknowledged, old, new, lossy, lost, damaged } = self;
        write!(
            f,
            "{copies} copies ({second} cut twice, {kills} after a kill), {dropped} writes dropped; \
             {acknowledged} acknowledged keys kept; under way: {old} old and {new} new; \
             {lost} lost in {lossy} copies, {damaged} copies damaged"
        )
    }
}

/// A disk after a power cut.
struct Cut {
    disk: Disk,
    /// The number of the [`Event::Cut`].
    number: usize,
}

/// Cuts the power of disks with one store.
pub(crate) struct Trial<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) kind: FileSystem,
    /// A disk with an empty file system.
    pub(crate) empty: &'a Disk,
    pub(crate) case: &'a Case,
    pub(crate) rng: Rng,
    pub(crate) counts: Counts,
}

impl Trial<'_> {
    /// Opens the disks after so many power cuts, and after second ones.
    ///
    /// # Errors
    ///
    /// If a copy is not as expected, a control lost nothing, or a fault has never happened.
    pub(crate) fn run(&mut self, cuts: usize, progress: impl Fn(&Counts)) -> Result<(), String> {
        let mut left = cuts;
        while left > 0 {
            let cuts = left.min(CUTS_PER_DISK);
            left -= cuts;
            let history = Arc::new(Mutex::new(History::default()));
            let taken = self.load(cuts, &history)?;
            let history = mem::take(&mut *history.lock());
            for cut in taken {
                self.check(cut, &history)?;
                progress(&self.counts);
            }
        }
        self.finish()
    }

    /// Runs loads on a new disk, and cuts its power at random times.
    fn load(&mut self, cuts: usize, history: &Arc<Mutex<History>>) -> Result<Vec<Cut>, String> {
        let file = self.machine.disks.add(self.empty.settled(self.case.flushes));
        let mount = self.machine.mount(self.kind, &file)?;
        let url = self.case.url(mount.directory());
        let mut seed = self.rng.u64(0..1 << 31);
        let mut start = || {
            seed += 1;
            RunningLoad::start(&url, seed, self.case.flush, history)
        };
        let mut load = start()?;
        let mut taken = Vec::new();
        for number in 1..=cuts {
            let writes = self.rng.usize(1..MOST_WRITES);
            let pause = Duration::from_millis(self.rng.u64(0..LONGEST_PAUSE));
            let (marked, mut copied) = file.copy_after(writes, pause, load.marker(&Event::Cut(number))?)?;
            marked?;
            if number % KILL_EACH == 0 {
                load.kill()?;
                self.counts.kills += 1;
                copied = file.copy();
                history.lock().push(Event::Cut(number));
                load = start()?;
            }
            let disk = self.cut(&copied);
            taken.push(Cut { disk, number });
        }
        load.kill()?;
        Ok(taken)
    }

    /// Cuts the power of a copied disk.
    fn cut(&mut self, copied: &Disk) -> Disk {
        let cache = Cache::ALL[self.rng.usize(0..Cache::ALL.len())];
        let (disk, dropped) = copied.cut(cache, &mut self.rng);
        self.counts.dropped += dropped;
        disk
    }

    /// Opens a disk after a cut, and cuts the power of some disks again in the meantime.
    fn check(&mut self, cut: Cut, history: &History) -> Result<(), String> {
        let before = history.before(cut.number)?;
        self.counts.copies += 1;
        let again = (self.counts.copies - self.counts.second) / CUT_AGAIN_EACH > self.counts.second;
        let writes = self.rng.usize(1..MOST_REPAIRS);
        let pause = Duration::from_millis(self.rng.u64(0..LONGEST_REPAIR));
        let file = self.machine.disks.add(cut.disk.clone());
        let ended = Arc::new(AtomicBool::new(false));
        let has_ended = Arc::clone(&ended);
        let has_ended = move || has_ended.load(Ordering::Relaxed);
        let (found, copied) = thread::scope(|scope| {
            let copied = again.then(|| scope.spawn(|| file.copy_after(writes, pause, has_ended)));
            (self.open(&file, history, &ended), copied.map(thread::ScopedJoinHandle::join))
        });
        self.judge(found, before, history).map_err(|error| self.keep(&cut.disk, &error))?;
        let Some(copied) = copied else { return Ok(()) };
        let (late, copied) = copied.map_err(|_| "the second copy panicked")??;
        if late {
            // The next check tries again.
            return Ok(());
        }
        let disk = self.cut(&copied);
        self.counts.copies += 1;
        self.counts.second += 1;
        let file = self.machine.disks.add(disk.clone());
        let found = self.open(&file, history, &AtomicBool::new(false));
        self.judge(found, before, history).map_err(|error| self.keep(&disk, &error))
    }

    /// Mounts a disk, and returns the entries of the store. Sets `ended` when the store is closed.
    fn open(
        &self,
        file: &DiskFile,
        history: &History,
        ended: &AtomicBool,
    ) -> Result<BTreeMap<String, State>, String> {
        let mount = self.machine.mount(self.kind, file)?;
        let keys: String = history.keys().into_iter().flat_map(|key| [key, "\n"]).collect();
        let found = look(&self.case.url(mount.directory()), &keys);
        ended.store(true, Ordering::Relaxed);
        found
    }

    fn judge(
        &mut self,
        found: Result<BTreeMap<String, State>, String>,
        before: usize,
        history: &History,
    ) -> Result<(), String> {
        match found {
            Ok(found) => {
                let comparison = history.compare(before, &found);
                self.counts += &comparison;
                let allowed = self.case.expected != Expected::Kept || comparison.lost.is_empty();
                if allowed {
                    Ok(())
                } else {
                    Err(format!("changes are lost: {}", comparison.lost.join("; ")))
                }
            }
            Err(damage) => {
                self.counts.damaged += 1;
                if self.case.expected == Expected::Broken { Ok(()) } else { Err(damage) }
            }
        }
    }

    /// Saves a disk on which the store was not as expected, and returns the error with its path.
    fn keep(&self, disk: &Disk, error: &str) -> String {
        let (case, kind) = (self.case.name, self.kind.name());
        let path = env::temp_dir().join(format!("larder-file-systems-{case}-{kind}-{}.img", process::id()));
        // Does not follow a link that another user has made.
        let saved = File::create_new(&path).and_then(|mut file| file.write_all(&disk.read(0, disk.size())));
        match saved {
            Ok(()) => format!("{error}\nthe disk after the cut: {}", path.display()),
            Err(unsaved) => format!("{error}\nthe disk after the cut cannot be saved: {unsaved}"),
        }
    }

    fn finish(&self) -> Result<(), String> {
        let counts = &self.counts;
        if self.case.expected != Expected::Kept {
            return if counts.lossy > 0 { Ok(()) } else { Err("the control lost nothing".into()) };
        }
        let happened = [
            (counts.kills, "no load was killed"),
            (counts.second, "no power was cut twice"),
            (counts.dropped, "no cut lost a write in the cache of the disk"),
            (counts.acknowledged, "no change was acknowledged before a cut"),
            (counts.old + counts.new, "no cut came while a change was under way"),
        ];
        match happened.iter().find(|(count, _)| *count == 0) {
            Some((_, never)) => Err((*never).into()),
            None => Ok(()),
        }
    }
}
