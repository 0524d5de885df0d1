//! The methods of a bot; <https://core.telegram.org/bots/api#available-methods>.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::{
    Failure, objects,
    shared::{Sent, Shared, State},
};

type Parameters = Map<String, Value>;

/// The longest text of a message.
const MAX_TEXT: usize = 4096;

/// The largest number of updates in the answer to a poll.
const MAX_UPDATES: u64 = 100;

/// The longest wait of a poll, in seconds.
const MAX_TIMEOUT: u64 = 50;

pub(crate) fn get_me() -> Value {
    objects::bot()
}

/// The bot polls, so it has no webhook.
pub(crate) fn get_webhook_info(shared: &Shared) -> Value {
    let pending = shared.change(|state| state.updates.pending());
    json!({ "url": "", "has_custom_certificate": false, "pending_update_count": pending })
}

pub(crate) fn delete_webhook(shared: &Shared, parameters: &Parameters) -> Value {
    if parameters.get("drop_pending_updates") == Some(&Value::Bool(true)) {
        shared.change(|state| state.updates.forget());
    }
    true.into()
}

pub(crate) async fn get_updates(shared: &Shared, parameters: &Parameters) -> Result<Value, Failure> {
    let count = |name: &str| parameters.get(name).and_then(Value::as_u64);
    let limit = count("limit").map_or(MAX_UPDATES, |limit| limit.clamp(1, MAX_UPDATES));
    let wait = count("timeout").map_or(0, |seconds| seconds.min(MAX_TIMEOUT));
    let offset = parameters.get("offset").and_then(Value::as_i64).unwrap_or(0);
    let poll = Poll::begin(shared, offset, parameters.get("allowed_updates"));
    let answer = shared.wait_for(|state| state.updates.answer(poll.number, limit));
    timeout(Duration::from_secs(wait), answer).await.unwrap_or_else(|_| Ok(json!([])))
}

/// A call of `getUpdates`. It also ends when the bot disconnects.
struct Poll<'a> {
    shared: &'a Shared,
    number: u64,
}

impl<'a> Poll<'a> {
    fn begin(shared: &'a Shared, offset: i64, allowed: Option<&Value>) -> Self {
        let kinds = allowed
            .and_then(Value::as_array)
            .map(|kinds| kinds.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        let number = shared.change(|state| {
            if let Some(kinds) = kinds {
                state.updates.allow(kinds);
            }
            state.updates.begin_poll(offset)
        });
        Self { shared, number }
    }
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        self.shared.change(|state| state.updates.end_poll(self.number));
    }
}

pub(crate) fn send_message(shared: &Shared, parameters: &Parameters) -> Result<Value, Failure> {
    shared.change(|state| {
        let chat = chat(state, parameters)?;
        let text = parameters.get("text").and_then(Value::as_str).unwrap_or_default();
        if text.trim().is_empty() {
            return Err(Failure::bad_request("message text is empty"));
        }
        if text.chars().count() > MAX_TEXT {
            return Err(Failure::bad_request("message is too long"));
        }
        let mut message = state.message(chat, objects::bot_user(), objects::text(text));
        let buttons = parameters.get("reply_markup").map(objects::labels).unwrap_or_default();
        if !buttons.is_empty() {
            message["reply_markup"] = parameters["reply_markup"].clone();
            state.keyboards.entry(chat).or_default().push(message.clone());
        }
        state.sent.push_back(Sent { chat, text: text.to_owned(), buttons });
        Ok(message)
    })
}

pub(crate) fn send_chat_action(shared: &Shared, parameters: &Parameters) -> Result<Value, Failure> {
    shared.change(|state| chat(state, parameters))?;
    Ok(true.into())
}

pub(crate) fn answer_callback_query(shared: &Shared, parameters: &Parameters) -> Result<Value, Failure> {
    let id = parameters.get("callback_query_id").and_then(Value::as_str).unwrap_or_default();
    if shared.change(|state| state.queries.remove(id)) {
        Ok(true.into())
    } else {
        Err(Failure::bad_request("query is too old and response timeout expired or query ID is invalid"))
    }
}

/// The chat of a call.
fn chat(state: &State, parameters: &Parameters) -> Result<i64, Failure> {
    let id = parameters.get("chat_id").ok_or_else(|| Failure::bad_request("chat_id is empty"))?;
    let id = id.as_i64().filter(|id| state.chats.contains(id));
    let id = id.ok_or_else(|| Failure::bad_request("chat not found"))?;
    state.migrated.get(&id).map_or(Ok(id), |supergroup| Err(Failure::migrated(*supergroup)))
}
