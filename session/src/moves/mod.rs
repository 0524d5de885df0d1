//! Moves of sessions from one key to another.
//!
//! A move takes two keys, and no store changes two keys at once. So it consists of steps, each one
//! compare-and-swap of one key, and after each step both keys lead to the same session:
//!
//! 1. new: absent -> *incoming* from old. A reader of the new key goes on to the old one.
//! 2. old: session -> *moving* to new, with the session in it. There nobody can change it; a reader goes
//!    on with the move.
//! 3. new: incoming -> *moving*, with the session in it: it has arrived.
//! 4. old: moving -> *redirect* to new.
//! 5. new: moving -> the session.
//!
//! If there is no session to move, the same steps are taken without one. A process that dies between
//! two steps leaves a state that every other process can use, and from which the next one that needs to
//! goes on.
//!
//! Any number of processes may take these steps at once, and one may take a step long after it has
//! looked: a session that was absent, or the same, may have been something else in between. This keeps
//! that harmless:
//!
//! - The id of an *incoming* is never used again, and ends at the new key: by arrival (3), or because
//!   the move is called off. A departure (2) for an id that is no longer expected was too late, and is
//!   turned back: the session in it stays at the old key.
//! - That it was not too late is known from the *moving* at the new key, which stays until the one at
//!   the old key is gone (4 before 5).
//! - An *incoming* that is written too late, at the key to which the session has come in the meantime,
//!   leads in a circle that holds no session. It is called off.
//!
//! A session that was at the new key before, to be merged or to stay, waits in the *incoming*. Then a
//! reader does not go on to the old key but goes on with the move. Until the other session has arrived,
//! the two keys do not belong together yet, and the move can be called off.
//!
//! Only a *redirect* may expire. The other markers do not, because their absence would mean something.
//! So a session is only ever touched at the version that was read: a touch that comes after the session
//! has moved finds a marker there and changes nothing.

mod marker;
mod resolver;

pub(crate) use self::{
    marker::{Marker, is_marker, marked_key},
    resolver::{Found, Merge, Resolver},
};
