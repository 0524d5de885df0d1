//! Parsers that are broken on purpose. Each law finds the one that breaks it, with the inputs of the short form.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)] // As in the targets.

use larder_core::{Error, ErrorKind};
use larder_fuzz::{Parse, SECRET, Target, Verdict, refused, run};
use serde_json::Value;

/// As in the short form.
const MUTATIONS: u64 = 3_000;

/// Each with the name of the corpus, and a part of the report.
const PLANTED: &[(&str, &str, Parse)] = &[
    ("file-entry", "out of bounds", panics_on_short_input),
    ("codec-json", "in another thread", panics_in_another_thread),
    ("file-entry", "bytes of memory", trusts_a_length),
    ("values-json", "bytes of memory", indents_every_level),
    ("values-json", "of processor time", scans_again_at_every_bracket),
    ("codec-json", "a field is lost", drops_a_field),
    ("codec-json", "a secret was printed", prints_the_value),
    ("codec-json", "another kind", returns_another_kind),
    ("session-json", "was changed", deletes_before_decoding),
    ("codec-json", "one kind of input was never tried", |_| Verdict::Accepted),
    ("codec-json", "one kind of input was never tried", |_| Verdict::Refused),
];

#[test]
fn every_planted_bug_is_found() {
    let mut missed = 0;
    for (corpus, expected, parse) in PLANTED {
        let report = match run(&Target { name: corpus, parse: *parse }, 1, MUTATIONS) {
            Ok(covered) => covered.to_string(),
            Err(report) => report.lines().take(2).collect::<Vec<_>>().join("; "),
        };
        println!("{report}");
        missed += u32::from(!report.contains(expected));
    }
    assert_eq!(missed, 0, "a planted bug was not found, or by another law; see the reports above");
}

fn json(input: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(input).map_err(|_| Error::new(ErrorKind::Codec, "not JSON"))
}

fn panics_on_short_input(input: &[u8]) -> Verdict {
    if input.starts_with(b"LARDER") && input[6] == 1 { Verdict::Accepted } else { Verdict::Refused }
}

fn panics_in_another_thread(input: &[u8]) -> Verdict {
    let valid = json(input).is_ok();
    let _ = std::thread::spawn(move || assert!(valid, "in another thread")).join();
    if valid { Verdict::Accepted } else { Verdict::Refused }
}

fn trusts_a_length(input: &[u8]) -> Verdict {
    let Some(length) = input.get(16..20) else { return Verdict::Refused };
    let value = Vec::<u8>::with_capacity(u32::from_le_bytes(length.try_into().unwrap()) as usize);
    if value.capacity() > 9 { Verdict::Accepted } else { Verdict::Refused }
}

fn indents_every_level(input: &[u8]) -> Verdict {
    if larder_kit::check_json(input).is_err() {
        return Verdict::Refused;
    }
    let mut out = Vec::new();
    let mut depth = 0_usize;
    for byte in input {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        out.push(b'\n');
        out.resize(out.len() + depth, b'\t');
    }
    Verdict::Accepted
}

fn scans_again_at_every_bracket(input: &[u8]) -> Verdict {
    let brackets = input.iter().enumerate().filter(|(_, byte)| **byte == b'[').map(|(at, _)| at);
    let deepest = brackets.map(|at| input[..at].iter().filter(|byte| **byte == b'[').count()).max();
    if deepest.is_some() { Verdict::Accepted } else { Verdict::Refused }
}

fn drops_a_field(input: &[u8]) -> Verdict {
    let Ok(value) = json(input) else { return Verdict::Refused };
    let mut saved = value.clone();
    if let Some(members) = saved.as_object_mut() {
        members.remove("big");
    }
    let again = json(saved.to_string().as_bytes()).unwrap();
    assert_eq!(again, value, "a field is lost");
    Verdict::Accepted
}

fn prints_the_value(input: &[u8]) -> Verdict {
    match json(input) {
        Ok(_) => Verdict::Accepted,
        Err(error) => {
            let text = String::from_utf8_lossy(input).into_owned();
            refused(&error.with_source(text), &[ErrorKind::Codec])
        }
    }
}

fn returns_another_kind(input: &[u8]) -> Verdict {
    let error = Error::new(ErrorKind::Other, "not UTF-8");
    if str::from_utf8(input).is_ok() { Verdict::Accepted } else { refused(&error, &[ErrorKind::Codec]) }
}

fn deletes_before_decoding(input: &[u8]) -> Verdict {
    let mut stored = Some(input);
    let taken = stored.take().unwrap();
    match json(taken) {
        Ok(_) => {
            stored = Some(taken);
            assert_eq!(stored, Some(input));
            Verdict::Accepted
        }
        Err(error) => {
            assert_eq!(stored, Some(input), "{SECRET} was changed");
            refused(&error, &[ErrorKind::Codec])
        }
    }
}
