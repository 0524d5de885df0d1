//! The bot's answers and its sessions.

use larder_session::{Result, Sessions};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

const HELP: &str = "Send me a 🍕 and I count it. /hunger shows the count, /reset deletes it.";

/// The session of a chat. It is stored as `{"pizzaCount":1}` under the chat's id, as by the bot in grammY's
/// documentation, so that this bot can continue its sessions.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chat {
    pizza_count: u64,
    /// All other stored fields, so that they are not lost.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

pub(crate) struct Bot {
    chats: Sessions<Chat>,
}

impl Bot {
    pub(crate) fn new(storage: larder::Store) -> Result<Self> {
        Ok(Self { chats: Sessions::new(storage)? })
    }

    /// Returns the answer to `text` in a chat.
    pub(crate) async fn answer(&self, chat: i64, text: &str) -> Result<String> {
        match text {
            "/hunger" => self.hunger(chat).await,
            "/reset" => self.reset(chat).await,
            _ if text.contains('🍕') => self.count(chat).await,
            _ => Ok(HELP.to_owned()),
        }
    }

    async fn count(&self, chat: i64) -> Result<String> {
        let pizzas = self
            .chats
            .modify(chat, |session| {
                session.pizza_count += 1;
                session.pizza_count
            })
            .await?;
        Ok(format!("That makes {pizzas} 🍕."))
    }

    /// Reads without an update, so that a question does not create a session.
    async fn hunger(&self, chat: i64) -> Result<String> {
        let pizzas = self.chats.with(chat, |session| session.pizza_count).await?;
        Ok(format!("Your hunger level is {pizzas}!"))
    }

    async fn reset(&self, chat: i64) -> Result<String> {
        self.chats.delete(chat).await?;
        Ok("All 🍕 are forgotten.".to_owned())
    }

    pub(crate) async fn close(&self) -> Result<()> {
        self.chats.storage().close().await
    }
}
