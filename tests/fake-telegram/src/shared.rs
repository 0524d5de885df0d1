//! The state of the server.

use std::collections::{HashMap, HashSet, VecDeque};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{Failure, objects, updates::Updates};

#[derive(Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) updates: Updates,
    /// The messages of the bot that no test has looked at.
    pub(crate) sent: VecDeque<Sent>,
    /// The next failures: the method, and its answer.
    pub(crate) failures: VecDeque<(String, Failure)>,
    /// The chats that the bot can write to: those with an update.
    pub(crate) chats: HashSet<i64>,
    /// The groups that became supergroups, and the ids of those.
    pub(crate) migrated: HashMap<i64, i64>,
    /// The messages of the bot with an inline keyboard, by chat, the last one last.
    pub(crate) keyboards: HashMap<i64, Vec<Value>>,
    /// The callback queries that the bot has yet to answer.
    pub(crate) queries: HashSet<String>,
    /// The number of messages and queries so far; it numbers them.
    count: u64,
}

/// A message of the bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The id of the chat.
    pub chat: i64,
    /// The text.
    pub text: String,
    /// The labels of its inline keyboard, row by row.
    pub buttons: Vec<String>,
}

impl Shared {
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let outcome = change(&mut self.state.lock());
        self.changed.notify_waiters();
        outcome
    }

    /// Waits until `ready` returns a value.
    pub(crate) async fn wait_for<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            // Before the check, so that no change is missed.
            let changed = self.changed.notified();
            if let Some(found) = ready(&mut self.state.lock()) {
                return found;
            }
            changed.await;
        }
    }
}

impl State {
    pub(crate) fn next_number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// A new message in `chat`, with `content` in it.
    pub(crate) fn message(&mut self, chat: i64, from: Value, content: Value) -> Value {
        let number = self.next_number();
        objects::message(number, chat, from, content)
    }

    pub(crate) fn update(&mut self, update: Value) -> u32 {
        self.chats.extend(objects::chat_of(&update));
        self.updates.push(update)
    }

    /// The callback query of a press; <https://core.telegram.org/bots/api#callbackquery>.
    pub(crate) fn press(&mut self, chat: i64, user: i64, label: &str) -> Value {
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

    pub(crate) fn failure_of(&mut self, method: &str) -> Option<Failure> {
        let next = self.failures.iter().position(|(failing, _)| failing.eq_ignore_ascii_case(method))?;
        self.failures.remove(next).map(|(_, failure)| failure)
    }
}
