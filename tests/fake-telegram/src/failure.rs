//! The answer of a method that fails.

use serde_json::{Value, json};

/// An error that a method returns; <https://core.telegram.org/bots/api#making-requests>.
#[derive(Clone, Debug)]
pub struct Failure {
    pub(crate) code: u16,
    description: String,
    /// <https://core.telegram.org/bots/api#responseparameters>
    parameters: Option<Value>,
}

impl Failure {
    /// Returns an error with this code and description.
    pub fn new(code: u16, description: impl Into<String>) -> Self {
        Self { code, description: description.into(), parameters: None }
    }

    /// Returns the error of too many requests: the bot has to wait.
    #[must_use]
    pub fn retry_after(seconds: u32) -> Self {
        Self {
            parameters: Some(json!({ "retry_after": seconds })),
            ..Self::new(429, format!("Too Many Requests: retry after {seconds}"))
        }
    }

    pub(crate) fn bad_request(description: &str) -> Self {
        Self::new(400, format!("Bad Request: {description}"))
    }

    pub(crate) fn migrated(supergroup: i64) -> Self {
        Self {
            parameters: Some(json!({ "migrate_to_chat_id": supergroup })),
            ..Self::bad_request("group chat was upgraded to a supergroup chat")
        }
    }

    pub(crate) fn body(&self) -> Value {
        let mut body = json!({ "ok": false, "error_code": self.code, "description": self.description });
        if let Some(parameters) = &self.parameters {
            body["parameters"] = parameters.clone();
        }
        body
    }
}
