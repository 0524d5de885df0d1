//! Batches: the changes that are sent together, and the result of each.

use std::{
    collections::{HashMap, hash_map},
    mem,
    sync::OnceLock,
};

use futures_util::future::join_all;
use larder_core::{
    Action, Applied, Change, Condition, Error, ErrorKind, Key, Outcome, Record, Result, Version, Written,
};
use tokio::sync::Semaphore;

/// The limits of one call to the store.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The maximum number of changes.
    pub entries: usize,
    /// The maximum number of bytes of keys and values. A single change that is larger is sent alone.
    pub bytes: usize,
}

/// Splits a batch of changes into rounds, and collects the results.
///
/// - Each round is within the [`Limits`] and contains at most one change per key.
/// - Changes of one key keep their order: the second is sent once the first is done.
/// - Of consecutive puts of one key without conditions, only the last is sent. The others succeed with it, as if
///   it had replaced them immediately.
/// - If the store [is gone](Error::is_gone), the changes that were not sent fail with the same error, marked as
///   [not applied](Error::not_applied).
///
/// ```
/// use larder_core::{Applied, Change, Result};
/// use larder_kit::{Batch, Limits};
///
/// const LIMITS: Limits = Limits { entries: 500, bytes: 1 << 20 };
///
/// async fn apply(changes: Vec<Change>) -> Vec<Result<Applied>> {
///     let mut batch = Batch::new(changes, LIMITS);
///     while let Some(round) = batch.next_round() {
///         let outcome = send(round.changes()).await;
///         batch.done(round, outcome);
///     }
///     batch.into_results()
/// }
///
/// /// One call to the store. Returns one result per change, or one error for all of them.
/// async fn send(changes: &[Change]) -> Result<Vec<Result<Applied>>> {
///     # Ok(changes.iter().map(|_| Ok(Applied::Deleted(true))).collect())
/// }
/// ```
#[derive(Debug)]
pub struct Batch {
    /// The changes to send, in reverse order, each with its place in the batch.
    waiting: Vec<(usize, Change)>,
    results: Vec<Option<Result<Applied>>>,
    limits: Limits,
}

/// Returns whether the change is a put without a condition.
#[must_use]
pub fn is_plain_put(change: &Change) -> bool {
    change.condition == Condition::Any && matches!(change.action, Action::Put(..))
}

/// Returns the result of a put that `replacement` replaced before any read: its version is already out of date.
fn replaced(replacement: &Applied) -> Written {
    let versioned = matches!(replacement, Applied::Put(Written { version: Some(_), .. }));
    if versioned { Written::at(Version::unique()) } else { Written::default() }
}

/// The changes of one call.
#[derive(Debug)]
pub struct Round {
    changes: Vec<Change>,
    places: Vec<usize>,
    /// The replaced changes in their order, each with the place of its replacement in this round, and with its own
    /// place in the batch.
    replaced: Vec<(usize, usize, Change)>,
}

impl Round {
    /// Returns the changes. Their keys are different.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }
}

impl Batch {
    /// Creates a batch.
    #[must_use]
    pub fn new(changes: Vec<Change>, limits: Limits) -> Self {
        Self::checked(changes, limits, |_| Ok(()))
    }

    /// Creates a batch. Changes that `check` rejects are not sent, and fail with its error.
    #[must_use]
    pub fn checked(changes: Vec<Change>, limits: Limits, check: impl Fn(&Change) -> Result<()>) -> Self {
        let results: Vec<_> = changes.iter().map(|change| check(change).err().map(Err)).collect();
        let waiting =
            changes.into_iter().enumerate().rev().filter(|(place, _)| results[*place].is_none()).collect();
        Self { waiting, results, limits }
    }

    /// Returns the changes to send next; `None` once all changes have been sent.
    pub fn next_round(&mut self) -> Option<Round> {
        let mut round = Round { changes: Vec::new(), places: Vec::new(), replaced: Vec::new() };
        let mut bytes = 0;
        // The place of each key in this round; `None` if a change of the key must wait for the next round.
        let mut keys: HashMap<Key, Option<usize>> = HashMap::new();
        let mut later = Vec::new();
        loop {
            let fits = |(_, change): &mut (usize, Change)| {
                round.changes.is_empty()
                    || (round.changes.len() < self.limits.entries
                        && bytes + change.size() <= self.limits.bytes)
            };
            let Some((place, change)) = self.waiting.pop_if(fits) else {
                break;
            };
            match keys.entry(change.key.clone()) {
                hash_map::Entry::Vacant(entry) => {
                    entry.insert(Some(round.changes.len()));
                    bytes += change.size();
                    round.changes.push(change);
                    round.places.push(place);
                }
                hash_map::Entry::Occupied(mut entry) => match *entry.get() {
                    Some(number) if is_plain_put(&round.changes[number]) && is_plain_put(&change) => {
                        bytes += change.size();
                        let replaced = mem::replace(&mut round.changes[number], change);
                        let replaced_place = mem::replace(&mut round.places[number], place);
                        round.replaced.push((number, replaced_place, replaced));
                    }
                    _ => {
                        entry.insert(None);
                        later.push((place, change));
                    }
                },
            }
        }
        self.waiting.extend(later.into_iter().rev());
        (!round.changes.is_empty()).then_some(round)
    }

    /// Stores the results of a round: one per change, in the same order, or one error for all of them.
    pub fn done(&mut self, round: Round, outcome: Result<Vec<Result<Applied>>>) {
        let results = outcome.unwrap_or_else(|error| vec![Err(error); round.places.len()]);
        let rejected = |error: &Error| error.outcome() == Outcome::NotApplied && !error.is_gone();
        for (number, place, change) in round.replaced.into_iter().rev() {
            match results.get(number) {
                // The replacement was rejected, so the last put before it must be sent.
                Some(Err(error)) if rejected(error) => self.waiting.push((place, change)),
                // The replaced put was never sent.
                Some(Err(error)) => self.results[place] = Some(Err(error.clone().not_applied())),
                Some(Ok(replacement)) => {
                    self.results[place] = Some(Ok(Applied::Put(replaced(replacement))));
                }
                None => {}
            }
        }
        if let Some(error) = results.iter().find_map(|result| result.as_ref().err()?.unsent()) {
            for (place, _) in self.waiting.drain(..) {
                self.results[place] = Some(Err(error.clone()));
            }
        }
        for (place, result) in round.places.into_iter().zip(results) {
            self.results[place] = Some(result);
        }
    }

    /// Returns one result per change, in the order of the batch.
    #[must_use]
    pub fn into_results(self) -> Vec<Result<Applied>> {
        let missing =
            || Err(Error::new(ErrorKind::Other, "the store returned too few results for the batch"));
        self.results.into_iter().map(|result| result.unwrap_or_else(missing)).collect()
    }
}

/// Reads the entries of `keys`, with one call for each chunk of `size` keys and at most `limit` calls at once.
/// Returns one result per key.
///
/// `read` returns the existing records, by their keys. If the store [is gone](Error::is_gone), the
/// keys that were not sent fail with the same error, marked as [not applied](Error::not_applied).
pub async fn read_chunks<'a, F>(
    keys: &'a [Key],
    size: usize,
    limit: usize,
    read: impl Fn(&'a [Key]) -> F,
) -> Vec<Result<Option<Record>>>
where
    F: Future<Output = Result<HashMap<String, Result<Record>>>>,
{
    let answers = side_by_side(keys.chunks(size).map(read), limit).await;
    let results = keys.chunks(size).zip(answers).flat_map(|(chunk, answer)| match answer {
        Ok(found) => chunk.iter().map(|key| found.get(key.as_str()).cloned().transpose()).collect(),
        Err(error) => vec![Err(error); chunk.len()],
    });
    results.collect()
}

/// Runs calls concurrently, at most `limit` at once. Returns their results in the order of the calls. Once
/// the store [is gone](Error::is_gone), the calls that have not begun fail with the same error, marked as
/// [not applied](Error::not_applied).
pub async fn side_by_side<T>(
    calls: impl IntoIterator<Item = impl Future<Output = Result<T>>>,
    limit: usize,
) -> Vec<Result<T>> {
    let gone = &OnceLock::new();
    let permits = &Semaphore::new(limit.min(Semaphore::MAX_PERMITS));
    let calls = calls.into_iter().map(|call| async move {
        let _permit = permits.acquire().await;
        if let Some(error) = gone.get() {
            return Err(Error::clone(error));
        }
        let result = call.await;
        if let Some(error) = result.as_ref().err().and_then(Error::unsent) {
            gone.get_or_init(|| error);
        }
        result
    });
    join_all(calls).await
}

#[cfg(test)]
mod tests {
    use larder_core::Expiry;

    use super::*;

    const LIMITS: Limits = Limits { entries: 3, bytes: 10 };

    fn put(key: &str, value: &'static str) -> Change {
        Change::put(Key::new(key).unwrap(), value, Expiry::Never)
    }

    fn keys(round: &Round) -> String {
        round.changes().iter().map(|change| change.key.as_str()).collect()
    }

    /// Returns the keys of each round. All changes succeed.
    fn rounds(changes: Vec<Change>) -> Vec<String> {
        let mut batch = Batch::new(changes, LIMITS);
        let mut rounds = Vec::new();
        while let Some(round) = batch.next_round() {
            rounds.push(keys(&round));
            let results = round.changes().iter().map(|_| Ok(Applied::Put(Written::default()))).collect();
            batch.done(round, Ok(results));
        }
        assert!(batch.into_results().iter().all(Result::is_ok));
        rounds
    }

    #[test]
    fn rounds_are_within_the_limits() {
        assert_eq!(
            rounds("abcdefg".chars().map(|key| put(&key.to_string(), "")).collect()),
            ["abc", "def", "g"]
        );
        assert_eq!(rounds(vec![put("a", "1234"), put("b", "1234"), put("c", "")]), ["ab", "c"]);
        assert_eq!(
            rounds(vec![put("a", ""), put("b", "larger than a round"), put("c", "")]),
            ["a", "b", "c"]
        );
        assert!(rounds(vec![]).is_empty());
    }

    #[test]
    fn changes_of_one_key_keep_their_order() {
        let on = |key: &str| put(key, "").on(Condition::Present);
        assert_eq!(rounds(vec![on("a"), on("a"), put("b", ""), on("a")]), ["ab", "a", "a"]);
        let delete = Change::delete(Key::new("a").unwrap());
        assert_eq!(rounds(vec![put("a", "1"), delete, put("a", "2"), put("a", "3")]), ["a", "a", "a"]);
    }

    #[test]
    fn the_last_of_several_puts_is_sent_and_the_one_before_it_after_a_rejection() {
        let changes = vec![put("a", "1"), put("b", ""), put("a", "2"), put("a", "3")];
        let mut batch = Batch::new(changes, Limits { entries: 9, bytes: 99 });
        let values = |round: &Round| -> Vec<Change> { round.changes().to_vec() };
        let round = batch.next_round().unwrap();
        assert_eq!(values(&round), [put("a", "3"), put("b", "")]);
        let written = || Ok(Applied::Put(Written::at(Version::unique())));
        batch.done(round, Ok(vec![Err(Error::new(ErrorKind::InvalidValue, "no")), written()]));
        let round = batch.next_round().unwrap();
        assert_eq!(values(&round), [put("a", "2")]);
        batch.done(round, Ok(vec![written()]));
        assert!(batch.next_round().is_none());
        let results = batch.into_results();
        let versions: Vec<_> = results.into_iter().map(|result| result.ok().map(Applied::written)).collect();
        assert!(versions[0] != versions[2] && versions[..3].iter().all(Option::is_some));
        assert_eq!(versions[3], None);
    }

    #[test]
    fn a_replaced_put_is_not_applied_if_the_store_is_gone() {
        let mut batch = Batch::new(vec![put("a", "1"), put("a", "2")], LIMITS);
        let round = batch.next_round().unwrap();
        batch.done(round, Err(Error::new(ErrorKind::Timeout, "gone")));
        assert!(batch.next_round().is_none());
        let outcomes: Vec<_> = batch.into_results().into_iter().map(|r| r.unwrap_err().outcome()).collect();
        assert_eq!(outcomes, [Outcome::NotApplied, Outcome::Unknown]);
    }

    #[test]
    fn each_change_has_its_own_result() {
        let on = || put("a", "").on(Condition::Present);
        let changes = vec![on(), put("b", "no"), on(), put("c", "")];
        let check = |change: &Change| match &change.action {
            Action::Put(value, _) if value == "no" => Err(Error::new(ErrorKind::InvalidValue, "no")),
            _ => Ok(()),
        };
        let mut batch = Batch::checked(changes, LIMITS, check);
        let round = batch.next_round().unwrap();
        assert_eq!(keys(&round), "ac");
        batch.done(round, Ok(vec![Err(Error::conflict()), Ok(Applied::Deleted(true))]));
        let round = batch.next_round().unwrap();
        batch.done(round, Ok(vec![Ok(Applied::Touched(false))]));
        assert!(batch.next_round().is_none());
        let results = batch.into_results();
        let kinds: Vec<_> = results.iter().map(|result| result.as_ref().map_err(Error::kind)).collect();
        assert_eq!(kinds[0], Err(ErrorKind::Conflict));
        assert_eq!(kinds[1], Err(ErrorKind::InvalidValue));
        assert_eq!(kinds[2], Ok(&Applied::Touched(false)));
        assert_eq!(kinds[3], Ok(&Applied::Deleted(true)));
    }

    #[test]
    fn no_more_rounds_are_sent_once_the_store_is_gone() {
        let changes = || "abcde".chars().map(|key| put(&key.to_string(), "")).collect();
        let gone = || Error::new(ErrorKind::Unavailable, "gone");
        for outcome in [Err(gone()), Ok(vec![Ok(Applied::Deleted(true)), Err(gone()), Err(gone())])] {
            let mut batch = Batch::new(changes(), LIMITS);
            let round = batch.next_round().unwrap();
            batch.done(round, outcome);
            assert!(batch.next_round().is_none());
            let results = batch.into_results();
            let outcomes: Vec<_> =
                results.iter().skip(1).map(|r| r.as_ref().unwrap_err().outcome()).collect();
            assert_eq!(
                outcomes,
                [Outcome::Unknown, Outcome::Unknown, Outcome::NotApplied, Outcome::NotApplied]
            );
        }
    }

    #[tokio::test]
    async fn no_more_calls_begin_once_the_store_is_gone() {
        let call = |number: usize| async move {
            // The first call finishes after the second one.
            if number == 0 {
                tokio::task::yield_now().await;
            }
            if number == 2 { Err(Error::new(ErrorKind::Unavailable, "gone")) } else { Ok(number) }
        };
        let results = side_by_side((0..6).map(call), 2).await;
        let outcomes: Vec<_> = results.iter().map(|result| result.as_ref().map_err(Error::outcome)).collect();
        assert_eq!(outcomes[..3], [Ok(&0), Ok(&1), Err(Outcome::Unknown)]);
        assert_eq!(outcomes[5], Err(Outcome::NotApplied));
    }

    #[tokio::test]
    async fn each_key_has_its_own_result() {
        let keys: Vec<_> = "abcba".chars().map(|key| Key::new(key.to_string()).unwrap()).collect();
        let read = |chunk: &[Key]| {
            let names: String = chunk.iter().map(Key::as_str).collect();
            std::future::ready(Ok(match names.as_str() {
                "ab" => HashMap::from([("a".to_owned(), Ok(Record::new("1".into())))]),
                "cb" => HashMap::from([("c".to_owned(), Err(Error::new(ErrorKind::Corrupt, "no")))]),
                _ => HashMap::new(),
            }))
        };
        let results = read_chunks(&keys, 2, 1, read).await;
        let found: Vec<_> = results.iter().map(|r| r.as_ref().map_or(2, |r| u8::from(r.is_some()))).collect();
        assert_eq!(found, [1, 0, 2, 0, 0]);
        for (kind, outcomes) in [
            (
                ErrorKind::Timeout,
                [Outcome::Unknown, Outcome::Unknown, Outcome::NotApplied, Outcome::NotApplied],
            ),
            (ErrorKind::Other, [Outcome::Unknown; 4]),
        ] {
            let results =
                read_chunks(&keys[..4], 2, 1, |_| std::future::ready(Err(Error::new(kind, "no")))).await;
            let seen: Vec<_> = results.iter().map(|r| r.as_ref().unwrap_err().outcome()).collect();
            assert_eq!(seen, outcomes);
        }
    }

    #[test]
    fn another_failure_of_a_round_does_not_stop_the_batch() {
        let mut batch = Batch::new("abcd".chars().map(|key| put(&key.to_string(), "")).collect(), LIMITS);
        let round = batch.next_round().unwrap();
        batch.done(round, Err(Error::new(ErrorKind::StorageFull, "no room")));
        assert_eq!(keys(&batch.next_round().unwrap()), "d");
    }
}
