//! How tests wait: until it happens, but not for ever.

use std::time::Duration;

use tokio::time::timeout;

use super::{Sent, Telegram};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for `future`.
///
/// # Panics
///
/// If it takes suspiciously long; the panic says what did.
#[allow(clippy::panic)] // Only tests call it, and a test fails by panicking.
pub(crate) async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

impl Telegram {
    /// The next message of the bot.
    #[allow(clippy::panic)] // As above.
    pub(crate) async fn next_sent(&self) -> Sent {
        let sent = patiently("a message of the bot", self.sent()).await;
        sent.unwrap_or_else(|| panic!("the bot was done before it sent another message"))
    }

    /// The bot has received the update, and said so.
    pub(crate) async fn confirmed(&self, update: u32) {
        let confirmed = self.shared.wait_for(|state| state.updates.is_confirmed(update).then_some(()));
        patiently(&format!("the bot to confirm update {update}"), confirmed).await;
    }
}
