//! The short form: the corpus, and a fixed number of mutations of it.

use std::{fmt, fs, path::Path};

use crate::{
    Mutator, Target, Verdict,
    laws::{Broken, Cost, catch_panics, check},
};

/// The inputs of a target.
#[derive(Clone, Copy, Debug, Default)]
pub struct Covered {
    /// The inputs that were parsed.
    pub accepted: u64,
    /// The inputs that were refused.
    pub refused: u64,
    /// The largest cost of an input.
    pub most: Cost,
}

impl fmt::Display for Covered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, refused, most: Cost { memory, time } } = self;
        let (inputs, memory, time) = (accepted + refused, memory >> 10, time.as_millis());
        write!(
            f,
            "{inputs:>6} inputs: {accepted:>6} accepted, {refused:>6} refused, at most {memory} KiB and {time} ms"
        )
    }
}

/// Checks a target with its corpus and with this many mutations of it.
///
/// # Errors
///
/// The first input that breaks a law, and the law. Also if no input was accepted, or none refused: the corpus or the
/// mutations then do not reach the parser.
pub fn run(target: &Target, seed: u64, mutations: u64) -> Result<Covered, String> {
    catch_panics();
    let corpus = corpus(target.name)?;
    let mut mutator = Mutator::new(seed, corpus.clone());
    let mutated = (0..mutations).map(|_| mutator.next_input());
    let mut covered = Covered::default();
    for input in corpus.into_iter().chain(mutated) {
        let (verdict, cost) =
            check(target.parse, &input).map_err(|broken| report(target, &input, &broken))?;
        match verdict {
            Verdict::Accepted => covered.accepted += 1,
            Verdict::Refused => covered.refused += 1,
        }
        let Cost { memory, time } = &mut covered.most;
        (*memory, *time) = (cost.memory.max(*memory), cost.time.max(*time));
    }
    if covered.accepted == 0 || covered.refused == 0 {
        return Err(format!("{}: {covered}, so one kind of input was never tried", target.name));
    }
    Ok(covered)
}

/// Reads the corpus of a target, in the order of the names.
fn corpus(name: &str) -> Result<Vec<Vec<u8>>, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let read = || {
        let mut paths =
            fs::read_dir(&directory)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        paths.sort();
        paths.iter().map(fs::read).collect::<std::io::Result<Vec<_>>>()
    };
    let corpus = read().map_err(|error| format!("{name}: the corpus cannot be read: {error}"))?;
    if corpus.is_empty() { Err(format!("{name}: the corpus is empty")) } else { Ok(corpus) }
}

/// The input is escaped, so that it can be copied into a test.
fn report(target: &Target, input: &[u8], broken: &Broken) -> String {
    const SHOWN: usize = 2_000;
    let (bytes, shown) = (input.len(), &input[..input.len().min(SHOWN)]);
    format!("{}: {broken}\nby an input of {bytes} bytes: b\"{}\"", target.name, shown.escape_ascii())
}
