//! What Telegram knows, and who waits for it to change.

use std::collections::{HashMap, HashSet, VecDeque};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{Failure, objects, updates::Updates};

#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) updates: Updates,
    /// What the bot has sent and nobody has looked at.
    pub(super) sent: VecDeque<Sent>,
    pub(super) closed: bool,
    /// The calls that are to fail: the method, and how.
    pub(super) failures: VecDeque<(String, Failure)>,
    /// The chats that the bot can write to: where something has happened.
    pub(super) chats: HashSet<i64>,
    /// The groups that have become supergroups, and which.
    pub(super) migrated: HashMap<i64, i64>,
    /// The messages of the bot with an inline keyboard, by chat, the last one last.
    pub(super) keyboards: HashMap<i64, Vec<Value>>,
    /// The callback queries that the bot has yet to answer.
    pub(super) queries: HashSet<String>,
    /// How many messages and queries there were; it numbers them.
    count: u64,
}

/// A message of the bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) chat: i64,
    pub(crate) text: String,
    /// The labels of its inline keyboard, row by row.
    pub(crate) buttons: Vec<String>,
}

impl Shared {
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let outcome = change(&mut self.state.lock());
        self.changed.notify_waiters();
        outcome
    }

    /// Waits until `ready` finds in the state what it looks for; it can take it from there.
    pub(super) async fn wait_for<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            // Before it looks, so that it misses no change.
            let changed = self.changed.notified();
            if let Some(found) = ready(&mut self.state.lock()) {
                return found;
            }
            changed.await;
        }
    }
}

impl State {
    pub(super) fn next_number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// A new message in `chat`, with `content` in it.
    pub(super) fn message(&mut self, chat: i64, from: Value, content: Value) -> Value {
        let number = self.next_number();
        objects::message(number, chat, from, content)
    }

    pub(super) fn update(&mut self, update: Value) -> u32 {
        self.chats.extend(objects::chat_of(&update));
        self.updates.push(update)
    }

    /// The callback query of a press; <https://core.telegram.org/bots/api#callbackquery>.
    pub(super) fn press(&mut self, chat: i64, user: i64, label: &str) -> Value {
        let mut keyboards = self.keyboards.get(&chat).into_iter().flatten().rev();
        let pressed = keyboards.find_map(|message| Some((message, objects::button_data(message, label)?)));
        let (message, data) = match pressed {
            Some((message, data)) => (message.clone(), data.to_owned()),
            None => (objects::inaccessible_message(chat), label.to_owned()),
        };
        let id = self.next_number().to_string();
        self.queries.insert(id.clone());
        json!({
            "id": id,
            "from": objects::user(user),
            "message": message,
            "chat_instance": chat.to_string(),
            "data": data,
        })
    }

    pub(super) fn failure_of(&mut self, method: &str) -> Option<Failure> {
        let next = self.failures.iter().position(|(failing, _)| failing.eq_ignore_ascii_case(method))?;
        self.failures.remove(next).map(|(_, failure)| failure)
    }
}
