//! What the entries of sessions, moves, leases and owners contain. Written from the documentation of the layouts, and
//! not with the code of the sessions.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The prefix of the sessions.
pub(crate) const PREFIX: &str = "s:";

/// The names of the keys. Of each two, the index of owners keeps the sessions in one bucket.
pub(crate) const NAMES: [&str; 4] = ["0", "19", "1", "29"];

/// A session: the ids of all updates that it has had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Chat {
    pub(crate) owner: Option<String>,
    pub(crate) updates: Vec<u64>,
}

impl Chat {
    /// The session that `moved` and `own` are merged to.
    pub(crate) fn merged(moved: Self, own: Self) -> Self {
        let updates = moved.updates.into_iter().chain(own.updates).collect();
        Self { owner: moved.owner.or(own.owner), updates }
    }
}

/// The content of an entry.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    Session(Arc<Chat>),
    Redirect {
        to: String,
    },
    Incoming {
        from: String,
        own: Option<Carried>,
    },
    Moving {
        to: String,
        trip: String,
        data: Option<Carried>,
    },
    Held {
        token: Option<u64>,
    },
    /// The sessions that a bucket names, and until when.
    Bucket(Vec<(String, Option<i64>)>),
    Other,
}

/// A session in a marker.
#[derive(Clone, Debug)]
pub(crate) struct Carried {
    pub(crate) chat: Arc<Chat>,
    pub(crate) timer: Option<String>,
    pub(crate) until: Option<i64>,
}

impl Stored {
    /// Parses the entry at `key`. Returns `None` if it is damaged.
    pub(crate) fn parse(key: &str, value: &[u8]) -> Option<Self> {
        if key.starts_with("lease:held:") {
            let value: Value = serde_json::from_slice(value).ok()?;
            return Some(Self::Held { token: value.get("token")?.as_u64() });
        }
        if key.starts_with("larder:owner:") {
            let value: Value = serde_json::from_slice(value).ok()?;
            let noted = |noted: &Value| {
                Some((noted.get("key")?.as_str()?.to_owned(), noted.get("until").and_then(Value::as_i64)))
            };
            return value
                .get("sessions")?
                .as_array()?
                .iter()
                .map(noted)
                .collect::<Option<_>>()
                .map(Self::Bucket);
        }
        if !key.starts_with(PREFIX) {
            return Some(Self::Other);
        }
        let value: BTreeMap<String, Value> = serde_json::from_slice(value).ok()?;
        let Some(marker) = value.get("__larder") else {
            return chat(value).map(Self::Session);
        };
        let (kind, fields) = marker.as_object()?.iter().next()?;
        let text = |name: &str| Some(fields.get(name)?.as_str()?.to_owned());
        Some(match kind.as_str() {
            "moved" => Self::Redirect { to: text("to")? },
            "expecting" => Self::Incoming { from: text("from")?, own: carried(fields.get("own")?)? },
            "in_transit" => {
                Self::Moving { to: text("to")?, trip: text("trip")?, data: carried(fields.get("data")?)? }
            }
            _ => return None,
        })
    }
}

/// A session, with or without an envelope.
fn chat(mut value: BTreeMap<String, Value>) -> Option<Arc<Chat>> {
    let data = value.remove("__d").unwrap_or_else(|| Value::Object(value.into_iter().collect()));
    serde_json::from_value(data).ok().map(Arc::new)
}

fn carried(value: &Value) -> Option<Option<Carried>> {
    if value.is_null() {
        return Some(None);
    }
    let bytes = STANDARD.decode(value.get("data")?.as_str()?).ok()?;
    Some(Some(Carried {
        chat: chat(serde_json::from_slice(&bytes).ok()?)?,
        timer: value.get("timer")?.as_str().map(str::to_owned),
        until: value.get("until")?.as_i64(),
    }))
}
