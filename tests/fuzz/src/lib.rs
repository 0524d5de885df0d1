#![doc = include_str!("../README.md")]
// A broken law is a panic, which both forms report with the input.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

mod laws;
mod mutate;
mod short;
mod targets;

pub use crate::{
    laws::{Broken, Cost, SECRET, Verdict, check, refused},
    mutate::Mutator,
    short::{Covered, run},
    targets::TARGETS,
};

/// Gives an input to a parser and checks the laws. Panics if one is broken.
pub type Parse = fn(&[u8]) -> Verdict;

/// Something that parses what others wrote.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name, which is also that of its corpus.
    pub name: &'static str,
    /// The parser.
    pub parse: Parse,
}

impl Target {
    /// Returns the target with this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }
}
