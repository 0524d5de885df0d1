//! A stand-in for Telegram: a local server that speaks the part of the Bot API that a bot of teloxide's
//! uses, and behind it the people who write to that bot.
//!
//! The bot is real, with its HTTP and its long polling; only <https://api.telegram.org> is not. What
//! the server answers is what <https://core.telegram.org/bots/api> says.

mod failure;
mod methods;
mod objects;
pub(crate) mod patience;
mod server;
mod shared;
mod updates;

use std::{io, sync::Arc};

use serde_json::{Value, json};
use teloxide::Bot;
use tokio::net::TcpListener;

use self::shared::Shared;
pub(crate) use self::{failure::Failure, shared::Sent};

/// The token of the one bot that it knows.
const TOKEN: &str = "5000000000:stand-in-for-the-token-of-a-bot";

/// Telegram, as the people see it. Clones are the same Telegram.
#[derive(Clone)]
pub(crate) struct Telegram {
    shared: Arc<Shared>,
    bot: Bot,
}

impl Telegram {
    /// Starts the server, on a port of its own. It runs until the runtime ends.
    pub(crate) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?).parse().map_err(io::Error::other)?;
        // A proxy between this machine and itself would be a mistake.
        let client =
            teloxide::net::default_reqwest_settings().no_proxy().build().map_err(io::Error::other)?;
        let bot = Bot::with_client(TOKEN, client).set_api_url(url);
        let shared = Arc::new(Shared::default());
        tokio::spawn(server::serve(listener, Arc::clone(&shared)));
        Ok(Self { shared, bot })
    }

    /// The bot that the people write to.
    pub(crate) fn bot(&self) -> Bot {
        self.bot.clone()
    }

    /// Somebody writes to the bot: in a private chat the user that it is with, in a group a member. Returns
    /// the update's id, as all of these do.
    pub(crate) fn message(&self, chat: i64, text: &str) -> u32 {
        self.message_in_group(chat, objects::somebody_in(chat), text)
    }

    /// A particular user writes in a group.
    pub(crate) fn message_in_group(&self, group: i64, user: i64, text: &str) -> u32 {
        self.shared.change(|state| {
            let message = state.message(group, objects::user(user), objects::text(text));
            state.update(json!({ "message": message }))
        })
    }

    /// Somebody presses the button with this label, on the last keyboard in the chat that has it.
    ///
    /// If there is none that this server has seen, the keyboard is an older one, of which Telegram tells the
    /// bot nothing but the chat and the button's data. They are taken to be the label.
    pub(crate) fn press(&self, chat: i64, label: &str) -> u32 {
        self.press_in_group(chat, objects::somebody_in(chat), label)
    }

    /// A particular user presses a button in a group.
    pub(crate) fn press_in_group(&self, group: i64, user: i64, label: &str) -> u32 {
        self.shared.change(|state| {
            let query = state.press(group, user, label);
            state.update(json!({ "callback_query": query }))
        })
    }

    /// A group becomes a supergroup. Telegram says so in both, here first in the group; the id
    /// is that of the second update. Whatever the bot still sends to the group is refused.
    pub(crate) fn migrate(&self, group: i64, supergroup: i64) -> u32 {
        self.shared.change(|state| {
            let admin = objects::user(objects::somebody_in(group));
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

    /// Any update, such as `{"poll": {…}}`; its `update_id` is assigned here. One of a kind that the bot has
    /// not asked for is dropped, as Telegram does.
    pub(crate) fn update(&self, update: Value) -> u32 {
        self.shared.change(|state| state.update(update))
    }

    /// The next call of `method`, after those that are to fail already, fails, and does nothing.
    ///
    /// teloxide waits ten seconds after a failure of 500 or more.
    pub(crate) fn fail_next(&self, method: &str, failure: Failure) {
        self.shared.change(|state| state.failures.push_back((method.to_owned(), failure)));
    }

    /// Waits for the next message of the bot; there is none after [`close`](Self::close).
    pub(crate) async fn sent(&self) -> Option<Sent> {
        self.shared
            .wait_for(|state| match state.sent.pop_front() {
                None if !state.closed => None,
                sent => Some(sent),
            })
            .await
    }

    /// Waits until the bot has received all updates, and asks for more. What it has received it may still
    /// be handling.
    ///
    /// This is the moment to shut a dispatcher down: one that is not waiting for updates may miss that it
    /// shall.
    pub(crate) async fn idle(&self) {
        self.shared.wait_for(|state| state.updates.is_idle().then_some(())).await;
    }

    /// The bot is done: nobody needs to wait for its messages any longer.
    pub(crate) fn close(&self) {
        self.shared.change(|state| state.closed = true);
    }
}
