//! Finds a session wherever it has moved, and finishes moves that were begun.

use std::{fmt, sync::Arc};

use larder_core::{
    Bytes, Condition, DeleteOptions, Error, ErrorKind, Expiry, Key, Operation, ReadOptions, Record, Result,
    Store, TouchOptions, Version, WriteOptions,
};

use super::marker::{Marker, Payload, marked_key};
use crate::id::new_id;

/// More redirects in a row than this are a circle.
const MAX_HOPS: usize = 64;
/// More moves than this that wait for each other are a circle, or as good as one.
const MAX_WAITING: usize = 8;
/// More lost races in a row than this, while moving one session, are no longer bad luck.
const MAX_TURNS: usize = 256;

/// Makes one session of two that meet at a key: the one that moves, and the one that is there. Both and
/// the result as they are stored, with how long they live.
pub(crate) type Merge = Arc<dyn Fn(Key, Lasting, Lasting) -> Merging + Send + Sync>;
pub(crate) type Lasting = (Bytes, Expiry);
pub(crate) type Merging = futures_util::future::BoxFuture<'static, Result<Option<Lasting>>>;

/// Resolves keys to sessions.
pub(crate) struct Resolver {
    pub(crate) store: Store,
    /// How long the redirects live that moves leave behind.
    pub(crate) redirects: Expiry,
    pub(crate) merge: Option<Merge>,
}

/// Where a session is, and what is stored there: never a marker.
pub(crate) struct Found {
    pub(crate) key: Key,
    pub(crate) record: Option<Record>,
}

/// What is stored under a key.
enum KeyState {
    Absent,
    Session(Record),
    Redirect {
        to: Key,
        at: Option<Version>,
    },
    Incoming(Incoming),
    /// Moving, at the old key.
    Departed(Moving),
    /// Moving, at the new key.
    Arrived(Moving),
}

/// Is at `new`.
struct Incoming {
    from: Key,
    new: Key,
    id: String,
    own: Option<Payload>,
    at: Option<Version>,
}

struct Moving {
    from: Key,
    to: Key,
    id: String,
    trip: String,
    data: Option<Payload>,
    at: Option<Version>,
}

impl Resolver {
    /// Follows the redirects from `key`, and goes on with moves that stand in the way.
    pub(crate) async fn find(&self, key: &Key) -> Result<Found> {
        self.find_with(key, &ReadOptions::new()).await
    }

    /// As [`find`](Self::find), reading with these options. They must not touch: what is read on the way
    /// may be a marker.
    pub(crate) async fn find_with(&self, key: &Key, options: &ReadOptions) -> Result<Found> {
        let mut at = key.clone();
        // The keys that we have passed, and what was expected there.
        let mut path: Vec<(Key, Option<Incoming>)> = Vec::new();
        let mut circles = 0;
        for _ in 0..MAX_TURNS {
            let (to, incoming) = match self.look_with(&at, options).await? {
                KeyState::Absent => return Ok(Found { key: at, record: None }),
                KeyState::Session(record) => return Ok(Found { key: at, record: Some(record) }),
                KeyState::Redirect { to, .. } => (to, None),
                KeyState::Incoming(incoming) if incoming.own.is_none() => {
                    (incoming.from.clone(), Some(incoming))
                }
                KeyState::Incoming(incoming) => {
                    self.advance(&incoming).await?;
                    continue;
                }
                KeyState::Departed(moving) => {
                    self.finish_move(&moving).await?;
                    continue;
                }
                KeyState::Arrived(moving) => {
                    self.finish_arrival(&moving).await?;
                    continue;
                }
            };
            path.push((at, incoming));
            let Some(start) = path.iter().position(|(passed, _)| *passed == to) else {
                if path.len() > MAX_HOPS {
                    return Err(circle());
                }
                at = to;
                continue;
            };
            // Everybody calls off the same one, so that the others stay.
            let expected = path.drain(start..).filter_map(|(_, incoming)| incoming);
            if let Some(incoming) = expected.min_by(|one, other| one.new.cmp(&other.new)) {
                self.break_circle(&incoming).await?;
            } else {
                circles += 1;
                if circles > MAX_HOPS {
                    return Err(circle());
                }
            }
            // What we have passed may have changed meanwhile.
            path.clear();
            at = key.clone();
        }
        Err(moves_too_often())
    }

    /// Gives the session at `key` more time, if it is still there at the version that was read; returns
    /// whether it is. If it is not, it was written, which has extended it, or it has moved: then what is
    /// at `key` now is a marker, whose expiry must stay.
    pub(crate) async fn touch(&self, key: &Key, at: Option<Version>, expiry: Expiry) -> Result<bool> {
        // Without versions there are no moves.
        let options = TouchOptions::new().condition(at.map_or(Condition::Any, Condition::At));
        match self.store.touch_with(key, expiry, &options).await {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            touched => touched,
        }
    }

    async fn look(&self, key: &Key) -> Result<KeyState> {
        self.look_with(key, &ReadOptions::new()).await
    }

    /// With the time that the entry has left, if entries can expire.
    async fn look_with_ttl(&self, key: &Key) -> Result<KeyState> {
        let mut options = ReadOptions::new();
        options.ttl = self.store.info().expiry;
        self.look_with(key, &options).await
    }

    async fn look_with(&self, key: &Key, options: &ReadOptions) -> Result<KeyState> {
        // The key names the place of the damage.
        let named = |error: Error| {
            if error.kind() == ErrorKind::Corrupt { self.store.name_entry(error, key) } else { error }
        };
        let Some(record) = self.store.read_with(key, options).await.map_err(named)? else {
            return Ok(KeyState::Absent);
        };
        let at = record.version.clone();
        Ok(match Marker::parse(&record.value).map_err(named)? {
            None => KeyState::Session(record),
            Some(Marker::Redirect { to, .. }) => KeyState::Redirect { to: marked_key(&to)?, at },
            Some(Marker::Incoming { from, id, own }) => {
                KeyState::Incoming(Incoming { from: marked_key(&from)?, new: key.clone(), id, own, at })
            }
            Some(Marker::Moving { from, to, id, trip, data }) => {
                let (from, to) = (marked_key(&from)?, marked_key(&to)?);
                let data = match data {
                    // An expired session counts as absent.
                    Some(data) if data.left(&self.store).await?.is_none() => None,
                    data => data,
                };
                let moving = Moving { from, to, id, trip, data, at };
                if moving.to == *key { KeyState::Arrived(moving) } else { KeyState::Departed(moving) }
            }
        })
    }

    /// Moves the session at `old` to `new`. Done already, it does nothing.
    pub(crate) async fn move_session(&self, old: &Key, new: &Key) -> Result<()> {
        let info = self.store.info();
        if !info.conditions() {
            return Err(Error::unsupported().with_adapter(info.name).with_operation(Operation::Write));
        }
        let (mut old, mut new) = (old.clone(), new.clone());
        for _ in 0..MAX_TURNS {
            if old == new {
                return Ok(());
            }
            match (self.look(&old).await?, self.look_with_ttl(&new).await?) {
                // Moves that have begun come first, ours among them.
                (KeyState::Departed(moving), _) | (_, KeyState::Departed(moving)) => {
                    self.finish_move(&moving).await?;
                }
                (KeyState::Arrived(moving), _) | (_, KeyState::Arrived(moving)) => {
                    self.finish_arrival(&moving).await?;
                }
                (_, KeyState::Incoming(ours)) if ours.from == old => self.advance(&ours).await?,
                (KeyState::Incoming(others), _) | (_, KeyState::Incoming(others)) => {
                    self.advance(&others).await?;
                }

                // It has moved before: go on from where it went. If that was here, this is the end.
                (KeyState::Redirect { to, .. }, _) => old = to,

                // Step 1. A redirect at the new key that leads to this very session, from an earlier move
                // the other way, is as good as nothing. Where it leads to another, that is the new key.
                (_, KeyState::Absent) => self.write_incoming(&new, &old, None, Condition::Absent).await?,
                (_, KeyState::Redirect { to, at }) => match self.resolves_to(&to, &old).await? {
                    Some(true) => self.write_incoming(&new, &old, None, at_version(at)?).await?,
                    Some(false) => new = to,
                    None => {}
                },
                (sight, KeyState::Session(own)) => {
                    if matches!(sight, KeyState::Session(_)) && self.merge.is_none() {
                        return Err(two_sessions());
                    }
                    let (own, condition) = self.payload(own).await?;
                    self.write_incoming(&new, &old, Some(own), condition).await?;
                }
            }
        }
        Err(moves_too_often())
    }

    /// Whether the redirects from `key` lead to `target`, and will not cease to. `None` if that is
    /// about to change.
    async fn resolves_to(&self, key: &Key, target: &Key) -> Result<Option<bool>> {
        let mut key = key.clone();
        for _ in 0..MAX_HOPS {
            if key == *target {
                return Ok(Some(true));
            }
            key = match self.look(&key).await? {
                KeyState::Absent | KeyState::Session(_) => return Ok(Some(false)),
                // It may be called off.
                KeyState::Incoming(incoming) if incoming.own.is_some() => return Ok(Some(false)),
                KeyState::Redirect { to, .. } => to,
                KeyState::Incoming(incoming) => incoming.from,
                KeyState::Departed(moving) => {
                    self.finish_move(&moving).await?;
                    return Ok(None);
                }
                KeyState::Arrived(moving) => {
                    self.finish_arrival(&moving).await?;
                    return Ok(None);
                }
            };
        }
        Ok(Some(false))
    }

    /// Step 1, from whatever the condition says.
    async fn write_incoming(
        &self,
        new: &Key,
        old: &Key,
        own: Option<Payload>,
        condition: Condition,
    ) -> Result<()> {
        let incoming = Marker::Incoming { from: old.as_str().to_owned(), id: new_id(), own };
        self.write_marker(new, &incoming, Expiry::Never, condition).await
    }

    /// Step 2, unless the old key is no longer where the session is.
    async fn advance(&self, incoming: &Incoming) -> Result<()> {
        self.advance_waiting(incoming, 0).await
    }

    async fn advance_waiting(&self, incoming: &Incoming, waiting: usize) -> Result<()> {
        let advanced = match self.look_with_ttl(&incoming.from).await? {
            KeyState::Departed(moving) => self.finish_move(&moving).await,
            KeyState::Arrived(moving) => self.finish_arrival(&moving).await,
            KeyState::Absent => self.depart(incoming, None, Condition::Absent).await,
            // They have met only after the move began.
            KeyState::Session(_) if incoming.own.is_some() && self.merge.is_none() => {
                self.call_off(incoming).await
            }
            KeyState::Session(session) => {
                let (data, condition) = self.payload(session).await?;
                self.depart(incoming, Some(data), condition).await
            }
            KeyState::Redirect { to, .. } if to == incoming.new => self.break_circle(incoming).await,
            KeyState::Incoming(other) if other.from == incoming.new => {
                // As in `find`, of two the same one for everybody. One with a session of its own can be
                // called off in any case.
                let both = [&other, incoming];
                let one = both.into_iter().min_by_key(|one| (one.own.is_none(), &one.new));
                self.break_circle(one.unwrap_or(incoming)).await
            }
            // It may be called off, so it leads nowhere yet.
            KeyState::Incoming(other) if other.own.is_some() => {
                if waiting < MAX_WAITING {
                    Box::pin(self.advance_waiting(&other, waiting + 1)).await
                } else {
                    self.call_off(&other).await
                }
            }
            // It has moved on from there before it could leave for here.
            KeyState::Incoming(Incoming { from: to, .. }) | KeyState::Redirect { to, .. } => {
                let condition = at_version(incoming.at.clone())?;
                self.write_incoming(&incoming.new, &to, incoming.own.clone(), condition).await
            }
        };
        self.or_call_off(incoming, advanced).await
    }

    async fn depart(&self, incoming: &Incoming, data: Option<Payload>, condition: Condition) -> Result<()> {
        let moving = Marker::Moving {
            from: incoming.from.as_str().to_owned(),
            to: incoming.new.as_str().to_owned(),
            id: incoming.id.clone(),
            trip: new_id(),
            data,
        };
        self.write_marker(&incoming.from, &moving, Expiry::Never, condition).await
    }

    /// Step 3 or 4, of a session that has departed.
    async fn finish_move(&self, departed: &Moving) -> Result<()> {
        match self.look(&departed.to).await? {
            KeyState::Incoming(incoming) if incoming.id == departed.id => {
                let arrived = self.arrive(departed, &incoming).await;
                self.or_call_off(&incoming, arrived).await
            }
            KeyState::Arrived(arrived) if arrived.trip == departed.trip => {
                self.leave_redirect(departed).await
            }
            // It is not expected, or no longer: it has departed too late, and stays.
            _ => self.unwrap(&departed.from, departed).await,
        }
    }

    async fn arrive(&self, departed: &Moving, incoming: &Incoming) -> Result<()> {
        let (moving, own) =
            (self.lasting(departed.data.as_ref()).await?, self.lasting(incoming.own.as_ref()).await?);
        let data = match (moving, own) {
            (None, None) => None,
            (None, Some(_)) => incoming.own.clone(),
            (Some(_), None) => departed.data.clone(),
            (Some(moving), Some(own)) => {
                let Some(merge) = &self.merge else {
                    return self.call_off(incoming).await;
                };
                match merge(departed.to.clone(), moving, own).await? {
                    Some((value, expiry)) => Some(Payload::new(&self.store, &value, expiry).await?),
                    None => None,
                }
            }
        };
        let arrived = Marker::Moving {
            from: departed.from.as_str().to_owned(),
            to: departed.to.as_str().to_owned(),
            id: departed.id.clone(),
            trip: departed.trip.clone(),
            data,
        };
        let condition = at_version(incoming.at.clone())?;
        self.write_marker(&departed.to, &arrived, Expiry::Never, condition).await
    }

    /// Step 4 or 5, of a session that has arrived.
    async fn finish_arrival(&self, arrived: &Moving) -> Result<()> {
        match self.look(&arrived.from).await? {
            KeyState::Departed(departed) if departed.trip == arrived.trip => {
                self.leave_redirect(&departed).await
            }
            _ => self.unwrap(&arrived.to, arrived).await,
        }
    }

    /// Step 4.
    async fn leave_redirect(&self, departed: &Moving) -> Result<()> {
        let moved = Marker::Redirect { to: departed.to.as_str().to_owned(), id: departed.trip.clone() };
        self.write_marker(&departed.from, &moved, self.redirects, at_version(departed.at.clone())?).await
    }

    /// Step 5; or back, before step 3.
    async fn unwrap(&self, key: &Key, moving: &Moving) -> Result<()> {
        self.restore(key, moving.data.as_ref(), moving.at.clone()).await
    }

    /// Back, before step 2.
    async fn call_off(&self, incoming: &Incoming) -> Result<()> {
        self.restore(&incoming.new, incoming.own.as_ref(), incoming.at.clone()).await
    }

    /// The same, if it leads in a circle. What was read before the *incoming* may have changed since, so
    /// that is seen only now: while it stands, nobody can come to lead to it.
    async fn break_circle(&self, incoming: &Incoming) -> Result<()> {
        if incoming.own.is_some() || self.resolves_to(&incoming.from, &incoming.new).await? == Some(true) {
            self.call_off(incoming).await?;
        }
        Ok(())
    }

    /// A move that cannot go on (the two sessions cannot be merged, or are too large together) must not
    /// keep a session from those who come to its key.
    async fn or_call_off(&self, incoming: &Incoming, outcome: Result<()>) -> Result<()> {
        if let Err(error) = &outcome
            && incoming.own.is_some()
            && !error.is_retryable()
            && error.kind() != ErrorKind::Closed
        {
            self.call_off(incoming).await?;
        }
        outcome
    }

    /// A session that was read with its TTL, to be put into a marker; and the condition that it is still
    /// as it was read.
    async fn payload(&self, session: Record) -> Result<(Payload, Condition)> {
        let left = session.expiry.unwrap_or_default();
        let payload = Payload::new(&self.store, &session.value, left).await?;
        Ok((payload, at_version(session.version)?))
    }

    /// Replaces a marker by the session in it.
    async fn restore(&self, key: &Key, payload: Option<&Payload>, at: Option<Version>) -> Result<()> {
        let condition = at_version(at)?;
        lost_race_is_fine(match self.lasting(payload).await? {
            Some((value, left)) => {
                let options = WriteOptions::new().expiry(left).condition(condition);
                self.store.write_with(key, value, &options).await.map(drop)
            }
            None => {
                let options = DeleteOptions::new().condition(condition);
                self.store.delete_with(key, &options).await.map(drop)
            }
        })
    }

    /// A session from a marker, unless it is over.
    async fn lasting(&self, payload: Option<&Payload>) -> Result<Option<Lasting>> {
        let Some(payload) = payload else {
            return Ok(None);
        };
        Ok(match payload.left(&self.store).await? {
            Some(left) => Some((payload.bytes()?, left)),
            None => None,
        })
    }

    /// The time that the entry has left; `None` if there is no entry.
    pub(crate) async fn left(&self, key: &Key) -> Result<Option<Expiry>> {
        if self.store.info().expiry { self.store.ttl(key).await } else { Ok(Some(Expiry::Never)) }
    }

    async fn write_marker(
        &self,
        key: &Key,
        marker: &Marker,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<()> {
        let options = WriteOptions::new().expiry(expiry).condition(condition);
        lost_race_is_fine(self.store.write_with(key, marker.encode()?, &options).await.map(drop))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("store", &self.store).finish_non_exhaustive()
    }
}

/// The condition of something that was read.
fn at_version(version: Option<Version>) -> Result<Condition> {
    version.map(Condition::At).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "sessions move only in a storage with compare-and-swap")
    })
}

/// A conflict is no error here: the next look shows what came before.
fn lost_race_is_fine(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        outcome => outcome,
    }
}

fn circle() -> Error {
    Error::new(ErrorKind::Corrupt, "the redirects of moved sessions lead in a circle")
}

fn moves_too_often() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "the session, or one that it moves to, changed too often meanwhile; try again",
    )
}

fn two_sessions() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "there is a session at the new key already; say with `merge` what becomes of the two. Nothing was changed",
    )
}
