//! Standard output and standard error.

use std::io::{self, BufWriter, Stdout, Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use larder::{Expiry, Key, Record};
use serde_json::{Map, Value, json};

/// Prints a line on standard error. If this fails, only the exit code remains.
pub(super) fn say(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "larder: {text}");
}

/// Buffered standard output.
pub(super) struct Output(BufWriter<Stdout>);

impl Output {
    pub(super) fn stdout() -> Self {
        Self(BufWriter::new(io::stdout()))
    }

    pub(super) fn line(&mut self, text: impl std::fmt::Display) -> io::Result<()> {
        writeln!(self.0, "{text}")
    }

    /// Writes a value unchanged. On a terminal, a line feed follows.
    pub(super) fn value(&mut self, value: &[u8]) -> io::Result<()> {
        self.0.write_all(value)?;
        if io::IsTerminal::is_terminal(self.0.get_ref()) {
            self.0.write_all(b"\n")?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The time to live in milliseconds, or null if the entry does not expire.
pub(super) fn ttl_ms(expiry: Option<Expiry>) -> Value {
    json!(expiry.and_then(Expiry::as_millis))
}

/// An entry as one line of JSON. A value that is JSON keeps its text.
pub(super) fn entry_json(key: &Key, record: &Record) -> serde_json::Result<String> {
    let value = &record.value;
    let head = json!({ "key": key.as_str(), "ttl_ms": ttl_ms(record.expiry) }).to_string();
    let head = &head[..head.len() - 1];
    match serde_json::from_slice::<&serde_json::value::RawValue>(value) {
        // JSON has line feeds only between tokens, where a space is equivalent.
        Ok(raw) => Ok(format!("{head},\"value\":{}}}", raw.get().replace(['\n', '\r'], " "))),
        Err(_) => {
            let mut rest = Map::new();
            rest.insert("value_base64".to_owned(), Value::String(STANDARD.encode(value)));
            let rest = serde_json::to_string(&rest)?;
            Ok(format!("{head},{}", &rest[1..]))
        }
    }
}
