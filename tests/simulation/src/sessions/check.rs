//! The promises. Each effect of the store is checked at once: either every key still leads to the same session, or the
//! change is that of a call, which may make it now, and once.

use std::sync::Arc;

use larder_core::{Error, ErrorKind, Key};

use super::{
    options::{Fault, Life, Options},
    stored::{Carried, Chat, NAMES, PREFIX, Stored},
    world::{Entry, ProcessId, RequestId, State, is_not_applied},
};

pub(crate) type CallId = usize;

/// What has an effect: a request of a process.
type Cause = (ProcessId, RequestId);

/// The owners of sessions.
pub(crate) const OWNERS: [&str; 2] = ["ann", "bob"];

/// The longest chain of redirects that is followed.
const MAX_HOPS: usize = 32;

/// What a call requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Adds the number of the call to the session, and changes its owner (`Some(None)`: to none).
    Update {
        key: usize,
        owner: Option<Option<&'static str>>,
    },
    Set {
        key: usize,
        owner: Option<&'static str>,
    },
    Get {
        key: usize,
    },
    Delete {
        key: usize,
    },
    Move {
        from: usize,
        to: usize,
    },
    Revoke {
        owner: &'static str,
        /// The key of the session that stays.
        except: Option<usize>,
    },
    SessionsOf {
        owner: &'static str,
    },
    /// A call of the leases.
    Lease,
}

/// What its caller was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Done,
    NotApplied,
    /// Also a caller that is gone.
    Unknown,
}

struct Call {
    process: ProcessId,
    kind: Kind,
    /// The number of the event.
    started: u64,
    /// The time in milliseconds.
    began: u64,
    /// The number of requests that were made before.
    made_before: usize,
    /// That when its caller was told, or was gone.
    made_then: Option<usize>,
    told: Option<Told>,
    /// The times of its effects, in milliseconds.
    effects: Vec<u64>,
    runs: usize,
    /// The session may have ended when it was saved.
    ended: bool,
}

/// What a key leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    chat: Option<Arc<Chat>>,
    /// Whether the session has expired by the store's clock, but perhaps not by the clock of each process.
    fading: bool,
    /// The key of the entry that has the session, or would have it.
    site: usize,
}

pub(crate) struct Checks {
    keys: Vec<Key>,
    /// The buckets of each owner for each key.
    buckets: Vec<Vec<Key>>,
    views: Vec<View>,
    /// All views, each with the number of the event from which it is valid.
    history: Vec<(u64, Vec<View>)>,
    calls: Vec<Call>,
    /// The greatest token that was handed out, per key.
    tokens: Vec<u64>,
    /// The leases in the hands of their holders: process, key and token.
    leases: Vec<(ProcessId, usize, u64)>,
    /// Whether the last entry of a lease has expired, per key.
    lease_expired: Vec<bool>,
}

impl Checks {
    pub(crate) fn new(options: &Options) -> Self {
        let key = |text: String| Key::new(text).unwrap_or_else(|error| unreachable!("{error}"));
        let keys: Vec<Key> =
            NAMES.iter().take(options.keys).map(|name| key(format!("{PREFIX}{name}"))).collect();
        let bucket = |owner: &str, session: &Key| {
            let fingerprint = session.fingerprint();
            key(format!("larder:owner:s%3A:{owner}:{}", &fingerprint[fingerprint.len() - 1..]))
        };
        let buckets =
            OWNERS.iter().map(|owner| keys.iter().map(|key| bucket(owner, key)).collect()).collect();
        let views: Vec<View> = (0..keys.len()).map(|site| View { chat: None, fading: false, site }).collect();
        Self {
            buckets,
            history: vec![(0, views.clone())],
            views,
            calls: Vec::new(),
            tokens: vec![0; keys.len()],
            leases: Vec::new(),
            lease_expired: vec![false; keys.len()],
            keys,
        }
    }

    /// The views since a moment, the first of which was valid then.
    fn since(&self, started: u64) -> impl Iterator<Item = &Vec<View>> {
        let first = self.history.iter().rposition(|(at, _)| *at <= started).unwrap_or(0);
        self.history[first..].iter().map(|(_, views)| views)
    }

    fn open(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| call.told.is_none())
    }

    fn moves(&self) -> impl Iterator<Item = (usize, usize)> {
        self.calls.iter().filter_map(|call| match call.kind {
            Kind::Move { from, to } => Some((from, to)),
            _ => None,
        })
    }
}

impl State {
    // Calls.

    pub(crate) fn call(&mut self, process: ProcessId, kind: Kind) -> CallId {
        let id = self.checks.calls.len();
        self.event(&format!("process {process} calls {id}: {kind:?}"));
        if matches!(kind, Kind::Move { .. })
            && self.checks.open().any(|open| matches!(open.kind, Kind::Move { .. }))
        {
            self.count(Fault::MovesSideBySide);
        }
        if let Kind::Revoke { owner, .. } = kind
            && self.checks.views.iter().any(|view| view.is_of(owner))
        {
            self.count(Fault::Revoked);
        }
        let (started, began, made_before) = (self.log.len(), self.millis(), self.made());
        self.checks.calls.push(Call {
            process,
            kind,
            started,
            began,
            made_before,
            made_then: None,
            told: None,
            effects: Vec::new(),
            runs: 0,
            ended: false,
        });
        id
    }

    /// The handler of an update runs.
    pub(crate) fn runs(&mut self, call: CallId) {
        self.checks.calls[call].runs += 1;
        if self.checks.calls[call].runs == 2 {
            self.count(Fault::RanAgain);
        }
    }

    /// The caller has got an error.
    pub(crate) fn failed(&mut self, call: CallId, error: &Error) {
        if error.kind() == ErrorKind::Conflict && matches!(self.checks.calls[call].kind, Kind::Update { .. })
        {
            self.count(Fault::ConflictAnswered);
        }
        if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Codec | ErrorKind::Other) {
            self.broken(format!("call {call} failed: {error}"));
        }
        let told = if is_not_applied(error) { Told::NotApplied } else { Told::Unknown };
        self.told(call, told);
    }

    /// The caller has got an answer, or is gone.
    pub(crate) fn told(&mut self, call: CallId, told: Told) {
        self.event(&format!("call {call} is told {told:?}"));
        let Call { kind, effects, ended, .. } = &self.checks.calls[call];
        let (effects, kind, ended) = (effects.len(), kind.clone(), *ended);
        match (&told, &kind) {
            (Told::Done, Kind::Update { .. } | Kind::Set { .. }) if effects == 0 && !ended => {
                self.broken(format!("update {call} was acknowledged before it was written"));
            }
            (Told::NotApplied, Kind::Update { .. } | Kind::Set { .. }) if effects > 0 => {
                self.broken(format!("update {call} was refused, but was written"));
            }
            (Told::Done, Kind::Delete { key }) if !self.seen(call, |views| views[*key].chat.is_none()) => {
                self.broken(format!("deletion {call} was acknowledged, but the session was never gone"));
            }
            (Told::Done, Kind::Move { from, to }) => {
                let unfinished = |(id, other): (usize, &Call)| {
                    id != call && matches!(other.kind, Kind::Move { .. }) && other.told != Some(Told::Done)
                };
                let others = self.checks.calls.iter().enumerate().any(unfinished);
                let views = &self.checks.views;
                if views[*from].site != views[*to].site && !others {
                    self.broken(format!(
                        "move {call} was acknowledged, but the keys lead to different sessions"
                    ));
                }
            }
            (Told::Done, Kind::Revoke { owner, except }) => self.check_revoked(call, owner, *except),
            _ => {}
        }
        if effects > 0 && told == Told::Unknown {
            self.count(Fault::WrittenUnknown);
        }
        let made_then = Some(self.made());
        let call = &mut self.checks.calls[call];
        (call.told, call.made_then) = (Some(told), made_then);
    }

    /// A read has returned a session.
    pub(crate) fn got(&mut self, call: CallId, chat: Option<&Chat>) {
        let Kind::Get { key } = self.checks.calls[call].kind else { return };
        self.event(&format!("call {call} got {chat:?}"));
        let fits = |views: &[View]| {
            let view = &views[key];
            view.chat.as_deref() == chat || chat.is_none() && view.fading
        };
        if !self.seen(call, fits) {
            self.broken(format!(
                "read {call} returned a session that was not at the key in that time: {chat:?}"
            ));
        }
        self.told(call, Told::Done);
    }

    /// The sessions of an owner were listed.
    pub(crate) fn listed(&mut self, call: CallId, keys: &[String]) {
        let Kind::SessionsOf { owner } = self.checks.calls[call].kind else { return };
        self.event(&format!("call {call} listed {keys:?}"));
        let listed = |key: usize| keys.iter().any(|listed| listed == NAMES[key]);
        let mut wrong = Vec::new();
        for key in 0..self.checks.keys.len() {
            let view = |views: &[View]| views[key].clone();
            let first = &self.checks.views[key];
            let stays = |views: &Vec<View>| {
                let view = view(views);
                view.site == key && view.is_of(owner) && !view.fading && view.born() == first.born()
            };
            let started = self.checks.calls[call].started;
            // At this key in all that time, without a move.
            let moved = self.checks.moves().any(|(from, to)| from == key || to == key);
            if !moved && self.checks.since(started).all(stays) && !listed(key) {
                wrong.push(format!("listing {call} misses a session of {owner}"));
            }
            if listed(key) && !self.checks.since(started).any(|views| view(views).is_of(owner)) {
                wrong.push(format!("listing {call} has a session that was not of {owner}"));
            }
        }
        wrong.into_iter().for_each(|wrong| self.broken(wrong));
        self.told(call, Told::Done);
    }

    /// Whether the views since the start of the call were once as expected.
    fn seen(&self, call: CallId, expected: impl Fn(&[View]) -> bool) -> bool {
        let started = self.checks.calls[call].started;
        self.checks.since(started).any(|views| expected(views))
    }

    fn check_revoked(&mut self, call: CallId, owner: &'static str, except: Option<usize>) {
        let started = self.checks.calls[call].started;
        let before = self.checks.since(started).next().cloned().unwrap_or_default();
        let kept = except.map(|key| before[key].site);
        for view in before.iter().filter(|view| view.is_of(owner) && Some(view.site) != kept) {
            let Some(born) = view.born() else { continue };
            let theirs = |view: &View| {
                view.is_of(owner) && view.chat.as_ref().is_some_and(|chat| chat.updates.contains(&born))
            };
            // With `except`, the session may have moved to that key.
            let excepted = |views: &[View]| except.is_some_and(|key| theirs(&views[key]));
            if !self.seen(call, |views| !views.iter().any(theirs) || excepted(views)) {
                self.broken(format!(
                    "revocation {call} of {owner} was acknowledged, but left session {born}"
                ));
            }
        }
    }

    // Effects.

    /// An entry has expired.
    pub(crate) fn expired(&mut self, key: &Key, entry: Option<Entry>) {
        match entry.map(|entry| entry.stored) {
            Some(Stored::Held { .. }) => {
                self.count(Fault::LeaseExpired);
                if let Some(key) = lease_of(key) {
                    self.checks.lease_expired[key] = true;
                }
            }
            Some(Stored::Redirect { .. } | Stored::Incoming { .. } | Stored::Moving { .. }) => {
                self.broken(format!("the marker of a move expired at {key}"));
            }
            Some(Stored::Other) if key.as_str().starts_with("larder:move:") => {
                let timer = |data: &Option<Carried>| {
                    data.as_ref().is_some_and(|data| data.timer.as_deref() == Some(key.as_str()))
                };
                let used = |entry: &Entry| match &entry.stored {
                    Stored::Incoming { own: data, .. } | Stored::Moving { data, .. } => timer(data),
                    _ => false,
                };
                if self.entries.values().any(used) {
                    self.count(Fault::TimerExpired);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn touched(&mut self, key: &Key) {
        if self.checks.keys.contains(key) {
            self.count(Fault::Touched);
        }
    }

    /// An entry is about to be replaced or deleted.
    pub(crate) fn replaced(&mut self, key: &Key, by: Option<&Stored>) {
        let was = self.entries.get(key).map(|entry| &entry.stored);
        let moves = matches!(by, Some(Stored::Incoming { .. } | Stored::Moving { .. }));
        if matches!(was, Some(Stored::Incoming { .. })) && !moves {
            self.count(Fault::MoveUndone);
        }
    }

    /// Looks at what the keys lead to, after an effect of a process or after time has passed.
    pub(crate) fn refresh(&mut self, cause: Option<Cause>) {
        let new: Vec<View> = (0..self.checks.keys.len()).map(|key| self.view(key)).collect();
        if new != self.checks.views {
            let old = std::mem::replace(&mut self.checks.views, new.clone());
            self.explain(&old, &new, cause);
            self.checks.history.push((self.log.len(), new));
        }
        if cause.is_some() {
            self.check_copies();
            self.check_deadlines();
            self.check_index();
        }
    }

    /// No two keys have copies of one session. An expired one may still be in a marker.
    fn check_copies(&mut self) {
        let lasting = || self.checks.views.iter().filter(|view| view.chat.is_some() && !view.fading);
        let copied = |one: &&View| lasting().any(|other| one.chat == other.chat && one.site != other.site);
        if let Some(chat) = lasting().find(copied).map(|view| view.chat.clone()) {
            self.broken(format!("a session is at two keys: {chat:?}"));
        }
    }

    fn stored(&self, key: usize) -> Option<&Stored> {
        self.entries.get(&self.checks.keys[key]).map(|entry| &entry.stored)
    }

    fn number(&self, key: &str) -> Option<usize> {
        self.checks.keys.iter().position(|known| known.as_str() == key)
    }

    /// Returns what a key leads to, by the documented meaning of the markers.
    fn view(&self, key: usize) -> View {
        let mut site = key;
        for _ in 0..MAX_HOPS {
            let (to, data) = match self.stored(site) {
                Some(Stored::Session(chat)) => {
                    return View { chat: Some(Arc::clone(chat)), fading: false, site };
                }
                Some(Stored::Redirect { to }) => (self.number(to), None),
                Some(Stored::Incoming { from, own: None, .. }) => (self.number(from), None),
                Some(Stored::Incoming { own: Some(own), .. }) => (None, Some(own)),
                Some(Stored::Moving { to, trip, data, .. }) => match self.number(to) {
                    Some(to) if to != site && self.has_arrived(to, trip) => (Some(to), None),
                    _ => (None, data.as_ref()),
                },
                _ => (None, None),
            };
            match to {
                Some(to) => site = to,
                None => return self.carried(data, site),
            }
        }
        View { chat: None, fading: false, site }
    }

    fn has_arrived(&self, to: usize, trip: &str) -> bool {
        matches!(
            self.stored(to),
            Some(Stored::Moving { to: own, trip: arrived, .. })
                if arrived == trip && self.number(own) == Some(to)
        )
    }

    /// The session in a marker lives until its timer has expired and its recorded end has passed, by the clock of the
    /// process that looks. A process that has seen it before can still restore it, for the time that it had left then.
    fn carried(&self, data: Option<&Carried>, site: usize) -> View {
        let gone = View { chat: None, fading: false, site };
        let Some(Carried { chat, timer, until }) = data else { return gone };
        let chat = Some(Arc::clone(chat));
        let (Some(timer), Some(until)) = (timer, until) else { return View { chat, ..gone } };
        if self.entries.keys().any(|key| key.as_str() == timer) {
            return View { chat, ..gone };
        }
        let slowest = State::wall(self.millis()) - 2 * self.options.skew;
        let slowest = slowest - i64::try_from(self.options.longest_request() / 1_000).unwrap_or(i64::MAX);
        if *until > slowest { View { chat, fading: true, site } } else { gone }
    }

    fn explain(&mut self, old: &[View], new: &[View], cause: Option<Cause>) {
        let changed: Vec<usize> = (0..old.len()).filter(|key| old[*key].chat != new[*key].chat).collect();
        let Some(&first) = changed.first() else { return };
        let after = new[first].chat.clone();
        if changed.iter().any(|key| new[*key].chat != after) {
            self.broken("one effect left two keys with different sessions".to_owned());
            return;
        }
        match after {
            None => {
                for key in changed.clone() {
                    if let Some(chat) = &old[key].chat {
                        self.explain_loss(key, &changed, chat, old, new, cause);
                    }
                }
            }
            Some(after) => self.explain_write(&changed, &after, old, new, cause),
        }
    }

    fn explain_loss(
        &mut self,
        key: usize,
        changed: &[usize],
        chat: &Chat,
        old: &[View],
        new: &[View],
        cause: Option<Cause>,
    ) {
        if cause.is_none() || old[key].fading {
            self.count(Fault::SessionExpired);
            let open =
                |call: &Call| matches!(call.kind, Kind::Update { key: of, .. } if changed.contains(&of));
            if self.checks.open().any(open) {
                self.count(Fault::ExpiredDuringCall);
            }
            if !self.may_expire(chat) {
                self.broken(format!("a session expired before its lifetime: {chat:?}"));
            }
            return;
        }
        let stays = new.iter().any(|view| view.chat.as_deref() == Some(chat));
        let moving = self.checks.moves().any(|(from, to)| changed.contains(&to) || changed.contains(&from));
        if stays && moving {
            return;
        }
        // A save of a session whose absolute end has passed, by the clock of its process, deletes it.
        if matches!(self.options.life, Life::Both(..)) && self.may_expire(chat) {
            for call in self.checks.calls.iter_mut().filter(|call| call.may_have_made(cause)) {
                call.ended |= matches!(call.kind, Kind::Update { key, .. } if changed.contains(&key));
            }
            return;
        }
        let most = self.options.most;
        let owner = chat.owner.as_deref();
        let deletes = |call: &&mut Call| {
            call.may_have_made(cause)
                && match call.kind {
                    Kind::Delete { key } => changed.contains(&key) && call.may_write(),
                    Kind::Revoke { owner: of, .. } => owner == Some(of) && call.may_write(),
                    // A limit.
                    Kind::Update { owner: Some(Some(of)), .. } | Kind::Set { owner: Some(of), .. } => {
                        most.is_some() && owner == Some(of)
                    }
                    _ => false,
                }
        };
        let mut limited = false;
        let known = self.checks.calls.iter_mut().rev().find(deletes);
        let found = known.is_some();
        if let Some(call) = known {
            limited = matches!(call.kind, Kind::Update { .. } | Kind::Set { .. });
        }
        if limited {
            self.count(Fault::Limited);
        }
        if !found {
            self.broken(format!("a session was lost: {chat:?}"));
        }
    }

    /// Whether the lifetime of a session has elapsed. Only the absolute end is counted by the clocks of the processes.
    fn may_expire(&self, chat: &Chat) -> bool {
        let now = self.millis();
        let calls = || {
            let call = |update: &u64| self.checks.calls.get(usize::try_from(*update).ok()?);
            chat.updates.iter().filter_map(call)
        };
        let millis = |units: u64| self.options.units(units) / 1_000;
        let written = calls().filter_map(|call| call.effects.first()).max();
        let idle = |life: u64| written.is_some_and(|written| now - written >= millis(life));
        match self.options.life {
            Life::Forever => false,
            Life::AfterWrite(life) | Life::Sliding(life) => idle(life),
            Life::Both(life, most) => {
                let skew = u64::try_from(2 * self.options.skew).unwrap_or(0);
                // The end is decided before the session is written.
                idle(life) || calls().any(|call| now - call.began + skew >= millis(most))
            }
        }
    }

    fn explain_write(
        &mut self,
        changed: &[usize],
        after: &Chat,
        old: &[View],
        new: &[View],
        cause: Option<Cause>,
    ) {
        let Some((process, _)) = cause else {
            self.broken(format!("a session has come back by itself: {after:?}"));
            return;
        };
        let mut before: Vec<&Arc<Chat>> = Vec::new();
        for chat in changed.iter().filter_map(|key| old[*key].chat.as_ref()) {
            if !before.contains(&chat) {
                before.push(chat);
            }
        }
        let fading = changed.iter().any(|key| old[*key].fading);
        // A key without a session now leads to one that exists.
        let joined = old.iter().any(|view| view.chat.as_deref() == Some(after));
        if joined && (before.is_empty() || fading) {
            let moved =
                self.checks.moves().any(|(from, to)| changed.contains(&from) || changed.contains(&to));
            if moved {
                self.count(Fault::Moved);
            } else {
                self.broken(format!("a session was seen by another key: {after:?}"));
            }
            return;
        }
        if self.is_merge(after, &before) {
            self.count(Fault::Merged);
            return;
        }
        let Some(id) = after.updates.last().and_then(|id| usize::try_from(*id).ok()) else {
            self.broken(format!("a session without updates was written: {after:?}"));
            return;
        };
        let Some(call) = self.checks.calls.get(id) else {
            self.broken(format!("a session has an unknown update: {after:?}"));
            return;
        };
        let at_its_key =
            matches!(call.kind, Kind::Update { key, .. } | Kind::Set { key, .. } if changed.contains(&key));
        if !at_its_key {
            self.broken(format!("a session was seen by another key: {after:?}"));
            return;
        }
        let base = before.first().map(|chat| (**chat).clone()).unwrap_or_default();
        let fits = |base: &Chat| match call.kind {
            Kind::Update { owner, .. } => {
                let (last, earlier) = after.updates.split_last().unwrap_or((&0, &[]));
                let owner = owner.map_or(base.owner.as_deref(), |owner| owner);
                *last == id as u64
                    && earlier == base.updates
                    && after.owner.as_deref() == owner
                    && before.len() <= 1
            }
            Kind::Set { owner, .. } => after.updates.len() == 1 && after.owner.as_deref() == owner,
            _ => false,
        };
        let fits = fits(&base) || fading && fits(&Chat::default());
        if !fits {
            let mut sorted = after.updates.clone();
            sorted.sort_unstable();
            sorted.dedup();
            let broken = if sorted.len() < after.updates.len() {
                "an update counts twice"
            } else {
                "a write lost or changed updates of others"
            };
            self.broken(format!("{broken}: {before:?} became {after:?}"));
            return;
        }
        if call.process != process || call.told == Some(Told::NotApplied) || call.told == Some(Told::Done) {
            self.broken(format!(
                "update {id} was written by process {process} after its call: {:?}",
                call.told
            ));
        }
        if !self.checks.calls[id].effects.is_empty() {
            self.broken(format!("update {id} was written twice"));
        }
        if self.checks.calls[id].told == Some(Told::Unknown) {
            self.count(Fault::WrittenUnknown);
        }
        let markers = |view: &View| {
            changed
                .iter()
                .any(|key| *key != view.site && matches!(self.stored(*key), Some(Stored::Incoming { .. })))
        };
        if new.iter().any(markers) {
            self.count(Fault::UpdatedDuringMove);
        }
        let revoked = |call: &Call| match call.kind {
            Kind::Revoke { owner, .. } => base.owner.as_deref() == Some(owner),
            _ => false,
        };
        if self.checks.open().any(revoked) {
            self.count(Fault::SavedDuringRevocation);
        }
        if base.owner.is_some() && after.owner.is_some() && base.owner != after.owner {
            self.count(Fault::OwnerChanged);
        }
        let now = self.millis();
        self.checks.calls[id].effects.push(now);
    }

    fn is_merge(&self, after: &Chat, before: &[&Arc<Chat>]) -> bool {
        let [one, other] = before else { return false };
        let merged = |moved: &Chat, own: &Chat| Chat::merged(moved.clone(), own.clone()) == *after;
        self.options.merge && (merged(one, other) || merged(other, one))
    }

    /// The entry of a session ends within its lifetime, if it has one. During a move, the clocks of two processes can
    /// decide.
    fn check_deadlines(&mut self) {
        let now = self.millis();
        let most = match self.options.life {
            Life::Forever => None,
            Life::AfterWrite(life) | Life::Sliding(life) | Life::Both(life, _) => {
                Some(self.options.units(life) / 1_000)
            }
        };
        let moves = self.checks.moves().next().is_some();
        let skew = if moves { u64::try_from(2 * self.options.skew).unwrap_or(0) } else { 0 };
        for key in &self.checks.keys {
            let Some(Entry { stored: Stored::Session(_), deadline, .. }) = self.entries.get(key) else {
                continue;
            };
            let fits = match (most, deadline) {
                (None, None) => true,
                (Some(most), Some(deadline)) => *deadline <= now + most + skew,
                _ => false,
            };
            if !fits {
                self.broken(format!(
                    "a session has the wrong deadline: {deadline:?}, at {now} with {most:?}"
                ));
                return;
            }
        }
    }

    /// Every session with an owner is in the index, under one of its keys, and for longer than it lives.
    fn check_index(&mut self) {
        if !self.options.owners {
            return;
        }
        let checks = &self.checks;
        for view in &checks.views {
            let Some(owner) = view.chat.as_ref().and_then(|chat| chat.owner.as_ref()) else { continue };
            let Some(owner) = OWNERS.iter().position(|known| known == owner) else { continue };
            let ends = self.entries.get(&checks.keys[view.site]).and_then(|entry| match &entry.stored {
                Stored::Incoming { own: Some(data), .. } | Stored::Moving { data: Some(data), .. } => {
                    let timer = data.timer.as_ref().and_then(|timer| Key::new(timer.as_str()).ok())?;
                    self.entries.get(&timer).map_or(Some(self.millis()), |timer| timer.deadline)
                }
                _ => entry.deadline,
            });
            let names = |key: usize| {
                let Some(Entry { stored: Stored::Bucket(noted), deadline, .. }) =
                    self.entries.get(&checks.buckets[owner][key])
                else {
                    return false;
                };
                let until = noted.iter().find(|(noted, _)| noted == checks.keys[key].as_str());
                let Some((_, until)) = until else { return false };
                let lasts = match (ends, until, deadline) {
                    (Some(ends), until, deadline) => {
                        until.is_none_or(|until| until > State::wall(ends) + self.options.skew)
                            && deadline.is_none_or(|deadline| deadline > ends)
                    }
                    (None, until, deadline) => until.is_none() && deadline.is_none(),
                };
                checks.views[key].site == view.site && lasts
            };
            if !(0..checks.keys.len()).any(names) {
                let promise = format!("the index does not name a session: {view:?}, which ends at {ends:?}");
                self.broken(promise);
                return;
            }
        }
    }

    // Leases.

    /// A lease is handed out.
    pub(crate) fn acquired(&mut self, process: ProcessId, key: usize, token: u64) {
        self.event(&format!("process {process} holds lease {key} with token {token}"));
        self.count(Fault::Leased);
        if std::mem::take(&mut self.checks.lease_expired[key]) {
            self.count(Fault::LeasedAfterExpiry);
        }
        let greatest = self.checks.tokens[key];
        if token <= greatest {
            self.broken(format!("token {token} was handed out after {greatest}"));
        }
        self.checks.tokens[key] = greatest.max(token);
        self.checks.leases.push((process, key, token));
    }

    /// A holder has its lease, as far as it knows.
    pub(crate) fn holds(&mut self, process: ProcessId, key: usize, token: u64) {
        let held = lease_key(key).and_then(|key| self.entries.get(&key)).map(|entry| &entry.stored);
        if !matches!(held, Some(Stored::Held { token: Some(held) }) if *held == token) {
            self.broken(format!(
                "process {process} holds lease {key} with token {token}, which has ended in the store: {held:?}"
            ));
        }
    }

    /// A holder has lost or released its lease.
    pub(crate) fn ended(&mut self, process: ProcessId, key: usize, token: u64, lost: bool) {
        self.event(&format!("process {process} has ended lease {key} with token {token}, lost: {lost}"));
        if lost {
            self.count(Fault::LeaseLost);
        }
        self.checks.leases.retain(|lease| *lease != (process, key, token));
    }

    pub(crate) fn has_lease(&self, process: ProcessId) -> bool {
        self.checks.leases.iter().any(|(holder, ..)| *holder == process)
    }

    pub(crate) fn has_leases(&self) -> bool {
        self.checks.leases.iter().any(|(holder, ..)| !self.is_killed(*holder))
    }

    /// A resource was asked whether a token is the newest.
    pub(crate) fn verified(&mut self, key: usize, token: u64, newest_before: u64) {
        if token < newest_before {
            self.broken(format!(
                "token {token} of lease {key} passed the check, although {newest_before} was newer"
            ));
        }
    }

    pub(crate) fn newest_token(&self, key: usize) -> u64 {
        self.checks.tokens[key]
    }

    // Processes.

    pub(crate) fn is_moving(&self, process: ProcessId) -> bool {
        self.checks.open().any(|call| call.process == process && matches!(call.kind, Kind::Move { .. }))
    }

    /// Whether a call of a living process is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.checks.open().any(|call| !self.is_killed(call.process))
    }

    // The end.

    /// The moves that have not passed their first step: a key that leads to another.
    pub(crate) fn waiting_moves(&self) -> Vec<(usize, usize)> {
        let waiting = |to: usize| match self.stored(to)? {
            Stored::Incoming { from, .. } => Some((self.number(from)?, to)),
            _ => None,
        };
        (0..self.checks.keys.len()).filter_map(waiting).collect()
    }

    /// After the faults, a read of every key and another attempt of the moves that wait, no move is unfinished.
    pub(crate) fn check_moves(&mut self) {
        let unfinished =
            |entry: &Entry| matches!(entry.stored, Stored::Incoming { .. } | Stored::Moving { .. });
        if self.entries.values().any(unfinished) {
            self.broken("a move cannot be completed".to_owned());
        }
    }

    /// After all lifetimes, only entries without a lifetime remain.
    pub(crate) fn check_leaks(&mut self) {
        let forever = self.options.life == Life::Forever;
        let leaks = |(key, entry): &(&Key, &Entry)| match entry.stored {
            Stored::Redirect { .. } => false,
            Stored::Session(_) | Stored::Bucket(_) => !forever,
            Stored::Other => !key.as_str().starts_with("lease:token:"),
            _ => true,
        };
        let leaked = self.entries.iter().find(leaks).map(|(key, entry)| format!("{key}: {:?}", entry.stored));
        if let Some(leaked) = leaked {
            self.broken(format!("an entry never expires: {leaked}"));
        }
    }

    /// After a sign-in without faults, no owner has more sessions than allowed.
    pub(crate) fn check_limit(&mut self, owner: &str) {
        let Some(most) = self.options.most else { return };
        let mut sites: Vec<usize> =
            self.checks.views.iter().filter(|view| view.is_of(owner)).map(|view| view.site).collect();
        sites.sort_unstable();
        sites.dedup();
        if sites.len() > most {
            self.broken(format!("{owner} has {} sessions after a sign-in, more than {most}", sites.len()));
        }
    }
}

impl Call {
    /// Whether its process made the request during the call.
    fn may_have_made(&self, cause: Option<Cause>) -> bool {
        cause.is_some_and(|(process, request)| {
            self.process == process
                && request >= self.made_before
                && self.made_then.is_none_or(|made| request < made)
        })
    }

    /// Whether it may still have an effect.
    fn may_write(&self) -> bool {
        matches!(self.told, None | Some(Told::Unknown))
    }
}

impl View {
    fn is_of(&self, owner: &str) -> bool {
        self.chat.as_ref().is_some_and(|chat| chat.owner.as_deref() == Some(owner))
    }

    /// The update that created the session.
    fn born(&self) -> Option<u64> {
        self.chat.as_ref()?.updates.first().copied()
    }
}

fn lease_key(key: usize) -> Option<Key> {
    Key::new(format!("lease:held:{key}")).ok()
}

fn lease_of(key: &Key) -> Option<usize> {
    key.as_str().strip_prefix("lease:held:")?.parse().ok()
}
