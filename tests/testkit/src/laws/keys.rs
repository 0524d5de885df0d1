//! Keys are data.

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

/// Empty keys, keys of 513 bytes and keys with control characters cannot be made, so that no
/// storage ever sees one.
pub async fn illegal_keys_are_refused(target: Target) {
    let long = "k".repeat(Key::MAX_BYTES + 1);
    for text in ["", &long, "a\0b", "\n", "tab\there", "\u{7f}", "\u{85}"] {
        Key::new(text).fails(ErrorKind::InvalidKey, "make an illegal key");
    }
    // What is legal beside them is legal in the store too.
    stay_apart(&target, &["k", "tab here", "\u{a0}"]).await;
}

/// The shortest and the longest keys are keys, in bytes and not in characters.
pub async fn keys_of_one_and_of_512_bytes(target: Target) {
    let (ascii, wide) = ("k".repeat(512), "é".repeat(256));
    let (slashes, dots, quotes) = ("/".repeat(512), ".".repeat(512), "'".repeat(512));
    stay_apart(&target, &["k", "0", "~", &ascii, &ascii[1..], &wide, &slashes, &dots, &quotes]).await;
}

/// Case counts.
pub async fn keys_differ_by_case(target: Target) {
    stay_apart(&target, &["chat", "Chat", "CHAT", "chaT", "straße", "STRASSE", "i", "İ", "ı", "I"]).await;
}

/// The Unicode normalisation form counts: composed and decomposed text are two keys.
pub async fn keys_differ_by_normalisation(target: Target) {
    stay_apart(&target, &["\u{e9}", "e\u{301}", "\u{212b}", "\u{c5}", "A\u{30a}", "ﬁ", "fi"]).await;
}

/// Keys are Unicode, whatever the script, and whether or not one can see it.
pub async fn keys_in_any_script(target: Target) {
    stay_apart(
        &target,
        &["名前", "имя", "שם", "🍕", "👩‍👩‍👧", "\u{200b}", "a\u{200b}", "a", "\u{feff}a", "\u{10ffff}"],
    )
    .await;
}

/// Keys that look like paths lead nowhere.
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

/// Keys that look like SQL are not run.
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

/// Characters that stand for others in patterns stand for themselves in keys.
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

/// Keys may begin with a dollar, contain dots, and be called like a store's own fields.
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

/// Spaces and dots at the beginning and the end count.
pub async fn keys_with_spaces_and_dots_at_the_ends(target: Target) {
    stay_apart(
        &target,
        &[" ", "  ", "a", " a", "a ", "a  ", "a.", "a. ", ".a", "\u{a0}a", "a\u{3000}", "a+b", "a b"],
    )
    .await;
}

/// Names that Windows keeps to itself are keys.
pub async fn keys_that_are_device_names(target: Target) {
    stay_apart(
        &target,
        &["CON", "con", "NUL", "nul.json", "COM1", "LPT9", "aux", "PRN", "a:b", "a:$DATA", "a|b", "<a>"],
    )
    .await;
}

/// Keys that come out alike once somebody has "cleaned" or encoded them are still two keys.
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

/// Keys as long as keys can be, alike but for their last byte, stay apart.
pub async fn long_keys_that_differ_at_the_end(target: Target) {
    let stem = "x".repeat(511);
    let keys: Vec<String> = ["a", "b", "A", "/", " ", "."].iter().map(|end| format!("{stem}{end}")).collect();
    let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    keys.push(&stem);
    keys.push(&stem[..255]);
    stay_apart(&target, &keys).await;
}

/// Each key is an entry of its own, to every operation. A layout that cannot store a key says so
/// and stores nothing.
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
    // Every other one goes; its neighbours stay.
    for (key, text) in stored.iter().step_by(2) {
        assert!(handle.delete(key).await.must("delete"), "a delete of the key {text:?} returned false");
    }
    for (index, (key, text)) in stored.iter().enumerate() {
        let there = handle.contains(key).await.must("contains");
        assert_eq!(there, index % 2 == 1, "whether {text:?} is there after every other key was deleted");
    }
}

/// A key that was refused reads as nothing, or is refused there too: never as another entry.
async fn refused(handle: &Handle, key: &Key) {
    match handle.read(key).await {
        Ok(None) => {}
        Ok(Some(_)) => panic!("a key that cannot be written reads as an entry"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidKey, "read of a key that cannot be written"),
    }
}
