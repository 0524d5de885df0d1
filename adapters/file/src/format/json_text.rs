//! Changes the white space of JSON text, and nothing else, so that numbers and strings remain as written.

use std::borrow::Cow;

/// The deepest level that is indented. With a line for each of 10,000 levels, 20 KB of brackets would become 100 MB.
const DEEPEST: usize = 64;

/// Removes white space between tokens. `json` must be JSON.
pub(crate) fn compact(json: &[u8]) -> Cow<'_, [u8]> {
    if scan(json).any(is_space) {
        Cow::Owned(tokens(json).map(|(_, byte)| byte).collect())
    } else {
        Cow::Borrowed(json)
    }
}

/// Indents with tabs, as JavaScript's `JSON.stringify(value, null, "\t")` does, with `depth` more tabs in all lines but
/// the first. What is deeper than 64 levels remains in one line. `json` must be JSON.
pub(crate) fn indent(json: &[u8], depth: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() + json.len() / 4);
    let mut depth = depth;
    let mut after_opening = false;
    for (in_string, byte) in tokens(json) {
        let closing = !in_string && matches!(byte, b'}' | b']');
        let indented = depth <= DEEPEST;
        if closing {
            depth = depth.saturating_sub(1);
        }
        // Empty brackets remain together.
        if indented && after_opening != closing {
            line(&mut out, depth);
        }
        out.push(byte);
        after_opening = !in_string && matches!(byte, b'{' | b'[');
        match byte {
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b',' if indented => line(&mut out, depth),
            b':' => out.push(b' '),
            _ => {}
        }
    }
    out
}

fn line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.resize(out.len() + depth, b'\t');
}

fn is_space((in_string, byte): (bool, u8)) -> bool {
    !in_string && byte.is_ascii_whitespace()
}

/// Returns each byte except white space between tokens, and whether it is part of a string.
fn tokens(json: &[u8]) -> impl Iterator<Item = (bool, u8)> {
    scan(json).filter(|place| !is_space(*place))
}

/// Returns each byte, and whether it is part of a string (including the quotation marks).
fn scan(json: &[u8]) -> impl Iterator<Item = (bool, u8)> {
    let mut in_string = false;
    let mut escaped = false;
    json.iter().map(move |&byte| {
        let was_in_string = in_string;
        if escaped {
            escaped = false;
        } else if byte == b'"' {
            in_string = !in_string;
        } else if in_string && byte == b'\\' {
            escaped = true;
        }
        (was_in_string || in_string, byte)
    })
}

#[cfg(test)]
mod tests {
    use larder_kit::check_json;

    use super::*;

    fn is_json(text: &[u8]) -> bool {
        check_json(text).is_ok()
    }

    const COMPACT: &str =
        r#"{"a":[],"b":{},"c":[1,2.50,-3e-7,1E400],"d":{"e":" {[,:]} \" \\","ü":null},"f":""}"#;
    const INDENTED: &str = "{\n\t\"a\": [],\n\t\"b\": {},\n\t\"c\": [\n\t\t1,\n\t\t2.50,\n\t\t-3e-7,\n\t\t1E400\n\t],\n\t\"d\": {\n\t\t\"e\": \" {[,:]} \\\" \\\\\",\n\t\t\"ü\": null\n\t},\n\t\"f\": \"\"\n}";

    #[test]
    fn indent_and_compact_are_inverse() {
        assert!(is_json(COMPACT.as_bytes()));
        assert_eq!(String::from_utf8(indent(COMPACT.as_bytes(), 0)).unwrap(), INDENTED);
        assert_eq!(compact(INDENTED.as_bytes()), COMPACT.as_bytes());
        assert_eq!(indent(INDENTED.as_bytes(), 0), INDENTED.as_bytes());
        assert!(matches!(compact(COMPACT.as_bytes()), Cow::Borrowed(_)));
    }

    #[test]
    fn short_values_are_indented() {
        for (from, to) in [
            (" 1 ", "1"),
            ("\"a b\"", "\"a b\""),
            ("[ ]", "[]"),
            ("{\n}", "{}"),
            ("[[ ], \"x\"]", "[\n\t[],\n\t\"x\"\n]"),
        ] {
            assert_eq!(String::from_utf8(indent(from.as_bytes(), 0)).unwrap(), to);
        }
        assert_eq!(indent(b"{\"a\":[1]}", 1), b"{\n\t\t\"a\": [\n\t\t\t1\n\t\t]\n\t}");
    }

    #[test]
    fn deep_nesting_takes_little_space() {
        let deep = |levels: usize| format!("{}1,2{}", "[".repeat(levels), "]".repeat(levels)).into_bytes();
        for levels in [DEEPEST - 1, DEEPEST, DEEPEST + 1, 10_000] {
            let indented = indent(&deep(levels), 0);
            assert!(
                indented.len() < 100 * deep(levels).len(),
                "{levels} levels take {} bytes",
                indented.len()
            );
            assert_eq!(compact(&indented), deep(levels));
            let tabs = indented
                .split(|byte| *byte == b'\n')
                .map(|line| line.iter().filter(|byte| **byte == b'\t').count());
            assert_eq!(tabs.max(), Some(levels.min(DEEPEST)));
        }
    }

    #[test]
    fn check_json_accepts_only_json() {
        for yes in [
            "1",
            "null",
            " [1] ",
            "\"\\ud800\"",
            "1e999",
            &format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)),
        ] {
            assert!(is_json(yes.as_bytes()));
        }
        for no in [
            &b""[..],
            b" ",
            b"{",
            b"1 2",
            b"undefined",
            b"\"\xff\"",
            b"\"\n\"",
            b"01",
            b"\xef\xbb\xbf1",
            b"{\"a\":1,}",
        ] {
            assert!(!is_json(no));
        }
    }
}
