//! Finds sessions that have moved, and completes unfinished moves.

use std::{fmt, sync::Arc};

use larder_core::{
    Bytes, Condition, DeleteOptions, Error, ErrorKind, Expiry, Key, Operation, ReadOptions, Record, Result,
    Store, TouchOptions, Version, WriteOptions,
};

use super::marker::{Marker, Payload, marked_key};
use crate::id::new_id;

/// The maximum number of consecutive redirects; more are a circle.
const MAX_HOPS: usize = 64;
/// The maximum number of moves that wait for each other; more count as a circle.
const MAX_WAITING: usize = 8;
/// The maximum number of attempts for one session.
const MAX_ATTEMPTS: usize = 256;

/// Merges two stored sessions: the one that moves, and the one at the new key. Each has its expiry.
pub(crate) type Merge = Arc<dyn Fn(Key, Lasting, Lasting) -> Merging + Send + Sync>;
pub(crate) type Lasting = (Bytes, Expiry);
pub(crate) type Merging = futures_util::future::BoxFuture<'static, Result<Option<Lasting>>>;

/// Resolves keys to sessions.
pub(crate) struct Resolver {
    pub(crate) store: Store,
    /// The expiry of redirects.
    pub(crate) redirects: Expiry,
    pub(crate) merge: Option<Merge>,
}

/// The current key of a session, and its entry, which is never a marker.
pub(crate) struct Found {
    pub(crate) key: Key,
    pub(crate) record: Option<Record>,
}

/// The state of a key.
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
    /// Follows the redirects from `key`, and completes unfinished moves on the way.
    pub(crate) async fn find(&self, key: &Key) -> Result<Found> {
        self.find_with(key, &ReadOptions::new()).await
    }

    /// Like [`find`](Self::find), with these options. They must not touch, because an entry on the way can be
    /// a marker.
    pub(crate) async fn find_with(&self, key: &Key, options: &ReadOptions) -> Result<Found> {
        let mut at = key.clone();
        // The keys on the way, with their *incoming* markers.
        let mut path: Vec<(Key, Option<Incoming>)> = Vec::new();
        let mut circles = 0;
        for _ in 0..MAX_ATTEMPTS {
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
            // All processes cancel the same one, so that the others stay.
            let expected = path.drain(start..).filter_map(|(_, incoming)| incoming);
            if let Some(incoming) = expected.min_by(|one, other| one.new.cmp(&other.new)) {
                self.break_circle(&incoming).await?;
            } else {
                circles += 1;
                if circles > MAX_HOPS {
                    return Err(circle());
                }
            }
            // The keys on the way may have changed in the meantime.
            path.clear();
            at = key.clone();
        }
        Err(moves_too_often())
    }

    /// Extends the session at `key`, if it still has the version that was read. Returns whether it does. If
    /// not, it was written, which has extended it, or it has moved: then `key` has a marker, whose expiry
    /// must stay.
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

    /// Like `look`, with the TTL of the entry, if entries can expire.
    async fn look_with_ttl(&self, key: &Key) -> Result<KeyState> {
        let mut options = ReadOptions::new();
        options.ttl = self.store.info().expiry;
        self.look_with(key, &options).await
    }

    async fn look_with(&self, key: &Key, options: &ReadOptions) -> Result<KeyState> {
        // Name the damaged entry.
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

    /// Moves the session at `old` to `new`. Does nothing if it has already moved.
    pub(crate) async fn move_session(&self, old: &Key, new: &Key) -> Result<()> {
        let info = self.store.info();
        if !info.conditions() {
            return Err(Error::unsupported().with_adapter(info.name).with_operation(Operation::Write));
        }
        let (mut old, mut new) = (old.clone(), new.clone());
        for _ in 0..MAX_ATTEMPTS {
            if old == new {
                return Ok(());
            }
            match (self.look(&old).await?, self.look_with_ttl(&new).await?) {
                // Complete unfinished moves first, including this one.
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

                // It has moved before: continue at its new key, which ends the loop if that is `new`.
                (KeyState::Redirect { to, .. }, _) => old = to,

                // Step 1. A redirect at the new key to this session, from an earlier move in the other
                // direction, counts as absent. If it leads to another session, move there.
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

    /// Whether the redirects from `key` lead to `target`. `None` if that is about to change.
    async fn resolves_to(&self, key: &Key, target: &Key) -> Result<Option<bool>> {
        let mut key = key.clone();
        for _ in 0..MAX_HOPS {
            if key == *target {
                return Ok(Some(true));
            }
            key = match self.look(&key).await? {
                KeyState::Absent | KeyState::Session(_) => return Ok(Some(false)),
                // It can be cancelled.
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

    /// Step 1, on this condition.
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

    /// Step 2, unless the session is not at the old key any more.
    async fn advance(&self, incoming: &Incoming) -> Result<()> {
        self.advance_waiting(incoming, 0).await
    }

    async fn advance_waiting(&self, incoming: &Incoming, waiting: usize) -> Result<()> {
        let advanced = match self.look_with_ttl(&incoming.from).await? {
            KeyState::Departed(moving) => self.finish_move(&moving).await,
            KeyState::Arrived(moving) => self.finish_arrival(&moving).await,
            KeyState::Absent => self.depart(incoming, None, Condition::Absent).await,
            // The second session was created after the start of the move.
            KeyState::Session(_) if incoming.own.is_some() && self.merge.is_none() => {
                self.cancel(incoming).await
            }
            KeyState::Session(session) => {
                let (data, condition) = self.payload(session).await?;
                self.depart(incoming, Some(data), condition).await
            }
            KeyState::Redirect { to, .. } if to == incoming.new => self.break_circle(incoming).await,
            KeyState::Incoming(other) if other.from == incoming.new => {
                // As in `find`, all processes choose the same one. One with its own session can always be
                // cancelled.
                let both = [&other, incoming];
                let one = both.into_iter().min_by_key(|one| (one.own.is_none(), &one.new));
                self.break_circle(one.unwrap_or(incoming)).await
            }
            // It can be cancelled, so it does not count as a redirect yet.
            KeyState::Incoming(other) if other.own.is_some() => {
                if waiting < MAX_WAITING {
                    Box::pin(self.advance_waiting(&other, waiting + 1)).await
                } else {
                    self.cancel(&other).await
                }
            }
            // It has moved elsewhere before this move.
            KeyState::Incoming(Incoming { from: to, .. }) | KeyState::Redirect { to, .. } => {
                let condition = at_version(incoming.at.clone())?;
                self.write_incoming(&incoming.new, &to, incoming.own.clone(), condition).await
            }
        };
        self.or_cancel(incoming, advanced).await
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

    /// Step 3 or 4 of a session that has departed.
    async fn finish_move(&self, departed: &Moving) -> Result<()> {
        match self.look(&departed.to).await? {
            KeyState::Incoming(incoming) if incoming.id == departed.id => {
                let arrived = self.arrive(departed, &incoming).await;
                self.or_cancel(&incoming, arrived).await
            }
            KeyState::Arrived(arrived) if arrived.trip == departed.trip => {
                self.leave_redirect(departed).await
            }
            // It is not expected (any more): it has departed too late, and stays.
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
                    return self.cancel(incoming).await;
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

    /// Step 4 or 5 of a session that has arrived.
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

    /// Step 5, or the reversal of step 2.
    async fn unwrap(&self, key: &Key, moving: &Moving) -> Result<()> {
        self.restore(key, moving.data.as_ref(), moving.at.clone()).await
    }

    /// The reversal of step 1.
    async fn cancel(&self, incoming: &Incoming) -> Result<()> {
        self.restore(&incoming.new, incoming.own.as_ref(), incoming.at.clone()).await
    }

    /// The same, if the *incoming* leads in a circle. The keys may have changed since they were read before
    /// the *incoming*, so this checks again: while it exists, no new redirect can lead to it.
    async fn break_circle(&self, incoming: &Incoming) -> Result<()> {
        if incoming.own.is_some() || self.resolves_to(&incoming.from, &incoming.new).await? == Some(true) {
            self.cancel(incoming).await?;
        }
        Ok(())
    }

    /// Cancels a move that cannot continue (the two sessions cannot be merged, or are too large together),
    /// because it must not block the session at the new key.
    async fn or_cancel(&self, incoming: &Incoming, outcome: Result<()>) -> Result<()> {
        if let Err(error) = &outcome
            && incoming.own.is_some()
            && !error.is_retryable()
            && error.kind() != ErrorKind::Closed
        {
            self.cancel(incoming).await?;
        }
        outcome
    }

    /// Wraps a session that was read with its TTL for a marker. Also returns the condition that it is
    /// unchanged.
    async fn payload(&self, session: Record) -> Result<(Payload, Condition)> {
        let left = session.expiry.unwrap_or_default();
        let payload = Payload::new(&self.store, &session.value, left).await?;
        Ok((payload, at_version(session.version)?))
    }

    /// Replaces a marker with the session in it.
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

    /// Returns the session in a marker, unless it has expired.
    async fn lasting(&self, payload: Option<&Payload>) -> Result<Option<Lasting>> {
        let Some(payload) = payload else {
            return Ok(None);
        };
        Ok(match payload.left(&self.store).await? {
            Some(left) => Some((payload.bytes()?, left)),
            None => None,
        })
    }

    /// Returns the TTL of the session that was read at `key`, or `None` if it has ended since. If it has moved in the
    /// meantime, `key` has a marker, whose TTL is not that of the session.
    pub(crate) async fn left(&self, key: &Key) -> Result<Option<Expiry>> {
        if !self.store.info().expiry {
            return Ok(Some(Expiry::Never));
        }
        let mut key = key.clone();
        for _ in 0..MAX_HOPS {
            key = match self.look_with_ttl(&key).await? {
                KeyState::Absent => return Ok(None),
                KeyState::Session(record) => return Ok(record.expiry),
                KeyState::Redirect { to, .. } => to,
                KeyState::Incoming(Incoming { own: None, from, .. }) => from,
                KeyState::Incoming(Incoming { own: data, .. })
                | KeyState::Departed(Moving { data, .. })
                | KeyState::Arrived(Moving { data, .. }) => {
                    return Ok(self.lasting(data.as_ref()).await?.map(|(_, left)| left));
                }
            };
        }
        Err(moves_too_often())
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

/// The condition that an entry is unchanged since it was read.
fn at_version(version: Option<Version>) -> Result<Condition> {
    version.map(Condition::At).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "moving sessions needs a storage with compare-and-swap")
    })
}

/// Ignores a conflict: the next read shows the other change.
fn lost_race_is_fine(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        outcome => outcome,
    }
}

fn circle() -> Error {
    Error::new(ErrorKind::Corrupt, "the redirects of moved sessions form a circle")
}

fn moves_too_often() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "the session, or the one at its new key, changed too often during the move; try again",
    )
}

fn two_sessions() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "the new key already has a session, so nothing was changed: set `merge` on the builder to merge the two",
    )
}
