//! The results, and their file.

use std::{fs, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

use crate::measure::{Effort, Kind, Operation};

#[derive(Default, Serialize, Deserialize)]
pub struct Results {
    /// Names and versions, in the order of the page.
    pub machine: Vec<(String, String)>,
    pub effort: Option<Effort>,
    pub took: Duration,
    pub rows: Vec<Row>,
    pub round_trips: Vec<RoundTrips>,
    pub copies: Vec<Copied>,
}

/// The results of one operation of one store, with a number of tasks and a set of data.
#[derive(Clone, Serialize, Deserialize)]
pub struct Row {
    pub store: String,
    pub operation: Operation,
    pub tasks: u64,
    pub size: usize,
    pub keys: u64,
    pub contenders: Vec<Measured>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Measured {
    pub kind: Kind,
    pub name: String,
    /// Operations per second, one number per round.
    pub rounds: Vec<f64>,
    /// Allocations per operation.
    pub allocations: Option<f64>,
    /// The message, if the contender failed.
    pub failure: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct RoundTrips {
    pub store: String,
    pub operation: Operation,
    pub contender: String,
    pub per_operation: f64,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Copied {
    pub what: String,
    pub entries: u64,
    /// One number per round.
    pub seconds: Vec<f64>,
    pub peak_bytes: Option<u64>,
}

/// The median, minimum and maximum of some rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&least, &most) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self { median, least, most })
    }
}

impl Measured {
    pub fn spread(&self) -> Option<Spread> {
        if self.failure.is_some() { None } else { Spread::of(&self.rounds) }
    }

    /// The ratio of the rates, computed per round.
    pub fn ratio(&self, to: &Self) -> Option<Spread> {
        self.spread().and(to.spread())?;
        Spread::of(&self.rounds.iter().zip(&to.rounds).map(|(this, to)| this / to).collect::<Vec<_>>())
    }
}

impl Row {
    /// The fastest contender of a kind.
    pub fn best(&self, kind: Kind) -> Option<&Measured> {
        let median = |measured: &&Measured| measured.spread().map_or(0.0, |spread| spread.median);
        let of_kind = self.contenders.iter().filter(|measured| measured.kind == kind);
        of_kind.filter(|measured| measured.spread().is_some()).max_by(|a, b| median(a).total_cmp(&median(b)))
    }

    pub fn named(&self, name: &str) -> Option<&Measured> {
        self.contenders.iter().find(|measured| measured.name == name)
    }

    /// The ratio of Larder's rate to that of the fastest contender of a kind.
    pub fn ratio(&self, to: Kind) -> Option<Spread> {
        self.best(Kind::Larder)?.ratio(self.best(to)?)
    }

    /// Whether both measure the same operation on the same data.
    fn is_same(&self, other: &Self) -> bool {
        let of = |row: &Self| (row.store.clone(), row.operation, row.tasks, row.size, row.keys);
        of(self) == of(other)
    }
}

impl Results {
    pub fn load(path: &Path) -> Self {
        fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    pub fn save(&self, path: &Path) {
        fs::write(path, serde_json::to_vec_pretty(self).unwrap()).unwrap();
    }

    /// Adds the row, or replaces the earlier one.
    pub fn put(&mut self, row: Row) {
        match self.rows.iter_mut().find(|other| other.is_same(&row)) {
            Some(other) => *other = row,
            None => self.rows.push(row),
        }
    }
}
