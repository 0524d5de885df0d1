//! Moves of sessions from one key to another.
//!
//! A move involves two keys, and no store changes two keys atomically. So it consists of steps. Each step is
//! one compare-and-swap of one key, and after each step both keys lead to the same session:
//!
//! 1. new: absent -> *incoming* from old. A reader of the new key continues at the old one.
//! 2. old: session -> *moving* to new, with the session in it. The session cannot be changed there; a reader
//!    continues the move.
//! 3. new: incoming -> *moving*, with the session in it: it has arrived.
//! 4. old: moving -> *redirect* to new.
//! 5. new: moving -> the session.
//!
//! Without a session to move, the steps are the same. A process that dies between two steps leaves a state
//! that all other processes understand; the next reader continues from it.
//!
//! Any number of processes can run these steps concurrently, and a step can come long after its read: in the
//! meantime, an absent or equal session may have been different (ABA). Three rules make this safe:
//!
//! - The id of an *incoming* is used once, and ends at the new key: by arrival (3), or because the move is
//!   cancelled. A departure (2) for an id that is not expected any more was too late. It is reverted, and the
//!   session stays at the old key.
//! - A *moving* at the new key proves that the departure was in time. It stays until the *moving* at the old
//!   key is gone (4 before 5).
//! - An *incoming* that is written too late, at the key to which the session has moved in the meantime, leads
//!   in a circle without a session. It is cancelled.
//!
//! A session that already was at the new key, to be merged or to stay, waits in the *incoming*. Then a reader
//! continues the move, instead of continuing at the old key. Until the other session has arrived, the two
//! keys are still separate, and the move can be cancelled.
//!
//! Only a *redirect* can expire. The absence of the other markers has a meaning, so they do not expire. For
//! the same reason, a session is only touched at the version that was read: if it has moved since, the touch
//! finds a marker and changes nothing.

mod marker;
mod resolver;

pub(crate) use self::{
    marker::{Marker, is_marker, marked_key},
    resolver::{Found, Merge, Resolver},
};
