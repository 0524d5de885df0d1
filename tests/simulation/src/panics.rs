//! Panics of the code under test. Tokio catches those of tasks, also of the tasks that a library spawns.

use std::{cell::Cell, panic, sync::Once};

thread_local! {
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// Notes panics from here. The injected panics of a store are not noted, because they start with `resume_unwind`.
pub(crate) fn watch() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            PANICKED.set(true);
            hook(panic);
        }));
    });
    PANICKED.set(false);
}

/// Whether this thread has panicked since the last call.
pub(crate) fn panicked() -> bool {
    PANICKED.take()
}
