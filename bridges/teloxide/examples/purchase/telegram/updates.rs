//! The queue of updates; <https://core.telegram.org/bots/api#getting-updates>.

use std::collections::VecDeque;

use serde_json::Value;

use super::Failure;

/// The id of the first one.
const FIRST: u32 = 500_000_001;

/// What a bot that says nothing else is not sent.
const ONLY_IF_ASKED_FOR: [&str; 3] = ["chat_member", "message_reaction", "message_reaction_count"];

const CONFLICT: &str = "Conflict: terminated by other getUpdates request; \
                        make sure that only one bot instance is running";

#[derive(Default)]
pub(super) struct Updates {
    /// Those that the bot has not confirmed, oldest first.
    pending: VecDeque<(u32, Value)>,
    count: u32,
    /// What the bot has asked for; all of the usual ones if it is empty.
    allowed: Vec<String>,
    /// How often the bot has asked.
    polls: u64,
    /// The poll that is being answered, or waits for updates.
    waiting: Option<u64>,
}

impl Updates {
    /// Queues an update, unless the bot has said that it wants none of its kind.
    pub(super) fn push(&mut self, mut update: Value) -> u32 {
        let id = FIRST + self.count;
        if update.as_object().is_some_and(|fields| fields.keys().all(|kind| self.is_allowed(kind))) {
            self.count += 1;
            update["update_id"] = id.into();
            self.pending.push_back((id, update));
        }
        id
    }

    fn is_allowed(&self, kind: &str) -> bool {
        if self.allowed.is_empty() {
            !ONLY_IF_ASKED_FOR.contains(&kind)
        } else {
            self.allowed.iter().any(|allowed| allowed == kind)
        }
    }

    /// Only updates that are yet to come are chosen by it.
    pub(super) fn allow(&mut self, kinds: Vec<String>) {
        self.allowed = kinds;
    }

    /// The bot asks for updates. A positive offset confirms all before it, a negative one all but so many.
    pub(super) fn begin_poll(&mut self, offset: i64) -> u64 {
        if offset < 0 {
            let kept = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
            self.pending.drain(..self.pending.len().saturating_sub(kept));
        } else {
            self.pending.retain(|(id, _)| i64::from(*id) >= offset);
        }
        self.polls += 1;
        self.waiting = Some(self.polls);
        self.polls
    }

    /// What to answer to a poll; nothing as long as it has to wait.
    pub(super) fn answer(&self, poll: u64, limit: u64) -> Option<Result<Value, Failure>> {
        if poll != self.polls {
            return Some(Err(Failure::new(409, CONFLICT)));
        }
        let batch: Vec<_> = (0..limit).zip(&self.pending).map(|(_, (_, update))| update.clone()).collect();
        (!batch.is_empty()).then(|| Ok(batch.into()))
    }

    pub(super) fn end_poll(&mut self, poll: u64) {
        self.waiting.take_if(|waiting| *waiting == poll);
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn forget(&mut self) {
        self.pending.clear();
    }

    pub(super) fn is_confirmed(&self, update: u32) -> bool {
        self.pending.front().is_none_or(|(first, _)| *first > update)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_some() && self.pending.is_empty()
    }
}
