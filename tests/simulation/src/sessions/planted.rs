//! The sessions with planted bugs; see `build/sessions.rs`. Each edit asks [`is`] whether its bug is planted in the current run,
//! so all bugs need one more compilation of the sources.

use std::cell::Cell;

use super::Bug;

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug in the runs of this thread.
pub(crate) fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether the bug is planted.
pub(crate) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

include!(concat!(env!("OUT_DIR"), "/sessions.rs"));
