//! The queue of updates; <https://core.telegram.org/bots/api#getting-updates>.

use std::collections::VecDeque;

use serde_json::Value;

use crate::Failure;

/// The id of the first update.
const FIRST: u32 = 500_000_001;

/// The kinds of updates that a bot receives only if it asks for them.
const ONLY_IF_ASKED_FOR: [&str; 3] = ["chat_member", "message_reaction", "message_reaction_count"];

const CONFLICT: &str = "Conflict: terminated by other getUpdates request; \
                        make sure that only one bot instance is running";

#[derive(Default)]
pub(crate) struct Updates {
    /// The updates that the bot has not confirmed, oldest first.
    pending: VecDeque<(u32, Value)>,
    count: u32,
    /// The kinds that the bot has asked for; if empty, the default ones.
    allowed: Vec<String>,
    /// The number of polls so far.
    polls: u64,
    /// The poll that is open.
    waiting: Option<u64>,
}

impl Updates {
    /// Queues an update, unless the bot does not receive its kind.
    pub(crate) fn push(&mut self, mut update: Value) -> u32 {
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

    /// Applies to updates that are queued later.
    pub(crate) fn allow(&mut self, kinds: Vec<String>) {
        self.allowed = kinds;
    }

    /// Begins a poll. A positive offset confirms all updates before it; -n confirms all but the last n.
    pub(crate) fn begin_poll(&mut self, offset: i64) -> u64 {
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

    /// The answer to a poll; `None` while it waits.
    pub(crate) fn answer(&self, poll: u64, limit: u64) -> Option<Result<Value, Failure>> {
        if poll != self.polls {
            return Some(Err(Failure::new(409, CONFLICT)));
        }
        let batch: Vec<_> = (0..limit).zip(&self.pending).map(|(_, (_, update))| update.clone()).collect();
        (!batch.is_empty()).then(|| Ok(batch.into()))
    }

    pub(crate) fn end_poll(&mut self, poll: u64) {
        self.waiting.take_if(|waiting| *waiting == poll);
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn forget(&mut self) {
        self.pending.clear();
    }

    pub(crate) fn is_confirmed(&self, update: u32) -> bool {
        self.pending.front().is_none_or(|(first, _)| *first > update)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_some() && self.pending.is_empty()
    }
}
