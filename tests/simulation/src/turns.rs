//! The points at which a future lets others run.

use std::task::Poll;

/// Lets other tasks run `times` times. Works without a runtime.
pub(crate) async fn step_aside(times: usize) {
    for _ in 0..times {
        let mut waited = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}
