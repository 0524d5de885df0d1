//! `Debug` and errors do not print keys and values.

use std::error::Error as _;

use futures_util::TryStreamExt;
use larder_core::{Change, Error, Expiry, Values, Version};

use super::key;
use crate::{Must, Target};

laws![debug_prints_no_key_and_no_value, errors_print_no_key_and_no_value];

/// Recognisable texts that do not occur elsewhere.
const KEY: &str = "k3yh1dden";
const VALUE: &str = "v4lueh1dden";

fn is_discreet(printed: &str, what: &str) {
    // As text, in hexadecimal, or as a list of bytes of JSON or Rust.
    for secret in [KEY, VALUE] {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let list: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
        let lower = printed.to_ascii_lowercase();
        let shown = lower.contains(secret) || lower.contains(&hex) || lower.contains(&list.join(", "));
        assert!(!shown, "{what} prints a key or a value: {printed}");
    }
}

fn error_is_discreet(error: &Error, what: &str) {
    is_discreet(&format!("{error} {error:?} {error:#?}"), what);
    let mut source = error.source();
    while let Some(cause) = source {
        is_discreet(&cause.to_string(), what);
        source = cause.source();
    }
}

/// `Debug` of the store, of records, entries, versions and changes does not print keys and values.
pub async fn debug_prints_no_key_and_no_value(target: Target) {
    let handle = target.open().await;
    let value = handle.value(VALUE);
    handle.put(&key(KEY), &value).await;
    is_discreet(&format!("{:?} {:#?}", *handle, *handle), "Debug of the storage");
    let record = handle.read(key(KEY)).await.must("read").must("read");
    is_discreet(&format!("{record:?} {record:#?}"), "Debug of a record");
    if handle.info().listing {
        let entries: Vec<_> = handle.entries("").try_collect().await.must("list entries");
        is_discreet(&format!("{entries:?} {entries:#?}"), "Debug of entries");
        is_discreet(&format!("{:?}", handle.listed("zzz").await), "Debug of keys");
    }
    let put = Change::put(key(KEY), value, Expiry::Never);
    is_discreet(&format!("{put:?} {:?}", put.key), "Debug of a change");
}

/// Returns the first error of the results of a batch.
fn first<T>(results: Vec<Result<T, Error>>) -> Option<Error> {
    results.into_iter().find_map(Result::err)
}

/// Errors and their sources do not print keys and values.
pub async fn errors_print_no_key_and_no_value(target: Target) {
    let handle = target.open().await;
    let (key, value) = (key(KEY), handle.value(VALUE));
    handle.put(&key, &value).await;
    let mut errors: Vec<(&str, Option<Error>)> = vec![
        ("a conflict", handle.write(&key, value.clone()).if_absent().await.err()),
        ("a conflict of a deletion", handle.delete(&key).if_at(Version::unique()).await.err()),
        ("touch", handle.touch(&key, Expiry::after_secs(60)).await.err()),
        (
            "a write with a time to live",
            handle.write(&key, value.clone()).expiry(Expiry::after_secs(60)).await.err(),
        ),
    ];
    let garbage = format!("{{{VALUE}");
    if handle.info().values != Values::Bytes {
        let put = Change::put(key.clone(), garbage.clone(), Expiry::Never);
        errors.push(("an invalid value", handle.write(&key, garbage).await.err()));
        errors.push(("an invalid value in a batch", first(handle.apply(vec![put]).await)));
    }
    if let Some(most) = handle.info().max_value.filter(|&most| most <= 20 << 20) {
        let length = usize::try_from(most).must("convert the limit to usize") + VALUE.len();
        let mut large = VALUE.repeat(length / VALUE.len() + 1);
        large.truncate(length);
        let large = handle.value(&large);
        errors.push(("a value beyond the limit", handle.write(&key, large.clone()).await.err()));
        let put = Change::put(key.clone(), large, Expiry::Never);
        errors.push(("a value beyond the limit in a batch", first(handle.apply(vec![put]).await)));
    }
    handle.close().await.must("close");
    errors.push(("a closed storage", handle.write(&key, value).await.err()));
    for (what, error) in &errors {
        if let Some(error) = error {
            error_is_discreet(error, what);
        }
    }
}
