//! Converts panics to messages with their place.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind},
    pin::pin,
    sync::Once,
    task::Poll,
};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `future`. A panic in it becomes an `Err` with its message and place.
pub(crate) async fn guarded<T>(future: impl Future<Output = T>) -> Result<T, String> {
    note_panics();
    let mut future = pin!(future);
    poll_fn(move |context| {
        let outside = GUARDED.replace(true);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        GUARDED.set(outside);
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(LAST_PANIC.take().unwrap_or_else(|| "the case panicked".to_owned()))),
        }
    })
    .await
}

/// Stores the message and place of a panic in a guarded future for the report. The panic is not printed between
/// the lines of other cases, unless `RUST_BACKTRACE=full` is set.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value == "full");
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
            if GUARDED.get() {
                let message = panic.payload_as_str().unwrap_or("the case panicked");
                let place = panic.location().map(|place| format!("\n  at {place}")).unwrap_or_default();
                LAST_PANIC.set(Some(format!("{message}{place}")));
            }
            if print || !GUARDED.get() {
                previous(panic);
            }
        }));
    });
}
