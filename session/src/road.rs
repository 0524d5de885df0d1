//! Finding a session wherever it has moved, and seeing unfinished moves through.
//!
//! A move takes two keys, and no store changes two keys at once. So it goes by steps, each one
//! compare-and-swap of one key, and after each of them both keys lead to one session:
//!
//! 1. new: absent -> *expecting* from old. Whoever comes to the new key goes on to the old one.
//! 2. old: session -> *in transit* to new, with the session in it. Nobody can change it there;
//!    whoever comes by goes on with the move.
//! 3. new: expecting -> *in transit*, with the session in it: it has arrived.
//! 4. old: in transit -> *moved* to new.
//! 5. new: in transit -> the session.
//!
//! Where there is no session to move, the same steps are gone with none. A process that dies between
//! two steps leaves a state that everybody can use, and that the next one who needs to goes on from.
//!
//! Any number of processes may take these steps at once, and one may take a step long after it has
//! looked: a session that was absent, or the same, may have been something else in between. What keeps
//! that harmless:
//!
//! - The id of an *expecting* is never used again, and ends at the new key: by arrival (3), or because
//!   the move is called off. A departure (2) for an id that is no longer expected was too late, and is
//!   turned back: the session in it stays at the old key.
//! - That it was not too late is known from the *in transit* at the new key, which stays until the one
//!   at the old key is gone (4 before 5).
//! - An *expecting* that is put up too late, at the key to which the session has come meanwhile, leads
//!   in a circle, with nothing in it. It is called off.
//!
//! A session that was at the new key before, to be merged or to stay, waits in the *expecting*. Then
//! nobody goes on to the old key; whoever comes by goes on with the move. Until the other has arrived,
//! the two keys do not belong together yet, and the move can be called off.
//!
//! Only *moved* may expire. The others do not: their absence would mean something.

use std::{fmt, sync::Arc};

use larder_core::{
    Bytes, Condition, Error, ErrorKind, Expiry, Key, Operation, Record, Result, Storage, Version,
};

use crate::signpost::{self, Kept, Signpost};

/// More signposts in a row than this are a circle.
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

/// The storage, and how to get about in it.
pub(crate) struct Road {
    pub(crate) storage: Arc<dyn Storage>,
    /// How long the signposts live that moves leave behind.
    pub(crate) signposts: Expiry,
    pub(crate) merge: Option<Merge>,
}

/// Where a session is, and what is stored there: never a signpost.
pub(crate) struct Found {
    pub(crate) key: Key,
    pub(crate) record: Option<Record>,
}

/// What stands at a key.
enum Sight {
    Nothing,
    Session(Record),
    Moved {
        to: Key,
        at: Option<Version>,
    },
    Expecting(Expecting),
    /// In transit, at the old key.
    Departed(Transit),
    /// In transit, at the new key.
    Arrived(Transit),
}

/// Stands at `new`.
struct Expecting {
    from: Key,
    new: Key,
    id: String,
    own: Option<Kept>,
    at: Option<Version>,
}

struct Transit {
    from: Key,
    to: Key,
    id: String,
    trip: String,
    data: Option<Kept>,
    at: Option<Version>,
}

impl Road {
    /// Follows the signposts from `key`, and goes on with moves that stand in the way.
    pub(crate) async fn find(&self, key: &Key) -> Result<Found> {
        let mut at = key.clone();
        // The keys that we have passed, and what was expected there.
        let mut path: Vec<(Key, Option<Expecting>)> = Vec::new();
        let mut circles = 0;
        for _ in 0..MAX_TURNS {
            let (to, expecting) = match self.look(&at).await? {
                Sight::Nothing => return Ok(Found { key: at, record: None }),
                Sight::Session(record) => return Ok(Found { key: at, record: Some(record) }),
                Sight::Moved { to, .. } => (to, None),
                Sight::Expecting(expecting) if expecting.own.is_none() => {
                    (expecting.from.clone(), Some(expecting))
                }
                Sight::Expecting(expecting) => {
                    self.advance(&expecting).await?;
                    continue;
                }
                Sight::Departed(transit) => {
                    self.see_through(&transit).await?;
                    continue;
                }
                Sight::Arrived(transit) => {
                    self.settle(&transit).await?;
                    continue;
                }
            };
            path.push((at, expecting));
            let Some(start) = path.iter().position(|(passed, _)| *passed == to) else {
                if path.len() > MAX_HOPS {
                    return Err(circle());
                }
                at = to;
                continue;
            };
            // Everybody calls off the same one, so that the others stay.
            let expected = path.drain(start..).filter_map(|(_, expecting)| expecting);
            if let Some(expecting) = expected.min_by(|one, other| one.new.cmp(&other.new)) {
                self.break_circle(&expecting).await?;
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

    /// Gives the session at `key` more time. Should it have moved since it was found, then what was
    /// touched is a signpost, and that gets back the time that it is meant to have: the storage knows
    /// no touch on a condition, so this looks afterwards.
    pub(crate) async fn touch(&self, key: &Key, expiry: Expiry) -> Result<()> {
        if !self.storage.touch(key, expiry).await? {
            return Ok(());
        }
        let meant = match self.look(key).await? {
            Sight::Nothing | Sight::Session(_) => return Ok(()),
            Sight::Moved { .. } => self.signposts,
            Sight::Expecting(_) | Sight::Departed(_) | Sight::Arrived(_) => Expiry::Never,
        };
        self.storage.touch(key, meant).await.map(drop)
    }

    async fn look(&self, key: &Key) -> Result<Sight> {
        // The key names the place of the damage.
        let named =
            |error: Error| if error.kind() == ErrorKind::Corrupt { error.with_key(key) } else { error };
        let Some(record) = self.storage.read(key).await.map_err(named)? else {
            return Ok(Sight::Nothing);
        };
        let at = record.version.clone();
        Ok(match Signpost::parse(&record.value).map_err(named)? {
            None => Sight::Session(record),
            Some(Signpost::Moved { to, .. }) => Sight::Moved { to: signpost::key(&to)?, at },
            Some(Signpost::Expecting { from, id, own }) => {
                Sight::Expecting(Expecting { from: signpost::key(&from)?, new: key.clone(), id, own, at })
            }
            Some(Signpost::InTransit { from, to, id, trip, data }) => {
                let (from, to) = (signpost::key(&from)?, signpost::key(&to)?);
                let data = match data {
                    // An expired session counts as absent.
                    Some(data) if data.left(&*self.storage).await?.is_none() => None,
                    data => data,
                };
                let transit = Transit { from, to, id, trip, data, at };
                if transit.to == *key { Sight::Arrived(transit) } else { Sight::Departed(transit) }
            }
        })
    }

    /// Moves the session at `old` to `new`. Done already, it does nothing.
    pub(crate) async fn move_session(&self, old: &Key, new: &Key) -> Result<()> {
        if !self.storage.capabilities().compare_and_swap() {
            return Err(Error::unsupported()
                .with_adapter(self.storage.name())
                .with_operation(Operation::WriteIf));
        }
        let (mut old, mut new) = (old.clone(), new.clone());
        for _ in 0..MAX_TURNS {
            if old == new {
                return Ok(());
            }
            match (self.look(&old).await?, self.look(&new).await?) {
                // Moves that have begun come first, ours among them.
                (Sight::Departed(transit), _) | (_, Sight::Departed(transit)) => {
                    self.see_through(&transit).await?;
                }
                (Sight::Arrived(transit), _) | (_, Sight::Arrived(transit)) => self.settle(&transit).await?,
                (_, Sight::Expecting(ours)) if ours.from == old => self.advance(&ours).await?,
                (Sight::Expecting(others), _) | (_, Sight::Expecting(others)) => {
                    self.advance(&others).await?;
                }

                // It has moved before: go on from where it went. If that was here, this is the end.
                (Sight::Moved { to, .. }, _) => old = to,

                // Step 1. A signpost at the new key that leads to this very session, from an earlier move
                // the other way, is as good as nothing. Where it leads to another, that is the new key.
                (_, Sight::Nothing) => self.expect(&new, &old, None, Condition::Absent).await?,
                (_, Sight::Moved { to, at }) => match self.leads(&to, &old).await? {
                    Some(true) => self.expect(&new, &old, None, at_version(at)?).await?,
                    Some(false) => new = to,
                    None => {}
                },
                (sight, Sight::Session(own)) => {
                    if matches!(sight, Sight::Session(_)) && self.merge.is_none() {
                        return Err(two_sessions());
                    }
                    if let Some(left) = self.left(&new).await? {
                        let condition = at_version(own.version)?;
                        let own = Kept::new(&*self.storage, &own.value, left).await?;
                        self.expect(&new, &old, Some(own), condition).await?;
                    }
                }
            }
        }
        Err(moves_too_often())
    }

    /// Whether the signposts from `key` lead to `target`, and will not cease to. `None` if that is
    /// about to change.
    async fn leads(&self, key: &Key, target: &Key) -> Result<Option<bool>> {
        let mut key = key.clone();
        for _ in 0..MAX_HOPS {
            if key == *target {
                return Ok(Some(true));
            }
            key = match self.look(&key).await? {
                Sight::Nothing | Sight::Session(_) => return Ok(Some(false)),
                // It may be called off.
                Sight::Expecting(expecting) if expecting.own.is_some() => return Ok(Some(false)),
                Sight::Moved { to, .. } => to,
                Sight::Expecting(expecting) => expecting.from,
                Sight::Departed(transit) => {
                    self.see_through(&transit).await?;
                    return Ok(None);
                }
                Sight::Arrived(transit) => {
                    self.settle(&transit).await?;
                    return Ok(None);
                }
            };
        }
        Ok(Some(false))
    }

    /// Step 1, from whatever the condition says.
    async fn expect(&self, new: &Key, old: &Key, own: Option<Kept>, condition: Condition) -> Result<()> {
        let expecting = Signpost::Expecting { from: old.as_str().to_owned(), id: signpost::new_id(), own };
        self.put_up(new, &expecting, Expiry::Never, condition).await
    }

    /// Step 2, unless the old key is no longer where the session is.
    async fn advance(&self, expecting: &Expecting) -> Result<()> {
        self.advance_waiting(expecting, 0).await
    }

    async fn advance_waiting(&self, expecting: &Expecting, waiting: usize) -> Result<()> {
        let advanced = match self.look(&expecting.from).await? {
            Sight::Departed(transit) => self.see_through(&transit).await,
            Sight::Arrived(transit) => self.settle(&transit).await,
            Sight::Nothing => self.depart(expecting, None, Condition::Absent).await,
            // They have met only after the move began.
            Sight::Session(_) if expecting.own.is_some() && self.merge.is_none() => {
                self.call_off(expecting).await
            }
            Sight::Session(session) => match self.left(&expecting.from).await? {
                Some(left) => {
                    let data = Kept::new(&*self.storage, &session.value, left).await?;
                    self.depart(expecting, Some(data), at_version(session.version)?).await
                }
                None => Ok(()),
            },
            Sight::Moved { to, .. } if to == expecting.new => self.break_circle(expecting).await,
            Sight::Expecting(other) if other.from == expecting.new => {
                // As in `find`, of two the same one for everybody. One with a session of its own can be
                // called off in any case.
                let both = [&other, expecting];
                let one = both.into_iter().min_by_key(|one| (one.own.is_none(), &one.new));
                self.break_circle(one.unwrap_or(expecting)).await
            }
            // It may be called off, so it leads nowhere yet.
            Sight::Expecting(other) if other.own.is_some() => {
                if waiting < MAX_WAITING {
                    Box::pin(self.advance_waiting(&other, waiting + 1)).await
                } else {
                    self.call_off(&other).await
                }
            }
            // It has moved on from there before it could leave for here.
            Sight::Expecting(Expecting { from: to, .. }) | Sight::Moved { to, .. } => {
                let condition = at_version(expecting.at.clone())?;
                self.expect(&expecting.new, &to, expecting.own.clone(), condition).await
            }
        };
        self.or_call_off(expecting, advanced).await
    }

    async fn depart(&self, expecting: &Expecting, data: Option<Kept>, condition: Condition) -> Result<()> {
        let transit = Signpost::InTransit {
            from: expecting.from.as_str().to_owned(),
            to: expecting.new.as_str().to_owned(),
            id: expecting.id.clone(),
            trip: signpost::new_id(),
            data,
        };
        self.put_up(&expecting.from, &transit, Expiry::Never, condition).await
    }

    /// Step 3 or 4, of a session that has departed.
    async fn see_through(&self, departed: &Transit) -> Result<()> {
        match self.look(&departed.to).await? {
            Sight::Expecting(expecting) if expecting.id == departed.id => {
                let arrived = self.arrive(departed, &expecting).await;
                self.or_call_off(&expecting, arrived).await
            }
            Sight::Arrived(arrived) if arrived.trip == departed.trip => self.leave_signpost(departed).await,
            // It is not expected, or no longer: it has departed too late, and stays.
            _ => self.unwrap(&departed.from, departed).await,
        }
    }

    async fn arrive(&self, departed: &Transit, expecting: &Expecting) -> Result<()> {
        let (moving, own) =
            (self.lasting(departed.data.as_ref()).await?, self.lasting(expecting.own.as_ref()).await?);
        let data = match (moving, own) {
            (None, None) => None,
            (None, Some(_)) => expecting.own.clone(),
            (Some(_), None) => departed.data.clone(),
            (Some(moving), Some(own)) => {
                let Some(merge) = &self.merge else {
                    return self.call_off(expecting).await;
                };
                match merge(departed.to.clone(), moving, own).await? {
                    Some((value, expiry)) => Some(Kept::new(&*self.storage, &value, expiry).await?),
                    None => None,
                }
            }
        };
        let arrived = Signpost::InTransit {
            from: departed.from.as_str().to_owned(),
            to: departed.to.as_str().to_owned(),
            id: departed.id.clone(),
            trip: departed.trip.clone(),
            data,
        };
        let condition = at_version(expecting.at.clone())?;
        self.put_up(&departed.to, &arrived, Expiry::Never, condition).await
    }

    /// Step 4 or 5, of a session that has arrived.
    async fn settle(&self, arrived: &Transit) -> Result<()> {
        match self.look(&arrived.from).await? {
            Sight::Departed(departed) if departed.trip == arrived.trip => {
                self.leave_signpost(&departed).await
            }
            _ => self.unwrap(&arrived.to, arrived).await,
        }
    }

    /// Step 4.
    async fn leave_signpost(&self, departed: &Transit) -> Result<()> {
        let moved = Signpost::Moved { to: departed.to.as_str().to_owned(), id: departed.trip.clone() };
        self.put_up(&departed.from, &moved, self.signposts, at_version(departed.at.clone())?).await
    }

    /// Step 5; or back, before step 3.
    async fn unwrap(&self, key: &Key, transit: &Transit) -> Result<()> {
        self.restore(key, transit.data.as_ref(), transit.at.clone()).await
    }

    /// Back, before step 2.
    async fn call_off(&self, expecting: &Expecting) -> Result<()> {
        self.restore(&expecting.new, expecting.own.as_ref(), expecting.at.clone()).await
    }

    /// The same, if it leads in a circle. What was read before the *expecting* may have changed since, so
    /// that is seen only now: while it stands, nobody can come to lead to it.
    async fn break_circle(&self, expecting: &Expecting) -> Result<()> {
        if expecting.own.is_some() || self.leads(&expecting.from, &expecting.new).await? == Some(true) {
            self.call_off(expecting).await?;
        }
        Ok(())
    }

    /// A move that cannot go on (the two sessions cannot be merged, or are too large together) must not
    /// keep a session from those who come to its key.
    async fn or_call_off(&self, expecting: &Expecting, outcome: Result<()>) -> Result<()> {
        if let Err(error) = &outcome
            && expecting.own.is_some()
            && !error.is_retryable()
            && error.kind() != ErrorKind::Closed
        {
            self.call_off(expecting).await?;
        }
        outcome
    }

    /// Puts a session in the place of the signpost that it is in.
    async fn restore(&self, key: &Key, kept: Option<&Kept>, at: Option<Version>) -> Result<()> {
        let condition = at_version(at)?;
        let done = match (self.lasting(kept).await?, condition) {
            (Some((value, left)), condition) => {
                self.storage.write_if(key, value, left, condition).await.map(drop)
            }
            (None, Condition::At(version)) => self.storage.delete_if(key, &version).await,
            (None, Condition::Absent) => Ok(()),
        };
        lost_race_is_fine(done)
    }

    /// A kept session, unless it is over.
    async fn lasting(&self, kept: Option<&Kept>) -> Result<Option<Lasting>> {
        let Some(kept) = kept else {
            return Ok(None);
        };
        Ok(match kept.left(&*self.storage).await? {
            Some(left) => Some((kept.bytes()?, left)),
            None => None,
        })
    }

    /// The time that the entry has left; `None` if there is no entry.
    pub(crate) async fn left(&self, key: &Key) -> Result<Option<Expiry>> {
        if self.storage.capabilities().expiry { self.storage.ttl(key).await } else { Ok(Some(Expiry::Never)) }
    }

    async fn put_up(
        &self,
        key: &Key,
        signpost: &Signpost,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<()> {
        lost_race_is_fine(self.storage.write_if(key, signpost.encode()?, expiry, condition).await.map(drop))
    }
}

impl fmt::Debug for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Road").field("storage", &self.storage).finish_non_exhaustive()
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
    Error::new(ErrorKind::Corrupt, "the signposts of moved sessions lead in a circle")
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
