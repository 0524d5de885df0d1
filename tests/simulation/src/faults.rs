//! The counts of the faults and situations that must happen in a series of runs.

use std::fmt::Debug;

/// The faults of a simulation.
pub trait Faults: Copy + Debug + PartialEq + Send + Sync + 'static {
    /// Every fault, in the order of their declaration.
    const ALL: &[Self];
}

/// Declares the faults.
macro_rules! faults {
    ($($(#[$about:meta])* $fault:ident,)+) => {
        /// A fault, or another situation that must happen.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Fault {
            $($(#[$about])* $fault,)+
        }

        impl $crate::faults::Faults for Fault {
            const ALL: &[Self] = &[$(Self::$fault,)+];
        }
    };
}
pub(crate) use faults;

/// How often each fault has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts<F>(Vec<(F, u64)>);

impl<F: Faults> Default for Counts<F> {
    fn default() -> Self {
        Self(F::ALL.iter().map(|fault| (*fault, 0)).collect())
    }
}

impl<F: Faults> Counts<F> {
    pub(crate) fn count(&mut self, fault: F) {
        if let Some((_, count)) = self.0.iter_mut().find(|(counted, _)| *counted == fault) {
            *count += 1;
        }
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        for ((_, own), (_, other)) in self.0.iter_mut().zip(&other.0) {
            *own += other;
        }
    }

    /// The faults that have never happened.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.0.iter().filter(|(_, count)| *count == 0).map(|(fault, _)| format!("{fault:?}")).collect()
    }

    /// One line per fault.
    #[must_use]
    pub fn table(&self) -> String {
        self.0.iter().map(|(fault, count)| format!("{count:>10} {fault:?}\n")).collect()
    }
}
