//! The devices of a user: the owner and the label of each session.

use std::collections::HashMap;

use axum::http::{HeaderMap, header};
use larder::Store;
use larder_tower_sessions::LarderStore;
use serde_json::Value;

/// The name of the label in a session.
pub(crate) const DEVICE: &str = "device";

/// The most devices of a user. The next sign-in signs out the oldest.
const PER_USER: usize = 5;

/// The longest label of an unknown program, in characters.
const LONGEST: usize = 40;

/// The marks of browsers in the header `User-Agent`, and their names. Most browsers also name others, so the order
/// matters.
const BROWSERS: [(&str, &str); 9] = [
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("CriOS/", "Chrome"),
    ("Safari/", "Safari"),
];

/// The marks of systems, and their names.
const SYSTEMS: [(&str, &str); 7] = [
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
];

/// Returns the store of the sessions, with an index of each user's sessions.
pub(crate) fn sessions(storage: &Store) -> larder::Result<LarderStore> {
    let store = LarderStore::new(storage)?;
    Ok(store.with_owner(owner).with_device(device).with_max_per_owner(PER_USER))
}

/// Returns the user of a session, from the data of axum-login.
fn owner(data: &HashMap<String, Value>) -> Option<String> {
    Some(data.get("axum-login.data")?.get("user_id")?.as_str()?.to_owned())
}

fn device(data: &HashMap<String, Value>) -> Option<String> {
    Some(data.get(DEVICE)?.as_str()?.to_owned())
}

/// Returns a label for the device that sends these headers, such as `Firefox on Linux`.
pub(crate) fn label(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let named = |names: &'static [(&str, &str)]| {
        names.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, name)| *name)
    };
    let program = named(&BROWSERS).map_or_else(|| unknown(agent), str::to_owned);
    match named(&SYSTEMS) {
        Some(system) => format!("{program} on {system}"),
        None => program,
    }
}

/// Returns the name of an unknown program: `curl` for `curl/8.5.0`.
fn unknown(agent: &str) -> String {
    let name = agent.split('/').next().unwrap_or_default().trim();
    if name.is_empty() { "Unknown device".to_owned() } else { name.chars().take(LONGEST).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_names_the_browser_and_the_system() {
        for (agent, expected) in [
            ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36 Edg/138.0.0.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Mobile Safari/537.36",
                "Chrome on Android",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
                "Safari on macOS",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/138.0.0.0 Mobile/15E148 Safari/604.1",
                "Chrome on iPhone",
            ),
            ("curl/8.5.0", "curl"),
            ("", "Unknown device"),
        ] {
            let headers = HeaderMap::from_iter([(header::USER_AGENT, agent.parse().unwrap())]);
            assert_eq!(label(&headers), expected);
        }
        assert_eq!(label(&HeaderMap::new()), "Unknown device");
    }

    #[test]
    fn a_long_name_is_cut() {
        let headers = HeaderMap::from_iter([(header::USER_AGENT, "x".repeat(1000).parse().unwrap())]);
        assert_eq!(label(&headers), "x".repeat(LONGEST));
    }
}
