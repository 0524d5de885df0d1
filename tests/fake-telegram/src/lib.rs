//! A fake Telegram for tests: a local server with the part of the Bot API that teloxide's bots use, and the
//! users who write to the bot.
//!
//! The bot is real, with its HTTP and its long polling; only <https://api.telegram.org> is replaced. The
//! server's answers follow <https://core.telegram.org/bots/api>.
//!
//! ```
//! use larder_fake_telegram::Telegram;
//! use teloxide::{requests::Requester, types::ChatId};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let telegram = Telegram::start().await?;
//! telegram.message(42, "/start");
//! telegram.bot().send_message(ChatId(42), "Hello!").await?;
//! assert_eq!(telegram.next_sent().await.text, "Hello!");
//! # Ok(())
//! # }
//! ```

mod failure;
mod methods;
mod objects;
mod server;
mod shared;
mod timeout;
mod updates;

use std::{fmt, io, sync::Arc};

use serde_json::{Value, json};
use teloxide::Bot;
use tokio::net::TcpListener;

use self::shared::Shared;
pub use self::{failure::Failure, shared::Sent, timeout::within_a_minute};

/// The token of the only bot that the server knows.
pub const TOKEN: &str = "5000000000:the-token-of-a-bot-in-tests";

/// A running server. Clones share it.
#[derive(Clone)]
pub struct Telegram {
    shared: Arc<Shared>,
    bot: Bot,
}

impl Telegram {
    /// Starts a server on a free port. It runs until the runtime shuts down.
    ///
    /// # Errors
    ///
    /// If no port is free.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?).parse().map_err(io::Error::other)?;
        // The machine's proxy does not apply to a local server.
        let client =
            teloxide::net::default_reqwest_settings().no_proxy().build().map_err(io::Error::other)?;
        let bot = Bot::with_client(TOKEN, client).set_api_url(url);
        let shared = Arc::new(Shared::default());
        tokio::spawn(server::serve(listener, Arc::clone(&shared)));
        Ok(Self { shared, bot })
    }

    /// Returns a bot that is logged in to this server.
    pub fn bot(&self) -> Bot {
        self.bot.clone()
    }

    /// Returns the server's URL, for `TELOXIDE_API_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        self.bot.api_url().to_string()
    }

    /// Sends the bot a message: from the user of a private chat, or from a member of a group. Returns the id
    /// of the update, as the following methods do.
    pub fn message(&self, chat: i64, text: &str) -> u32 {
        self.message_in_group(chat, objects::default_user_of(chat), text)
    }

    /// Sends the bot a message from a user in a group.
    pub fn message_in_group(&self, group: i64, user: i64, text: &str) -> u32 {
        self.shared.change(|state| {
            let message = state.message(group, objects::user(user), objects::text(text));
            state.update(json!({ "message": message }))
        })
    }

    /// Presses the button with this label, on the last keyboard in the chat that has it.
    ///
    /// Without such a keyboard the button belongs to an older message. Telegram then sends the bot only the
    /// chat and the data of the button, which is the label here.
    pub fn press(&self, chat: i64, label: &str) -> u32 {
        self.press_in_group(chat, objects::default_user_of(chat), label)
    }

    /// Presses a button as a user in a group.
    pub fn press_in_group(&self, group: i64, user: i64, label: &str) -> u32 {
        self.shared.change(|state| {
            let query = state.press(group, user, label);
            state.update(json!({ "callback_query": query }))
        })
    }

    /// Turns a group into a supergroup. Telegram sends an update in both chats, here in the group first, and
    /// rejects messages to the group from then on. Returns the id of the second update.
    pub fn migrate(&self, group: i64, supergroup: i64) -> u32 {
        self.shared.change(|state| {
            let admin = objects::user(objects::default_user_of(group));
            let to = state.message(group, admin, json!({ "migrate_to_chat_id": supergroup }));
            let from = state.message(
                supergroup,
                objects::anonymous_admin(),
                json!({ "migrate_from_chat_id": group, "sender_chat": objects::chat(supergroup) }),
            );
            state.migrated.insert(group, supergroup);
            state.update(json!({ "message": to }));
            state.update(json!({ "message": from }))
        })
    }

    /// Sends the bot an update of any kind, such as `{"poll": {…}}`; the `update_id` is set here. As on
    /// Telegram, an update of a kind that the bot has not asked for is dropped.
    pub fn update(&self, update: Value) -> u32 {
        self.shared.change(|state| state.update(update))
    }

    /// Makes the next call of `method` fail without an effect. Several failures of a method happen in order.
    ///
    /// teloxide waits ten seconds after a failure with the code 500 or higher.
    pub fn fail_next(&self, method: &str, failure: Failure) {
        self.shared.change(|state| state.failures.push_back((method.to_owned(), failure)));
    }

    /// Waits for the next message that the bot sends.
    ///
    /// # Panics
    ///
    /// If the bot sends none within a minute.
    pub async fn next_sent(&self) -> Sent {
        let sent = self.shared.wait_for(|state| state.sent.pop_front());
        within_a_minute("a message of the bot", sent).await
    }

    /// Waits until the bot has received all updates and polls for more. It may still be handling some of
    /// them.
    ///
    /// Shut a dispatcher down only then: one that is not polling may miss the signal.
    ///
    /// # Panics
    ///
    /// If that takes longer than a minute.
    pub async fn idle(&self) {
        let idle = self.shared.wait_for(|state| state.updates.is_idle().then_some(()));
        within_a_minute("the bot to poll", idle).await;
    }

    /// Returns whether the bot has received all updates and polls for more.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.shared.change(|state| state.updates.is_idle())
    }

    /// Waits until the bot has confirmed the update with this id.
    ///
    /// # Panics
    ///
    /// If that takes longer than a minute.
    pub async fn confirmed(&self, update: u32) {
        let confirmed = self.shared.wait_for(|state| state.updates.is_confirmed(update).then_some(()));
        within_a_minute("the bot to confirm an update", confirmed).await;
    }
}

impl fmt::Debug for Telegram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telegram").field("url", &self.url()).finish_non_exhaustive()
    }
}
