//! Keys are data, whatever their characters are.

use larder_core::{ErrorKind, Key};

use super::key;
use crate::{Fails, Handle, Must, Target, must::chain};

laws![
    illegal_keys_are_refused,
    keys_of_one_and_of_512_bytes,
    keys_differ_by_case,
    keys_differ_by_normalisation,
    keys_in_any_script,
    keys_that_look_like_paths,
    keys_that_look_like_sql,
    keys_that_look_like_patterns,
    keys_with_dollars_and_dots,
    keys_with_spaces_and_dots_at_the_ends,
    keys_that_are_device_names,
    keys_that_sanitise_alike,
    long_keys_that_differ_at_the_end,
];

/// Empty keys, keys of 513 bytes and keys with control characters cannot be created, so they never reach a storage.
pub async fn illegal_keys_are_refused(target: Target) {
    let long = "k".repeat(Key::MAX_BYTES + 1);
    for text in ["", &long, "a\0b", "\n", "tab\there", "\u{7f}", "\u{85}"] {
        Key::new(text).fails(ErrorKind::InvalidKey, "make an illegal key");
    }
    // Valid keys that are similar to them are valid in the store too.
    stay_apart(&target, &["k", "tab here", "\u{a0}"]).await;
}

/// The shortest and the longest keys are valid. The length counts in bytes, not in characters.
pub async fn keys_of_one_and_of_512_bytes(target: Target) {
    let (ascii, wide) = ("k".repeat(512), "é".repeat(256));
    let (slashes, dots, quotes) = ("/".repeat(512), ".".repeat(512), "'".repeat(512));
    stay_apart(&target, &["k", "0", "~", &ascii, &ascii[1..], &wide, &slashes, &dots, &quotes]).await;
}

/// Keys that differ only in upper and lower case are different.
pub async fn keys_differ_by_case(target: Target) {
    stay_apart(&target, &["chat", "Chat", "CHAT", "chaT", "straße", "STRASSE", "i", "İ", "ı", "I"]).await;
}

/// Keys that differ only in their Unicode normalisation form are different, such as composed and decomposed text.
pub async fn keys_differ_by_normalisation(target: Target) {
    stay_apart(&target, &["\u{e9}", "e\u{301}", "\u{212b}", "\u{c5}", "A\u{30a}", "ﬁ", "fi"]).await;
}

/// Keys may contain Unicode characters of any script, including invisible ones.
pub async fn keys_in_any_script(target: Target) {
    stay_apart(
        &target,
        &["名前", "имя", "שם", "🍕", "👩‍👩‍👧", "\u{200b}", "a\u{200b}", "a", "\u{feff}a", "\u{10ffff}"],
    )
    .await;
}

/// Keys that look like paths are not used as paths.
pub async fn keys_that_look_like_paths(target: Target) {
    stay_apart(
        &target,
        &[
            "../../x",
            "..",
            ".",
            "/",
            "//",
            "a/b",
            "a//b",
            "/a/b",
            "a/b/",
            "a/./b",
            "a/../b",
            "b",
            "a\\b",
            "C:\\x",
            "~/x",
            "a/b.json",
            "./a",
            "%2e%2e%2f",
            "%2F",
        ],
    )
    .await;
}

/// Keys that look like SQL are not executed.
pub async fn keys_that_look_like_sql(target: Target) {
    stay_apart(
        &target,
        &[
            "a'b",
            "a''b",
            "a\"b",
            "a;b",
            "'; DROP TABLE sessions; --",
            "\\",
            "\\'",
            "$1",
            "?",
            ":a",
            "`x`",
            "NULL",
        ],
    )
    .await;
}

/// Wildcard characters have no special meaning in keys.
pub async fn keys_that_look_like_patterns(target: Target) {
    stay_apart(
        &target,
        &[
            "*", "?", "a*b?[c]", "axb", "[a]", "a", "%", "_", "%%", "a%b", "a_b", "^a", "a$", ".*", "{a,b}",
            "(", "\\*",
        ],
    )
    .await;
}

/// Keys may begin with a dollar sign, contain dots, and have the names of a store's own fields.
pub async fn keys_with_dollars_and_dots(target: Target) {
    stay_apart(
        &target,
        &[
            "$",
            "$where",
            "a.b",
            "a..b",
            ".a",
            "a.",
            "$ne",
            "_id",
            "__proto__",
            "constructor",
            "key",
            "value",
            "{x}",
            "{x}y",
        ],
    )
    .await;
}

/// Keys that differ only in spaces and dots at the beginning or the end are different.
pub async fn keys_with_spaces_and_dots_at_the_ends(target: Target) {
    stay_apart(
        &target,
        &[" ", "  ", "a", " a", "a ", "a  ", "a.", "a. ", ".a", "\u{a0}a", "a\u{3000}", "a+b", "a b"],
    )
    .await;
}

/// The reserved device names of Windows are valid keys.
pub async fn keys_that_are_device_names(target: Target) {
    stay_apart(
        &target,
        &["CON", "con", "NUL", "nul.json", "COM1", "LPT9", "aux", "PRN", "a:b", "a:$DATA", "a|b", "<a>"],
    )
    .await;
}

/// Keys whose sanitised or encoded forms are equal are different.
pub async fn keys_that_sanitise_alike(target: Target) {
    stay_apart(
        &target,
        &[
            "a:b", "a_b", "a-b", "a/b", "a b", "ab", "a%3Ab", "a%3ab", "a%253Ab", "a+b", "a.b", "a=b", "a@b",
            "a#b", "613a62", "YTpi", "YTpi==", "=3A", "1", "01", "1.0", "+1", "-1",
        ],
    )
    .await;
}

/// Keys of the maximum length that differ only in their last byte are different.
pub async fn long_keys_that_differ_at_the_end(target: Target) {
    let stem = "x".repeat(511);
    let keys: Vec<String> = ["a", "b", "A", "/", " ", "."].iter().map(|end| format!("{stem}{end}")).collect();
    let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    keys.push(&stem);
    keys.push(&stem[..255]);
    stay_apart(&target, &keys).await;
}

/// Checks that each key is a separate entry in every operation. A layout that cannot store a key must reject it
/// and store nothing.
async fn stay_apart(target: &Target, texts: &[&str]) {
    let handle = target.open().await;
    let mut stored: Vec<(Key, &str)> = Vec::new();
    for text in texts {
        let key = key(text);
        match handle.write(&key, handle.value(text)).await {
            Ok(_) => stored.push((key, text)),
            Err(error) if error.kind() == ErrorKind::InvalidKey && !handle.info().any_key => {
                refused(&handle, &key).await;
            }
            Err(error) => panic!("write under the key {text:?}: failed: {}", chain(&error)),
        }
    }
    for (key, text) in &stored {
        handle.holds(key, &handle.value(text), &format!("read of the key {text:?}")).await;
    }
    if handle.info().listing {
        let listed = handle.listed("").await;
        assert_eq!(listed, stored.iter().map(|(_, text)| (*text).to_owned()).collect(), "the keys listed");
    }
    // Deletes every second key. The others must remain.
    for (key, text) in stored.iter().step_by(2) {
        assert!(handle.delete(key).await.must("delete"), "a delete of the key {text:?} returned false");
    }
    for (index, (key, text)) in stored.iter().enumerate() {
        let there = handle.contains(key).await.must("contains");
        assert_eq!(there, index % 2 == 1, "whether {text:?} exists after every second key was deleted");
    }
}

/// Checks that a read of a rejected key finds nothing or is rejected too. It must never return another entry.
async fn refused(handle: &Handle, key: &Key) {
    match handle.read(key).await {
        Ok(None) => {}
        Ok(Some(_)) => panic!("a read of a key that cannot be written returned an entry"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidKey, "read of a key that cannot be written"),
    }
}
