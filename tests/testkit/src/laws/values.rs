//! Values are returned as they were written.

use bytes::{BufMut, Bytes, BytesMut};
use larder_core::{ErrorKind, Expiry, Values};

use super::key;
use crate::{Fails, Handle, Must, Target};

laws![
    empty_value,
    every_byte_value,
    value_of_one_mebibyte,
    value_of_sixteen_mebibytes,
    value_beyond_the_limit_is_refused,
    values_share_no_buffer_with_the_caller,
    a_read_value_never_changes,
    json_values_keep_their_meaning,
    json_numbers_come_back_exactly,
    json_text_keeps_its_spelling,
    values_that_are_not_json_are_refused,
];

const MEBIBYTE: usize = 1 << 20;

/// An entry with an empty value exists, and its value is read as empty. For JSON values, the same holds for the
/// shortest values.
pub async fn empty_value(target: Target) {
    let handle = target.open().await;
    let shortest: &[&'static str] = match handle.info().values {
        Values::Bytes => &[""],
        _ => &["\"\"", "{}", "[]", "0", "null"],
    };
    for value in shortest {
        let value = Bytes::from_static(value.as_bytes());
        handle.put(&key("empty"), &value).await;
        handle.holds(&key("empty"), &value, "read of the shortest value").await;
        assert!(
            handle.contains(&key("empty")).await.must("contains"),
            "contains is false for an empty value"
        );
        assert!(handle.delete(key("empty")).await.must("delete"), "delete of an empty value returned false");
    }
}

/// All 256 byte values are stored exactly, also in values that are not UTF-8 or that look like another format.
pub async fn every_byte_value(target: Target) {
    let handle = target.open().await;
    if handle.info().values != Values::Bytes {
        target.ignore("the store does not claim to accept any bytes");
        return;
    }
    let all: Vec<u8> = (0..=255).collect();
    let values: [&[u8]; 10] = [
        &all,
        b"\0",
        b"\xff\xfe",
        b"ends in zeros\0\0\0",
        b"\n",
        b" padded ",
        b"123",
        b"1.0",
        b"{\"a\": 1}",
        b"\\x00",
    ];
    for (index, value) in values.into_iter().enumerate() {
        let key = key(&format!("bytes-{index}"));
        handle.put(&key, &Bytes::copy_from_slice(value)).await;
        handle.holds(&key, value, "read of a value with arbitrary bytes").await;
    }
}

/// A value of 1 MiB is stored completely.
pub async fn value_of_one_mebibyte(target: Target) {
    large_value(&target.open().await, MEBIBYTE).await;
}

/// A value of 16 MiB is stored completely. If the storage's limit is lower, the largest value is.
pub async fn value_of_sixteen_mebibytes(target: Target) {
    large_value(&target.open().await, 16 * MEBIBYTE).await;
}

async fn large_value(handle: &Handle, length: usize) {
    let most = handle.info().max_value.and_then(|most| usize::try_from(most).ok());
    let length = most.map_or(length, |most| most.min(length));
    let value = handle.bulk(length, 1);
    handle.put(&key("large"), &value).await;
    handle.holds(&key("large"), &value, "read of a large value").await;
    // After a short value has replaced the long one, nothing of the long one remains.
    let value = handle.value("short");
    handle.put(&key("large"), &value).await;
    handle.holds(&key("large"), &value, "read of a short value after a large one").await;
}

/// Every kind of write rejects a value one byte longer than the storage's limit as too large, and does not change
/// the old entry.
pub async fn value_beyond_the_limit_is_refused(target: Target) {
    /// The test does not allocate more than this.
    const MOST: u64 = 64 << 20;
    let handle = target.open().await;
    let Some(most) = handle.info().max_value.filter(|&most| most < MOST) else {
        target.ignore("the store does not claim a limit that a test can exceed");
        return;
    };
    let old = handle.value("old");
    handle.put(&key("one"), &old).await;
    let value = handle.bulk(usize::try_from(most).must("convert the limit to usize") + 1, 2);
    let write = handle.write(key("one"), value.clone()).await;
    write.fails(ErrorKind::TooLarge, "write of a value beyond the limit");
    let write = handle.write(key("two"), value.clone()).await;
    write.fails(ErrorKind::TooLarge, "write of a value beyond the limit under a new key");
    if handle.info().conditions() {
        let write = handle.write(key("two"), value).if_absent().await;
        write.fails(ErrorKind::TooLarge, "conditional write of a value beyond the limit");
    }
    handle.holds(&key("one"), &old, "read after a rejected write").await;
    handle.lacks(&key("two"), "read after a rejected write").await;
}

/// The store has its own copy of each value: it does not change when the caller reuses the buffer for the next value.
pub async fn values_share_no_buffer_with_the_caller(target: Target) {
    let handle = target.open().await;
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    let mut written = Vec::new();
    for index in 0..64_u64 {
        buffer.reserve(512);
        buffer.put(handle.bulk(512, index));
        let value = buffer.split().freeze();
        written.push(value.to_vec());
        handle.write(key(&format!("buffer-{index}")), value).await.must("write");
        // The store has copied the value, so its bytes can be reused.
        if let (0, Ok(again)) = (index % 8, std::mem::take(&mut buffer).freeze().try_into_mut()) {
            buffer = again;
            buffer.clear();
        }
    }
    for (index, value) in written.iter().enumerate() {
        let key = key(&format!("buffer-{index}"));
        handle.holds(&key, value, "read of a value whose buffer was reused").await;
    }
}

/// A value that was read does not change when the entry changes. Changes that a reader makes to it do not affect
/// other readers.
pub async fn a_read_value_never_changes(target: Target) {
    let handle = target.open().await;
    let key = key("one");
    let (old, new) = (handle.bulk(2000, 1), handle.bulk(2000, 2));
    handle.put(&key, &old).await;
    let read = handle.read(&key).await.must("read").must("read");
    handle.put(&key, &new).await;
    assert!(
        handle.same(&read.value, &old),
        "a value that was read before changed when the entry was overwritten"
    );
    handle.delete(&key).await.must("delete");
    assert!(
        handle.same(&read.value, &old),
        "a value that was read before changed when the entry was deleted"
    );

    handle.put(&key, &new).await;
    let read = handle.read(&key).await.must("read").must("read");
    // If the reader has the only reference to the bytes, it may change them in place.
    let mut mine = read.value.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    mine.fill(b'!');
    handle.holds(&key, &new, "read after a reader has changed its copy").await;
}

/// JSON values keep their meaning: types, precision and member names of every kind.
pub async fn json_values_keep_their_meaning(target: Target) {
    let handle = target.open().await;
    let values = [
        "null",
        "true",
        "0",
        "-1",
        "9007199254740993",
        "-9223372036854775808",
        "9223372036854775807",
        "0.1",
        "-1.5e-7",
        "1e300",
        r#""""#,
        r#""123""#,
        r#""2024-01-01T00:00:00.000Z""#,
        r#""Míša 名前 🍕 \" \\ \n \t""#,
        r#"[]"#,
        r#"[null,[[]],{},"",0]"#,
        r#"{}"#,
        r#"{"":1," ":2,"a.b":3,"$where":"1","$set":{"a":1},"_id":7,"__proto__":{},"key":null}"#,
        r#"{"$date":"2024-01-01T00:00:00Z"}"#,
        r#"{"$oid":"507f1f77bcf86cd799439011","$numberLong":"5"}"#,
        r#"{"pizzas":3,"seen":[1,2.5,{"deep":[[[{"er":true}]]]}],"name":"O'Brien; DROP TABLE x;--"}"#,
    ];
    for (index, text) in values.into_iter().enumerate() {
        let (key, value) = (key(&format!("json-{index}")), Bytes::from_static(text.as_bytes()));
        handle.put(&key, &value).await;
        handle.holds(&key, &value, &format!("read of the JSON value {text}")).await;
    }
}

/// Every finite `f64` and every 64-bit integer in JSON is read as the same number, after a write and after an update
/// that does not change it.
///
/// The law compares the numbers, not their notation. It does not use a JSON parser, which may round. A storage
/// that keeps JSON values and not their text may lose the sign of a zero.
pub async fn json_numbers_come_back_exactly(target: Target) {
    let handle = target.open().await;
    let mut floats = vec![
        139.390_000_000_000_01,
        -120.654_873_651_235_05,
        0.1,
        -0.0,
        5e-324,
        f64::MIN_POSITIVE,
        f64::MAX,
        f64::MIN,
        9_007_199_254_740_993.0,
    ];
    let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
    while floats.len() < 200 {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        floats.extend(Some(f64::from_bits(bits)).filter(|number| number.is_finite()));
    }
    let signed = [0, -1, i64::MIN, i64::MIN + 1, i64::MAX, -(1 << 53) - 1];
    let unsigned = [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 53) + 1];
    let integers: Vec<i128> =
        signed.into_iter().map(i128::from).chain(unsigned.into_iter().map(i128::from)).collect();
    let same = |read: f64, written: f64| match handle.info().values {
        Values::Json if written == 0.0 => read == 0.0,
        _ => read.to_bits() == written.to_bits(),
    };

    // `{:e}` is the shortest text of the number, and valid JSON.
    let texts = floats.iter().map(|number| format!("{number:e}")).collect::<Vec<_>>().join(",");
    let key = key("floats");
    handle.put(&key, &format!("[{texts}]").into()).await;
    // The update reverses the order: it changes the value, but not the numbers.
    let reversed = |numbers: Option<Vec<f64>>| numbers.map(|numbers| numbers.into_iter().rev().collect());
    for turn in 0..3 {
        if turn > 0 && handle.info().conditions() {
            handle.update(&key, Expiry::Never, reversed).await.must("update");
            floats.reverse();
        }
        let read: Vec<f64> = handle.numbers(&key).await;
        assert_eq!(read.len(), floats.len(), "the number of numbers after {turn} updates");
        for (read, written) in read.into_iter().zip(&floats) {
            assert!(same(read, *written), "after {turn} updates {written:e} is read as {read:e}");
        }
    }

    let texts = integers.iter().map(i128::to_string).collect::<Vec<_>>().join(",");
    handle.put(&key, &format!("[{texts}]").into()).await;
    let read: Vec<i128> = handle.numbers(&key).await;
    assert_eq!(read, integers, "the 64-bit integers differ from the written ones");
}

/// A store that claims to keep JSON text returns it as it was written: the order of members, the notation of numbers
/// and escapes. Only white space between tokens may change.
pub async fn json_text_keeps_its_spelling(target: Target) {
    let handle = target.open().await;
    if handle.info().values == Values::Json {
        target.ignore("the store does not claim to keep the text of JSON");
        return;
    }
    let values = [
        r#"{"z":1,"a":2,"m":3}"#,
        r#"[1.0,1.50,1e2,1E+2,-0]"#,
        r#"{ "a" : [ 1 , 2 ] , "b c" : "d  e" }"#,
        r#""\u00e9 é \/ /""#,
        "12345678901234567890.12345678901234567890",
    ];
    for (index, text) in values.into_iter().enumerate() {
        let (key, value) = (key(&format!("text-{index}")), Bytes::from_static(text.as_bytes()));
        handle.put(&key, &value).await;
        handle.holds(&key, &value, &format!("read of the JSON text {text}")).await;
    }
}

/// A store of JSON values rejects other values as invalid, and does not change the old entry.
pub async fn values_that_are_not_json_are_refused(target: Target) {
    let handle = target.open().await;
    if handle.info().values == Values::Bytes {
        target.ignore("the store claims to accept any bytes");
        return;
    }
    let old = handle.value("old");
    handle.put(&key("one"), &old).await;
    for value in [&b""[..], b"\xff", b"{", b"{} {}", b"hello", b"NaN", b"'x'", b"{\"a\":1,}"] {
        let value = Bytes::copy_from_slice(value);
        let write = handle.write(key("one"), value.clone()).await;
        write.fails(ErrorKind::InvalidValue, "write of a value that is not JSON");
        let write = handle.write(key("two"), value.clone()).await;
        write.fails(ErrorKind::InvalidValue, "write of a value that is not JSON under a new key");
        if handle.info().conditions() {
            let write = handle.write(key("two"), value).if_absent().await;
            write.fails(ErrorKind::InvalidValue, "conditional write of a value that is not JSON");
        }
    }
    handle.holds(&key("one"), &old, "read after rejected writes").await;
    handle.lacks(&key("two"), "read after rejected writes").await;
}
