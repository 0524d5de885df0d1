//! The requests and acknowledgements of a load, and the states that they allow after a power cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

/// The state of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Absent,
    Present(Content),
}

/// The value of an entry, and its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// The number of the write.
    pub(crate) serial: u64,
    /// The length of the random part of the value.
    pub(crate) size: usize,
    /// The time to live in days, rounded up; 0 if the entry does not expire.
    pub(crate) days: u64,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("-"),
            Self::Present(Content { serial, size, days }) => write!(f, "{serial} {size} {days}"),
        }
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || format!("`{text}` is not the state of a key");
        if text == "-" {
            return Ok(Self::Absent);
        }
        let mut words = text.split(' ');
        let mut number = || words.next().and_then(|word| word.parse().ok()).ok_or_else(malformed);
        let (serial, size, days) = (number()?, number()?, number()?);
        let size = usize::try_from(size).map_err(|_| malformed())?;
        Ok(Self::Present(Content { serial, size, days }))
    }
}

/// An event of a load. Each key has one writer, which makes one request after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The writer is about to give the key this state.
    Requested(String, State),
    /// The requests of the key so far are made, and survive a power cut.
    Acknowledged(String),
    /// The power is cut for this time. A later cut of the same number replaces it.
    Cut(usize),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested(key, state) => write!(f, "request {key} {state}"),
            Self::Acknowledged(key) => write!(f, "acknowledged {key}"),
            Self::Cut(number) => write!(f, "cut {number}"),
        }
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let malformed = || format!("`{line}` is not an event");
        let (kind, rest) = line.split_once(' ').ok_or_else(malformed)?;
        match kind {
            "request" => {
                let (key, state) = rest.split_once(' ').ok_or_else(malformed)?;
                Ok(Self::Requested(key.into(), state.parse()?))
            }
            "acknowledged" => Ok(Self::Acknowledged(rest.into())),
            "cut" => rest.parse().map(Self::Cut).map_err(|_| malformed()),
            _ => Err(malformed()),
        }
    }
}

/// The events of a load in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Vec<Event>);

/// The result of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// The keys whose state was acknowledged, and those that have it or a later one.
    pub(crate) acknowledged: usize,
    /// The keys with a request under way that has not taken effect.
    pub(crate) old: usize,
    /// The keys with a request under way that has taken effect.
    pub(crate) new: usize,
    /// The keys in a state that the events do not allow.
    pub(crate) lost: Vec<String>,
}

impl History {
    pub(crate) fn push(&mut self, event: Event) {
        self.0.push(event);
    }

    /// Returns the number of events before a cut.
    pub(crate) fn before(&self, cut: usize) -> Result<usize, String> {
        let position = self.0.iter().rposition(|event| *event == Event::Cut(cut));
        position.ok_or_else(|| format!("cut {cut} is not among the events"))
    }

    /// The keys of all requests.
    pub(crate) fn keys(&self) -> BTreeSet<&str> {
        let requested = self.0.iter().filter_map(|event| match event {
            Event::Requested(key, _) => Some(key.as_str()),
            Event::Acknowledged(_) | Event::Cut(_) => None,
        });
        requested.collect()
    }

    /// Compares the states that were found after a power cut with the events. `before` is the number of events before
    /// the cut. A change that was requested after it cannot be found.
    pub(crate) fn compare(&self, before: usize, found: &BTreeMap<String, State>) -> Comparison {
        let mut possible: BTreeMap<&str, Possible> = BTreeMap::new();
        for event in &self.0[..before] {
            match event {
                Event::Requested(key, state) => {
                    let possible = possible.entry(key).or_default();
                    possible.states.push(*state);
                    possible.under_way = true;
                }
                Event::Acknowledged(key) => {
                    let possible = possible.entry(key).or_default();
                    // Only the last of the states remains.
                    let keep = possible.states.len().saturating_sub(1);
                    possible.states.drain(..keep);
                    possible.acknowledged = true;
                    possible.under_way = false;
                }
                Event::Cut(_) => {}
            }
        }
        let mut comparison = Comparison::default();
        for (key, possible) in &possible {
            let found = found.get(*key).unwrap_or(&State::Absent);
            if !possible.states.contains(found) {
                let states: Vec<_> = possible.states.iter().map(ToString::to_string).collect();
                comparison.lost.push(format!("{key} is `{found}`, and not `{}`", states.join("` or `")));
                continue;
            }
            comparison.acknowledged += usize::from(possible.acknowledged);
            if possible.under_way {
                let taken = possible.states[0] != *found;
                comparison.new += usize::from(taken);
                comparison.old += usize::from(!taken);
            }
        }
        let unknown = found.keys().filter(|key| !possible.contains_key(key.as_str()));
        comparison.lost.extend(unknown.map(|key| format!("{key} was not requested before the cut")));
        comparison
    }
}

/// The states that a key may have.
struct Possible {
    /// The last acknowledged state, and the later ones.
    states: Vec<State>,
    acknowledged: bool,
    /// Whether a request before the cut was not acknowledged.
    under_way: bool,
}

impl Default for Possible {
    fn default() -> Self {
        Self { states: vec![State::Absent], acknowledged: false, under_way: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: State = State::Present(Content { serial: 1, size: 10, days: 0 });
    const TOUCHED: State = State::Present(Content { serial: 1, size: 10, days: 2 });
    const SECOND: State = State::Present(Content { serial: 2, size: 9000, days: 1 });

    fn requested(state: State) -> Event {
        Event::Requested("k".into(), state)
    }

    fn acknowledged() -> Event {
        Event::Acknowledged("k".into())
    }

    fn compare(events: &[Event], before: usize, found: State) -> Comparison {
        let mut history = History::default();
        events.iter().for_each(|event| history.push(event.clone()));
        let found = match found {
            State::Absent => BTreeMap::new(),
            State::Present(_) => BTreeMap::from([("k".into(), found)]),
        };
        history.compare(before, &found)
    }

    /// The states that are allowed if the cut comes after `before` of the events.
    fn allowed(events: &[Event], before: usize) -> Vec<State> {
        let states = [State::Absent, FIRST, TOUCHED, SECOND];
        states.into_iter().filter(|found| compare(events, before, *found).lost.is_empty()).collect()
    }

    #[test]
    fn an_event_is_read_as_it_was_written() {
        for event in [requested(State::Absent), requested(SECOND), acknowledged(), Event::Cut(3)] {
            assert_eq!(event.to_string().parse(), Ok(event));
        }
        for line in ["", "request", "request k", "request k 1 2", "request k x", "cut", "cut k", "other k -"]
        {
            line.parse::<Event>().unwrap_err();
        }
    }

    #[test]
    fn an_acknowledged_change_is_not_undone() {
        let events = [
            requested(FIRST),
            acknowledged(),
            requested(TOUCHED),
            acknowledged(),
            requested(State::Absent),
            acknowledged(),
        ];
        assert_eq!(allowed(&events[..2], 2), [FIRST]);
        assert_eq!(allowed(&events[..4], 4), [TOUCHED]);
        assert_eq!(allowed(&events, 6), [State::Absent]);
    }

    #[test]
    fn a_change_under_way_has_happened_or_not() {
        let events = [requested(FIRST), acknowledged(), requested(SECOND), acknowledged()];
        assert_eq!(allowed(&events[..1], 1), [State::Absent, FIRST]);
        assert_eq!(allowed(&events[..3], 3), [FIRST, SECOND]);
        let old = compare(&events[..3], 3, FIRST);
        assert_eq!((old.acknowledged, old.old, old.new), (1, 1, 0));
        let new = compare(&events[..3], 3, SECOND);
        assert_eq!((new.acknowledged, new.old, new.new), (1, 0, 1));
    }

    #[test]
    fn events_after_the_cut_promise_and_explain_nothing() {
        let events = [requested(FIRST), acknowledged(), requested(SECOND), acknowledged()];
        assert_eq!(allowed(&events, 0), [State::Absent]);
        assert_eq!(allowed(&events, 1), [State::Absent, FIRST]);
        assert_eq!(allowed(&events, 2), [FIRST]);
        assert_eq!(allowed(&events, 3), [FIRST, SECOND]);
        assert_eq!(allowed(&events, 4), [SECOND]);
    }

    #[test]
    fn a_later_deletion_does_not_explain_a_lost_creation() {
        let events = [requested(FIRST), acknowledged(), requested(State::Absent), acknowledged()];
        assert_eq!(compare(&events, 2, State::Absent).lost, [format!("k is `-`, and not `{FIRST}`")]);
    }

    #[test]
    fn the_last_cut_of_a_number_counts() {
        let events = [Event::Cut(1), requested(FIRST), Event::Cut(2), acknowledged(), Event::Cut(1)];
        let history = History(events.into());
        assert_eq!((history.before(1), history.before(2)), (Ok(4), Ok(2)));
        history.before(3).unwrap_err();
    }

    #[test]
    fn an_acknowledgement_covers_all_requests_before_it() {
        let events = [requested(FIRST), requested(TOUCHED), requested(SECOND), acknowledged()];
        assert_eq!(allowed(&events, 3), [State::Absent, FIRST, TOUCHED, SECOND]);
        assert_eq!(allowed(&events, 4), [SECOND]);
    }

    #[test]
    fn an_entry_without_a_request_is_reported() {
        let found = BTreeMap::from([("other".into(), FIRST)]);
        assert_eq!(History::default().compare(0, &found).lost, ["other was not requested before the cut"]);
    }
}
