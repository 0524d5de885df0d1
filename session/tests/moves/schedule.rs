//! Schedules of operations: all possible ones, or random ones from a seed.

use std::{
    pin::Pin,
    task::{Context, Waker},
};

use fastrand::Rng;

pub(crate) type Actor = Pin<Box<dyn Future<Output = ()>>>;

/// A limit for the operations of a schedule; more indicate an endless loop.
const MOST_STEPS: usize = 4_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The actor runs its next operation.
    Go(usize),
    /// Its process dies before that.
    Die(usize),
}

/// Chooses the next step, given the live actors and the last actor.
pub(crate) trait Director {
    fn next(&mut self, there: &[usize], last: Option<usize>) -> Step;
}

/// Runs the actors until all are finished or dead.
pub(crate) fn perform(actors: Vec<Actor>, director: &mut dyn Director) {
    let mut actors: Vec<_> = actors.into_iter().map(Some).collect();
    let mut context = Context::from_waker(Waker::noop());
    let mut steps = 0;
    let mut last = None;
    loop {
        let there: Vec<_> = (0..actors.len()).filter(|&number| actors[number].is_some()).collect();
        if there.is_empty() {
            return;
        }
        steps += 1;
        assert!(steps < MOST_STEPS, "it never ends");
        match director.next(&there, last) {
            Step::Go(number) => {
                let actor = actors[number].as_mut().unwrap();
                if actor.as_mut().poll(&mut context).is_ready() {
                    actors[number] = None;
                }
                last = Some(number);
            }
            Step::Die(number) => actors[number] = None,
        }
    }
}

/// All schedules with a limited number of interruptions and crashes.
pub(crate) struct Exhaustive {
    interruptions: usize,
    deaths: usize,
    /// The choice of each decision, and its number of possibilities.
    decisions: Vec<(usize, usize)>,
    at: usize,
    left: (usize, usize),
}

impl Exhaustive {
    pub(crate) const fn new(interruptions: usize, deaths: usize) -> Self {
        Self { interruptions, deaths, decisions: Vec::new(), at: 0, left: (interruptions, deaths) }
    }

    /// Advances to the next schedule; `false` after the last.
    pub(crate) fn advance(&mut self) -> bool {
        while let Some((chosen, count)) = self.decisions.pop() {
            if chosen + 1 < count {
                self.decisions.push((chosen + 1, count));
                self.at = 0;
                self.left = (self.interruptions, self.deaths);
                return true;
            }
        }
        false
    }
}

impl Director for Exhaustive {
    fn next(&mut self, there: &[usize], last: Option<usize>) -> Step {
        let running = last.filter(|last| there.contains(last));
        let mut possible = Vec::new();
        match running {
            Some(running) => {
                possible.push(Step::Go(running));
                if self.left.0 > 0 {
                    possible.extend(
                        there.iter().filter(|&&other| other != running).map(|&other| Step::Go(other)),
                    );
                }
                if self.left.1 > 0 {
                    possible.push(Step::Die(running));
                }
            }
            None => possible.extend(there.iter().map(|&number| Step::Go(number))),
        }
        if self.at == self.decisions.len() {
            self.decisions.push((0, possible.len()));
        }
        let step = possible[self.decisions[self.at].0];
        self.at += 1;
        match step {
            Step::Go(number) if running.is_some_and(|running| running != number) => self.left.0 -= 1,
            Step::Go(_) => {}
            Step::Die(_) => self.left.1 -= 1,
        }
        step
    }
}

/// Random: either all actors are interrupted often, or some wait for a long time.
pub(crate) struct Drawn {
    random: Rng,
    ranks: Option<Vec<u64>>,
    may_die: bool,
}

impl Drawn {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let ranks = random.bool().then(|| (0..16).map(|_| random.u64(..)).collect());
        let may_die = random.bool();
        Self { random, ranks, may_die }
    }
}

impl Director for Drawn {
    fn next(&mut self, there: &[usize], last: Option<usize>) -> Step {
        let random = &mut self.random;
        if self.may_die && random.u32(..60) == 0 {
            return Step::Die(there[random.usize(..there.len())]);
        }
        if let Some(ranks) = &mut self.ranks {
            if let Some(last) = last
                && random.u32(..8) == 0
            {
                // After all others, while those have operations left.
                ranks[last] = ranks.iter().min().map_or(0, |least| least.saturating_sub(1));
            }
            return Step::Go(there.iter().copied().max_by_key(|&number| ranks[number]).unwrap());
        }
        Step::Go(there[random.usize(..there.len())])
    }
}
