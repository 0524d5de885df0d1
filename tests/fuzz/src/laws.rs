//! The laws that hold for every target.

use std::{
    error::Error as StdError,
    fmt,
    hint::black_box,
    panic::{AssertUnwindSafe, catch_unwind, set_hook},
    sync::Mutex,
    time::Duration,
};

use larder_core::{Error, ErrorKind};
use peak_alloc::PeakAlloc;
use rustix::time::{ClockId, clock_gettime};

use crate::Parse;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// A text that stands for keys, values and passwords. The corpus and the mutations contain it, and no error prints it.
pub const SECRET: &str = "hunter2";

/// The memory that an input of any size may take: serde reserves up to 1 MiB for a list whose length it is told.
const BASE_MEMORY: usize = 2 << 20;
/// The memory per byte of an input. A number in a list of JSON takes two bytes, and 32 as a `Value`, in a vector that
/// doubles.
const MEMORY_PER_BYTE: usize = 128;

/// The processor time that an input of any size may take.
const BASE_TIME: Duration = Duration::from_millis(1_500);
/// The processor time per byte of an input, without optimization. The slowest targets take as much, and work that
/// is quadratic in an input of 64 KiB takes ten times as much.
const TIME_PER_BYTE: Duration = Duration::from_micros(10);

/// The processor time of [`reference`] on the machine for which the limits were chosen, without optimization. A slower
/// machine may take longer for everything.
const REFERENCE: Duration = Duration::from_millis(10);

/// What a parser made of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It parsed the input. The result came back from a second round.
    Accepted,
    /// It returned an error.
    Refused,
}

impl Verdict {
    /// Returns the verdict on an input that was given to two parsers.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::Accepted { self } else { other }
    }
}

/// What an input cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// The largest amount of memory at a time, in bytes.
    pub memory: usize,
    /// The processor time of all threads.
    pub time: Duration,
}

/// A law that an input has broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The parser panicked, or the target did, because a law of its own was broken.
    Panicked(String),
    /// The parser took more memory than an input of this size may, in bytes.
    Memory(usize),
    /// The parser took more processor time than an input of this size may.
    Time(Duration),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(panic) => f.write_str(panic),
            Self::Memory(bytes) => write!(f, "took {bytes} bytes of memory"),
            Self::Time(time) => write!(f, "took {time:?} of processor time"),
        }
    }
}

/// The first panic of any thread since the last input, with its place.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Keeps panics for the report of [`check`], instead of printing them.
pub(crate) fn catch_panics() {
    set_hook(Box::new(|panic| {
        PANIC.lock().unwrap().get_or_insert_with(|| panic.to_string());
    }));
}

/// Gives `input` to a parser.
///
/// Only one input can be checked at a time in a process, because memory and time are those of all threads.
///
/// # Errors
///
/// The law that is broken.
pub fn check(parse: Parse, input: &[u8]) -> Result<(Verdict, Cost), Broken> {
    MEMORY.reset_peak_usage();
    let (memory, time) = (MEMORY.current_usage(), processor_time());
    let parsed = catch_unwind(AssertUnwindSafe(|| parse(input)));
    let time = processor_time().saturating_sub(time);
    let memory = MEMORY.peak_usage().saturating_sub(memory);
    // A panic of another thread is a broken law too, also if nothing waits for the thread.
    let panic = PANIC.lock().unwrap().take();
    let verdict = match (parsed, panic) {
        (Ok(verdict), None) => verdict,
        (_, panic) => return Err(Broken::Panicked(panic.unwrap_or_default())),
    };
    if memory > BASE_MEMORY + MEMORY_PER_BYTE * input.len() {
        return Err(Broken::Memory(memory));
    }
    let bytes = u32::try_from(input.len()).unwrap_or(u32::MAX);
    let limit = BASE_TIME + TIME_PER_BYTE.saturating_mul(bytes);
    if time > limit && takes_longer(parse, input, limit) {
        return Err(Broken::Time(time));
    }
    Ok((verdict, Cost { memory, time }))
}

/// Returns whether a parser always takes more than `limit`, on this machine as it is now.
fn takes_longer(parse: Parse, input: &[u8], limit: Duration) -> bool {
    (0..2).all(|_| {
        let slower = reference().div_duration_f64(REFERENCE).max(1.0);
        let start = processor_time();
        let _ = catch_unwind(AssertUnwindSafe(|| parse(input)));
        processor_time().saturating_sub(start) > limit.mul_f64(slower)
    })
}

/// Returns the processor time of a fixed amount of work.
fn reference() -> Duration {
    let start = processor_time();
    let sum = (0..1_000_000_u32).fold(0_u32, |sum, number| black_box(sum.rotate_left(5) ^ number));
    black_box(sum);
    processor_time().saturating_sub(start)
}

/// Returns the processor time of all threads so far. Unlike the time of day, it does not depend on other programs.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// Checks an error: it has one of these kinds, and neither it nor its sources print the [`SECRET`].
pub fn refused(error: &Error, kinds: &[ErrorKind]) -> Verdict {
    assert!(kinds.contains(&error.kind()), "an error of another kind: {error:?}");
    silent(&format!("{error:?}"));
    let mut source: Option<&dyn StdError> = Some(error);
    while let Some(error) = source {
        silent(&error.to_string());
        source = error.source();
    }
    Verdict::Refused
}

/// Checks that a text of Larder does not contain the [`SECRET`].
pub(crate) fn silent(text: &str) {
    assert!(!text.contains(SECRET), "a secret was printed: {text}");
}
