//! Checks the events of a run against the promises of the group commit.

use std::collections::{BTreeMap, HashMap, HashSet};

use larder_core::{ErrorKind, Expiry, Outcome, Version};

use crate::group_commit::{
    log::{Act, Answer, Asked, BatchId, CallId, CallKind, ChangeId, Event, Log},
    model::State,
    options::{Counts, Fault, Options},
};

/// A broken promise.
pub(crate) type Violation = String;

/// Checks the log of a run, and counts the situations in it.
pub(crate) fn check(log: &Log, options: &Options, counts: &mut Counts) -> Vec<Violation> {
    let history = History::new(log);
    let mut found = Vec::new();
    history.check_answers(&mut found);
    history.check_attempts(&mut found);
    history.check_order(&mut found);
    let begun = history.check_barriers(&mut found);
    history.check_lanes(options, &mut found);
    history.check_conditions(&mut found);
    history.count(&begun, counts);
    found
}

/// A change that was sent in a batch.
struct Attempt {
    batch: BatchId,
    /// The store's answer; `None` if its future was dropped.
    answer: Option<Answer>,
}

/// The log by calls and changes. A moment is a position in the log.
struct History<'a> {
    log: &'a Log,
    /// When each call was first polled.
    polled: BTreeMap<CallId, usize>,
    /// When its first poll was over.
    waits: HashMap<CallId, usize>,
    dropped: HashMap<CallId, usize>,
    replied: HashMap<CallId, (usize, &'a [Answer])>,
    attempts: Vec<Vec<Attempt>>,
    /// When the store made or refused each change, and with which result.
    made: Vec<Vec<(usize, &'a Answer)>>,
    /// The changes of each key in the order of their calls' first polls.
    by_key: BTreeMap<usize, Vec<ChangeId>>,
}

impl<'a> History<'a> {
    fn new(log: &'a Log) -> Self {
        let (mut polled, mut waits) = (BTreeMap::new(), HashMap::new());
        let (mut dropped, mut replied) = (HashMap::new(), HashMap::new());
        let mut attempts: Vec<Vec<Attempt>> = log.changes.iter().map(|_| Vec::new()).collect();
        let mut made = vec![Vec::new(); log.changes.len()];
        let mut sent: HashMap<BatchId, &[ChangeId]> = HashMap::new();
        for (at, event) in log.events.iter().enumerate() {
            match event {
                Event::Polled(call) => drop(polled.insert(*call, at)),
                Event::Waits(call) => drop(waits.insert(*call, at)),
                Event::Dropped(call) => drop(dropped.insert(*call, at)),
                Event::Replied(call, answers) => {
                    waits.entry(*call).or_insert(at);
                    replied.insert(*call, (at, &**answers));
                }
                Event::Begun(batch, changes) => {
                    sent.insert(*batch, changes);
                }
                Event::Made { change, did, .. } => made[*change].push((at, did)),
                Event::Ended(batch, answers) => {
                    for (place, change) in sent.get(batch).into_iter().copied().flatten().enumerate() {
                        let answer = answers.as_ref().and_then(|answers| answers.get(place)).cloned();
                        attempts[*change].push(Attempt { batch: *batch, answer });
                    }
                }
                _ => {}
            }
        }
        let mut by_key: BTreeMap<usize, Vec<ChangeId>> = BTreeMap::new();
        for (id, change) in log.changes.iter().enumerate() {
            if polled.contains_key(&change.call) {
                by_key.entry(change.key).or_default().push(id);
            }
        }
        for changes in by_key.values_mut() {
            changes.sort_by_key(|id| (polled[&log.changes[*id].call], log.changes[*id].place));
        }
        Self { log, polled, waits, dropped, replied, attempts, made, by_key }
    }

    fn asked(&self, id: ChangeId) -> &Asked {
        &self.log.changes[id]
    }

    /// Whether one call came before another: its first poll ended before the other's began.
    fn precedes(&self, one: CallId, other: CallId) -> bool {
        match (self.waits.get(&one), self.polled.get(&other)) {
            (Some(one), Some(other)) => one < other,
            _ => false,
        }
    }

    /// Checks that each living call has one answer, and that each answer is true.
    fn check_answers(&self, found: &mut Vec<Violation>) {
        for (call, asked) in self.log.calls.iter().enumerate() {
            if !self.polled.contains_key(&call) || self.dropped.contains_key(&call) {
                continue;
            }
            let Some((at, answers)) = self.replied.get(&call) else {
                found.push(format!("call {call} has no answer"));
                continue;
            };
            let expected = if asked.kind == CallKind::Change { asked.changes.len() } else { 1 };
            if answers.len() != expected {
                found.push(format!("call {call} has {} answers, not {expected}", answers.len()));
                continue;
            }
            for (id, answer) in asked.changes.iter().zip(*answers) {
                if let Err(why) = self.check_answer(*id, *at, answer) {
                    found.push(format!("change {id} of call {call} was answered {answer:?}: {why}"));
                }
            }
        }
    }

    fn check_answer(&self, id: ChangeId, at: usize, answer: &Answer) -> Result<(), String> {
        let changed = self.made[id].iter().any(|(_, did)| !matches!(did, Answer::Failed(..)));
        if !matches!(answer, Answer::Failed(..)) && self.made[id].first().is_some_and(|(made, _)| *made > at)
        {
            return Err("it was applied after the answer".to_owned());
        }
        let told = self.attempts[id].last().and_then(|attempt| attempt.answer.as_ref());
        // The answer must agree with the store's, if the store has answered.
        if let Some(told) = told {
            let agrees = match (told, answer) {
                (Answer::Failed(..), _) | (_, Answer::Failed(..)) => told == answer,
                // Checked below.
                _ => true,
            };
            if !agrees {
                return Err(format!("the store said {told:?}"));
            }
        }
        match answer {
            Answer::Failed(ErrorKind::Conflict, _) => match self.made[id].first() {
                Some((made, Answer::Failed(ErrorKind::Conflict, _))) if *made < at => Ok(()),
                _ => Err("the condition did not fail in the store".to_owned()),
            },
            Answer::Failed(_, Outcome::NotApplied) if changed => Err("it was applied".to_owned()),
            Answer::Failed(_, Outcome::NotApplied) => Ok(()),
            Answer::Failed(..) if self.attempts[id].is_empty() => Err("it was never sent".to_owned()),
            Answer::Failed(..) => Ok(()),
            applied => match self.made[id].first() {
                Some((_, did)) if *did == applied => Ok(()),
                Some((_, did)) => Err(format!("the store did {did:?}")),
                None => Err("it was never applied".to_owned()),
            },
        }
    }

    /// Checks that no change is applied twice, or sent again after it may have been applied, and that no value is kept
    /// for a caller that is gone.
    fn check_attempts(&self, found: &mut Vec<Violation>) {
        for event in &self.log.events {
            match event {
                Event::Broken(violation) => found.push(violation.clone()),
                Event::Kept(id) => {
                    found.push(format!("the value of change {id} was kept although its caller had gone"));
                }
                _ => {}
            }
        }
        for (id, attempts) in self.attempts.iter().enumerate() {
            if self.made[id].len() > 1 {
                found.push(format!("change {id} was applied twice"));
            }
            let mut before: Option<&Attempt> = None;
            for attempt in attempts {
                if let Some(before) = before
                    && before.answer.as_ref().is_none_or(|answer| {
                        answer.is_unknown() || !matches!(answer, Answer::Failed(_, Outcome::NotApplied))
                    })
                {
                    let (first, again) = (before.batch, attempt.batch);
                    found.push(format!("change {id} was sent again with batch {again}, after batch {first}"));
                }
                before = Some(attempt);
            }
        }
    }

    /// Checks that changes of one key take effect in the order of the first polls of their calls, and changes of one
    /// call in their order in the call.
    fn check_order(&self, found: &mut Vec<Violation>) {
        for (key, changes) in &self.by_key {
            for (place, later) in changes.iter().enumerate() {
                let Some((made, _)) = self.made[*later].first() else { continue };
                for earlier in &changes[..place] {
                    let (one, other) = (self.asked(*earlier), self.asked(*later));
                    let ordered = one.call == other.call || self.precedes(one.call, other.call);
                    if ordered && self.made[*earlier].first().is_some_and(|(at, _)| at > made) {
                        found.push(format!(
                            "of key {key}, change {later} took effect before change {earlier}"
                        ));
                    }
                }
            }
        }
    }

    /// The call of a clear, flush or close that reached the store at the moment `at`. Several calls of the same kind
    /// may wait. Prefers a call for which all earlier changes have been made, then one whose deadline has not passed,
    /// then the one with the earliest deadline. The order in which first polls begin does not decide, because they
    /// overlap on threads.
    fn caller_of(&self, kind: &CallKind, at: usize, taken: &HashSet<CallId>) -> Option<CallId> {
        let waiting = self.polled.iter().filter(|(call, polled)| {
            self.log.calls[**call].kind == *kind
                && !taken.contains(call)
                && **polled < at
                && self.dropped.get(call).is_none_or(|dropped| *dropped > at)
                && self.replied.get(call).is_none_or(|(replied, _)| *replied > at)
        });
        let early = |call: CallId| {
            let later = |made: &[(usize, _)]| made.first().is_some_and(|(made, _)| *made > at);
            let mut made = self.made.iter().enumerate();
            made.any(|(id, made)| later(made) && self.precedes(self.asked(id).call, call))
        };
        // It must come before its answer, and before the changes that follow it.
        let deadline = |call: CallId| {
            let made = self.made.iter().enumerate().filter_map(|(id, made)| Some((id, made.first()?.0)));
            let follow = made.filter(|(id, _)| self.precedes(call, self.asked(*id).call)).map(|(_, at)| at);
            let gone = self.dropped.get(&call).copied();
            let replied = self.replied.get(&call).map(|(at, _)| *at);
            follow.chain(gone).chain(replied).min().unwrap_or(usize::MAX)
        };
        waiting.map(|(call, _)| *call).min_by_key(|call| {
            let deadline = deadline(*call);
            (early(*call), deadline < at, deadline)
        })
    }

    /// Checks that a clear, flush or close comes after every change that was called earlier, that a clear also comes
    /// before every change that was called later, and that no batch overlaps a clear. Returns the calls whose clears
    /// have begun.
    fn check_barriers(&self, found: &mut Vec<Violation>) -> HashSet<CallId> {
        let mut taken = HashSet::new();
        let mut clearing: Option<CallId> = None;
        let mut serving: HashSet<BatchId> = HashSet::new();
        // How often each kind of call has reached the store, minus how often it was answered as done.
        let mut come: HashMap<&CallKind, i64> = HashMap::new();
        for (at, event) in self.log.events.iter().enumerate() {
            match event {
                Event::Begun(batch, changes) => {
                    serving.insert(*batch);
                    if let Some(call) = clearing {
                        found.push(format!("changes {changes:?} were sent during the clear of call {call}"));
                    }
                }
                Event::Ended(batch, _) => drop(serving.remove(batch)),
                Event::Replied(call, answers) if **answers == [Answer::Done] => {
                    let kind = &self.log.calls[*call].kind;
                    let left = come.entry(kind).or_default();
                    *left -= 1;
                    if *left < 0 {
                        found.push(format!(
                            "{kind:?} of call {call} was answered as done but never reached the store"
                        ));
                    }
                }
                Event::Entered(kind) => {
                    *come.entry(kind).or_default() += 1;
                    let Some(call) = self.caller_of(kind, at, &taken) else {
                        found.push(format!("{kind:?} was sent (event {at}) although no caller waits for it"));
                        continue;
                    };
                    let is_clear = matches!(kind, CallKind::Clear(_));
                    if is_clear {
                        taken.insert(call);
                        clearing = Some(call);
                        if !serving.is_empty() {
                            found.push(format!("the clear of call {call} began during a batch"));
                        }
                    }
                    for (id, made) in self.made.iter().enumerate() {
                        let (Some((made, _)), other) = (made.first(), self.asked(id).call) else { continue };
                        if *made > at && self.precedes(other, call) {
                            found.push(format!(
                                "change {id} was called before {kind:?} but took effect after it"
                            ));
                        }
                        if is_clear && *made < at && self.precedes(call, other) {
                            found.push(format!("change {id} overtook the clear of call {call}"));
                        }
                    }
                }
                Event::Left(CallKind::Clear(_)) => clearing = None,
                _ => {}
            }
        }
        taken
    }

    /// Checks that a lane has one batch at a time, within the limits of a batch.
    fn check_lanes(&self, options: &Options, found: &mut Vec<Violation>) {
        // Keys in one batch belong to one lane.
        let mut lane: Vec<usize> = (0..State::KEYS).collect();
        for event in &self.log.events {
            let Event::Begun(_, changes) = event else { continue };
            for pair in changes.windows(2) {
                let (one, other) = (lane[self.asked(pair[0]).key], lane[self.asked(pair[1]).key]);
                for lane in &mut lane {
                    if *lane == other {
                        *lane = one;
                    }
                }
            }
        }
        let mut open: BTreeMap<BatchId, usize> = BTreeMap::new();
        for event in &self.log.events {
            match event {
                Event::Begun(batch, changes) => {
                    let Some(first) = changes.first() else {
                        found.push(format!("batch {batch} is empty"));
                        continue;
                    };
                    let size: usize = changes.iter().map(|id| self.asked(*id).size).sum();
                    if changes.len() > 1
                        && (changes.len() > options.max_batch || size > options.max_batch_bytes)
                    {
                        found.push(format!("batch {batch} has {} changes, {size} bytes", changes.len()));
                    }
                    let lane = lane[self.asked(*first).key];
                    if let Some((other, _)) = open.iter().find(|(_, open)| **open == lane) {
                        found.push(format!("batches {other} and {batch} of one lane overlap"));
                    }
                    open.insert(*batch, lane);
                    if open.len() > options.lanes {
                        found.push(format!(
                            "with batch {batch}, {} batches are under way at once",
                            open.len()
                        ));
                    }
                }
                Event::Ended(batch, _) => drop(open.remove(batch)),
                _ => {}
            }
        }
    }

    /// Replays the changes, and checks that each was made exactly if its condition held.
    fn check_conditions(&self, found: &mut Vec<Violation>) {
        let mut entries: HashMap<usize, (Version, Option<u64>)> = HashMap::new();
        for event in &self.log.events {
            let (id, now, did) = match event {
                Event::Made { change, now, did, .. } => (*change, *now, did),
                Event::Cleared(prefix) => {
                    entries.retain(|key, _| !State::has_prefix(*key, prefix));
                    continue;
                }
                _ => continue,
            };
            let Asked { key, act, condition, .. } = self.asked(id);
            entries.retain(|_, (_, deadline)| deadline.is_none_or(|deadline| deadline > now));
            let current = entries.get(key).map(|(version, _)| version.clone());
            let holds = condition.holds(current.as_ref());
            let deadline = |expiry: &Expiry| expiry.as_millis().map(|millis| now + millis);
            let expected = match (act, did) {
                _ if !holds => Answer::Failed(ErrorKind::Conflict, Outcome::NotApplied),
                (Act::Put(expiry), Answer::Put(Some(version))) => {
                    entries.insert(*key, (version.clone(), deadline(expiry)));
                    did.clone()
                }
                (Act::Put(_), _) => Answer::Put(None),
                (Act::Delete, _) => Answer::Deleted(entries.remove(key).is_some()),
                (Act::Touch(expiry) | Act::Read(expiry), _) => {
                    if let Some(entry) = entries.get_mut(key) {
                        entry.1 = deadline(expiry);
                    }
                    match act {
                        Act::Read(_) => Answer::Read(current),
                        _ => Answer::Touched(current.is_some()),
                    }
                }
            };
            if expected != *did {
                found.push(format!("change {id} did {did:?}, but {expected:?} on replay"));
            }
        }
    }

    /// Counts the situations that are visible only in the log.
    fn count(&self, begun: &HashSet<CallId>, counts: &mut Counts) {
        let mut open: HashSet<BatchId> = HashSet::new();
        for event in &self.log.events {
            match event {
                Event::Begun(batch, changes) => {
                    open.insert(*batch);
                    if open.len() > 1 {
                        counts.count(Fault::LanesSideBySide);
                    }
                    let keys: HashSet<usize> = changes.iter().map(|id| self.asked(*id).key).collect();
                    if changes.len() > 1 {
                        counts.count(Fault::Grouped);
                    }
                    if keys.len() < changes.len() {
                        counts.count(Fault::SameKeyInBatch);
                    }
                    let reads = changes.iter().filter(|id| matches!(self.asked(**id).act, Act::Read(_)));
                    if reads.map(|id| self.asked(*id).call).collect::<HashSet<_>>().len() > 1 {
                        counts.count(Fault::ReadsGrouped);
                    }
                }
                Event::Ended(batch, _) => drop(open.remove(batch)),
                Event::Cleared(_) if self.waiting().next().is_some() => {
                    counts.count(Fault::ClearWithWaiting);
                }
                _ => {}
            }
        }
        for (id, asked) in self.log.changes.iter().enumerate() {
            let sent = !self.attempts[id].is_empty();
            if self.polled.contains_key(&asked.call) && self.dropped.contains_key(&asked.call) && !sent {
                counts.count(Fault::LeftTheQueue);
            }
        }
        for (call, asked) in self.log.calls.iter().enumerate() {
            let abandoned = self.dropped.contains_key(&call) && self.polled.contains_key(&call);
            match asked.kind {
                CallKind::Clear(_) if abandoned && begun.contains(&call) => {
                    counts.count(Fault::ClearAbandonedInStore);
                }
                CallKind::Clear(_) if abandoned => counts.count(Fault::ClearAbandoned),
                CallKind::Flush if abandoned => counts.count(Fault::FlushAbandoned),
                CallKind::Change => {
                    let changes = &asked.changes;
                    let made = changes.iter().any(|id| !self.made[*id].is_empty());
                    if abandoned && made && changes.iter().any(|id| self.attempts[*id].is_empty()) {
                        counts.count(Fault::DroppedAmidChanges);
                    }
                    let reads = changes.iter().all(|id| matches!(self.asked(*id).act, Act::Read(_)));
                    if reads && changes.len() > 1 && made {
                        counts.count(Fault::ReadMany);
                    }
                }
                CallKind::Close => {
                    let Some(polled) = self.polled.get(&call) else { continue };
                    let in_use = self.replied.iter().any(|(other, (at, _))| {
                        at > polled && self.polled.get(other).is_some_and(|other| other < polled)
                    });
                    if in_use {
                        counts.count(Fault::ClosedInUse);
                    }
                }
                _ => {}
            }
        }
    }

    /// The changes that waited for a clear and took effect after it.
    fn waiting(&self) -> impl Iterator<Item = ChangeId> + '_ {
        let cleared: Vec<usize> = self
            .log
            .events
            .iter()
            .enumerate()
            .filter(|(_, event)| matches!(event, Event::Cleared(_)))
            .map(|(at, _)| at)
            .collect();
        self.made.iter().enumerate().filter_map(move |(id, made)| {
            let polled = self.polled.get(&self.asked(id).call)?;
            let (at, _) = made.first()?;
            cleared.iter().any(|cleared| polled < cleared && cleared < at).then_some(id)
        })
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::group_commit::log::Call;

    fn call(kind: &CallKind, changes: &[ChangeId]) -> Call {
        Call { kind: kind.clone(), changes: changes.to_vec() }
    }

    /// The violations in these events, whose only change is a put of the call `by`.
    fn violations(events: Vec<Event>, calls: Vec<Call>, by: CallId) -> Vec<Violation> {
        let (act, condition) = (Act::Put(Expiry::Never), larder_core::Condition::Any);
        let changes = vec![Asked { call: by, place: 0, key: 0, act, condition, size: 4 }];
        let options = Options { max_batch: 1, ..Options::draw(&mut Rng::with_seed(0)) };
        check(&Log { events, calls, changes }, &options, &mut Counts::default())
    }

    /// Two clears whose first polls overlap, with a put between them in the store. The put is called once the first
    /// polls of the given clears are over.
    fn put_between_clears(over: &[CallId]) -> Vec<Violation> {
        let clear = CallKind::Clear("");
        let calls = vec![call(&clear, &[]), call(&clear, &[]), call(&CallKind::Change, &[0])];
        let cleared = [Event::Entered(clear.clone()), Event::Cleared(""), Event::Left(clear)];
        let put = Answer::Put(Some(Version::from_token(1_u64)));
        let mut events = vec![Event::Polled(0), Event::Polled(1)];
        events.extend(over.iter().map(|call| Event::Waits(*call)));
        events.extend([Event::Polled(2), Event::Waits(2)]);
        events.extend((0..2).filter(|call| !over.contains(call)).map(Event::Waits));
        events.extend(cleared.clone());
        events.push(Event::Begun(0, vec![0]));
        events.push(Event::Made { batch: 0, change: 0, now: 0, did: put.clone() });
        events.push(Event::Ended(0, Some(vec![put.clone()])));
        events.extend(cleared);
        events.extend([Event::Replied(0, vec![Answer::Done]), Event::Replied(1, vec![Answer::Done])]);
        events.push(Event::Replied(2, vec![put]));
        violations(events, calls, 2)
    }

    #[test]
    fn a_clear_does_not_belong_to_a_call_that_failed_earlier() {
        let clear = CallKind::Clear("");
        let calls = vec![call(&clear, &[]), call(&CallKind::Change, &[0]), call(&clear, &[])];
        let put = Answer::Put(Some(Version::from_token(1_u64)));
        let lost = Answer::Failed(ErrorKind::Unavailable, Outcome::Unknown);
        let events = vec![
            Event::Polled(0),
            Event::Waits(0),
            Event::Replied(0, vec![lost]),
            Event::Polled(1),
            Event::Waits(1),
            Event::Begun(0, vec![0]),
            Event::Made { batch: 0, change: 0, now: 0, did: put.clone() },
            Event::Ended(0, Some(vec![put.clone()])),
            Event::Replied(1, vec![put]),
            Event::Polled(2),
            Event::Waits(2),
            Event::Entered(clear.clone()),
            Event::Cleared(""),
            Event::Left(clear),
            Event::Replied(2, vec![Answer::Done]),
        ];
        assert_eq!(violations(events, calls, 1), [""; 0]);
    }

    #[test]
    fn clears_whose_first_polls_overlap_may_run_in_any_order() {
        assert_eq!(put_between_clears(&[]), [""; 0]);
        assert_eq!(put_between_clears(&[0]), [""; 0]);
        assert_eq!(put_between_clears(&[1]), [""; 0]);
        assert_ne!(put_between_clears(&[0, 1]), [""; 0], "the put was called after both");
    }
}
