//! Faults of single entries, of their values, and of handles.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use larder_core::{
    Bytes, DeleteOptions, Error, ErrorKind, Info, Key, ReadOptions, Record, Result, Store, Values,
    WriteOptions, Written, async_trait,
};
use larder_memory::MemoryStorage;
use larder_testkit::factory;
use serde_json::Value;

use crate::{Fault, fault, twist::Twist};

/// Changes values by means of the function `0` before it stores them.
struct Changes(fn(Bytes) -> Bytes);

#[async_trait]
impl Twist for Changes {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        inner.write_with(key, (self.0)(value), options).await
    }
}

struct EmptyIsMissing;

#[async_trait]
impl Twist for EmptyIsMissing {
    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        Ok(inner.read_with(key, options).await?.filter(|record| !record.value.is_empty()))
    }
}

struct MissingIsEmpty;

#[async_trait]
impl Twist for MissingIsEmpty {
    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        Ok(Some(inner.read_with(key, options).await?.unwrap_or_else(|| Record::new(Bytes::new()))))
    }
}

/// Stores all values in one buffer. An entry contains only the length of its value.
#[derive(Default)]
struct OneBuffer(Mutex<Vec<u8>>);

#[async_trait]
impl Twist for OneBuffer {
    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let record = inner.read_with(key, options).await?;
        let buffer = self.0.lock().unwrap();
        Ok(record.map(|record| {
            let value = Bytes::copy_from_slice(&buffer[..record.value.len()]);
            record.version.map_or(Record::new(value.clone()), |version| Record::at(value, version))
        }))
    }

    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        {
            let mut buffer = self.0.lock().unwrap();
            let length = buffer.len().max(value.len());
            buffer.resize(length, 0);
            buffer[..value.len()].copy_from_slice(&value);
        }
        inner.write_with(key, value, options).await
    }
}

/// Deletes an entry when it is read.
struct HandsOutItsOnlyCopy;

#[async_trait]
impl Twist for HandsOutItsOnlyCopy {
    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let record = inner.read_with(key, options).await?;
        inner.delete(key).await?;
        Ok(record)
    }
}

struct FirstWriteWins;

#[async_trait]
impl Twist for FirstWriteWins {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        if inner.contains(key).await? {
            Ok(Written::default())
        } else {
            inner.write_with(key, value, options).await
        }
    }
}

struct DeleteIsAlwaysTrue;

#[async_trait]
impl Twist for DeleteIsAlwaysTrue {
    async fn delete(&self, inner: &Store, key: &Key, options: &DeleteOptions) -> Result<bool> {
        inner.delete_with(key, options).await.map(|_| true)
    }
}

struct DeleteDoesNothing;

#[async_trait]
impl Twist for DeleteDoesNothing {
    async fn delete(&self, inner: &Store, key: &Key, _: &DeleteOptions) -> Result<bool> {
        inner.contains(key).await
    }
}

struct ContainsIsAlwaysTrue;

#[async_trait]
impl Twist for ContainsIsAlwaysTrue {
    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let record = inner.read_with(key, options).await?;
        Ok(if options.value { record } else { Some(record.unwrap_or_else(|| Record::new(Bytes::new()))) })
    }
}

/// Ignores writes of a key that was deleted before.
#[derive(Default)]
struct Tombstones(Mutex<HashSet<Key>>);

#[async_trait]
impl Twist for Tombstones {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        if self.0.lock().unwrap().contains(key) {
            return Ok(Written::default());
        }
        inner.write_with(key, value, options).await
    }

    async fn delete(&self, inner: &Store, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.0.lock().unwrap().insert(key.clone());
        inner.delete_with(key, options).await
    }
}

/// Claims a limit, but truncates values below it.
struct CutsOff;

#[async_trait]
impl Twist for CutsOff {
    fn info(&self, inner: &Store) -> Info {
        inner.info().with_max_value(2000)
    }

    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        inner.write_with(key, value.slice(..value.len().min(1000)), options).await
    }
}

/// Claims the kind of values `0`, and stores the result of the function `1`.
struct Claims(Values, fn(Bytes) -> Result<Bytes>);

#[async_trait]
impl Twist for Claims {
    fn info(&self, inner: &Store) -> Info {
        inner.info().with_values(self.0)
    }

    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        inner.write_with(key, (self.1)(value)?, options).await
    }
}

fn parse(value: &Bytes) -> Result<Value> {
    serde_json::from_slice(value).map_err(|_| Error::new(ErrorKind::InvalidValue, "not JSON"))
}

fn numbers_as_floats(value: Bytes) -> Result<Bytes> {
    let value = parse(&value)?;
    Ok(match value.as_f64() {
        Some(number) => Bytes::from(format!("{number}")),
        None => Bytes::from(value.to_string()),
    })
}

/// Rounds every number to 16 significant digits, one less than an `f64` may need.
fn numbers_of_16_digits(value: Bytes) -> Result<Bytes> {
    fn round(value: &mut Value) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(round),
            Value::Number(number) if number.is_f64() => {
                let rounded = number.as_f64().and_then(|number| format!("{number:.15e}").parse::<f64>().ok());
                *number = rounded.and_then(serde_json::Number::from_f64).unwrap_or_else(|| number.clone());
            }
            _ => {}
        }
    }
    let mut value = parse(&value)?;
    round(&mut value);
    Ok(Bytes::from(value.to_string()))
}

/// Rounds every integer as JavaScript does.
fn integers_of_53_bits(value: Bytes) -> Result<Bytes> {
    let text = String::from_utf8_lossy(&value);
    let rounded: Option<Vec<String>> =
        text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).map(|text| {
            text.split(',')
                .map(|number| {
                    number.parse::<i128>().map_or(number.to_owned(), |number| (number as f64).to_string())
                })
                .collect()
        });
    Ok(rounded.map_or(value.clone(), |numbers| Bytes::from(format!("[{}]", numbers.join(",")))))
}

fn reformatted(value: Bytes) -> Result<Bytes> {
    parse(&value).map(|value| Bytes::from(value.to_string()))
}

struct PingFails;

#[async_trait]
impl Twist for PingFails {
    async fn ping(&self, _: &Store) -> Result<()> {
        Err(Error::new(ErrorKind::Unavailable, "no answer"))
    }
}

struct PingWrites;

#[async_trait]
impl Twist for PingWrites {
    async fn ping(&self, inner: &Store) -> Result<()> {
        inner.write("ping", Bytes::new()).await.map(drop)
    }
}

struct FlushDrops;

#[async_trait]
impl Twist for FlushDrops {
    async fn flush(&self, inner: &Store) -> Result<()> {
        inner.clear("").await.map(drop)
    }
}

/// Claims persistence, but does not keep its entries.
struct ClaimsPersistence;

impl Twist for ClaimsPersistence {
    fn info(&self, inner: &Store) -> Info {
        inner.info().with_persistence()
    }
}

struct ErrorsQuoteTheKey;

#[async_trait]
impl Twist for ErrorsQuoteTheKey {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let written = inner.write_with(key, value, options).await;
        written.map_err(|error| {
            Error::new(error.kind(), "duplicate key").with_source(format!("the key is `{key}`"))
        })
    }
}

struct CloseFails;

#[async_trait]
impl Twist for CloseFails {
    async fn close(&self, _: &Store) -> Result<()> {
        Err(Error::new(ErrorKind::Other, "planted failure"))
    }
}

#[derive(Default)]
struct SecondCloseFails(AtomicBool);

#[async_trait]
impl Twist for SecondCloseFails {
    async fn close(&self, inner: &Store) -> Result<()> {
        if self.0.swap(true, Ordering::Relaxed) {
            return Err(Error::closed());
        }
        tokio::task::yield_now().await;
        inner.close().await
    }
}

/// Gives each handle its own entries.
fn handles_apart() -> Fault {
    let open = |_| async { Ok(Store::from(MemoryStorage::new())) };
    Fault {
        name: "has a separate store for each handle",
        factory: Arc::new(factory(open)),
        caught_by: &["two_handles_share_one_store", "increments_through_two_handles_are_all_counted"],
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        fault(
            "appends a line break",
            || Changes(|value| [&value[..], b"\n"].concat().into()),
            &["round_trip"],
        ),
        fault(
            "keeps 64 KiB of a value",
            || Changes(|value| value.slice(..value.len().min(65_536))),
            &["value_of_one_mebibyte", "value_of_sixteen_mebibytes", "concurrent_writers_never_mix_values"],
        ),
        fault(
            "keeps values as text",
            || Changes(|value| String::from_utf8_lossy(&value).into_owned().into()),
            &["every_byte_value"],
        ),
        fault("reports an entry with an empty value as missing", || EmptyIsMissing, &["empty_value"]),
        fault("reports a missing entry as an empty value", || MissingIsEmpty, &["absent_key_reads_none"]),
        fault(
            "keeps all values in one buffer",
            OneBuffer::default,
            &[
                "values_share_no_buffer_with_the_caller",
                "entries_do_not_affect_each_other",
                "cancelled_reads_do_not_mix_up_answers",
            ],
        ),
        fault(
            "deletes an entry when it is read",
            || HandsOutItsOnlyCopy,
            &["a_read_value_never_changes", "round_trip"],
        ),
        fault("keeps the first value", || FirstWriteWins, &["overwrite_replaces_the_value"]),
        fault(
            "reports deletions of missing entries as successful",
            || DeleteIsAlwaysTrue,
            &["delete_returns_whether_the_entry_existed"],
        ),
        fault(
            "deletes nothing",
            || DeleteDoesNothing,
            &[
                "delete_returns_whether_the_entry_existed",
                "deletes_race_with_conditions",
                "cancelled_deletes_leave_the_entry_or_none",
                "a_time_to_live_of_zero_leaves_the_key_absent",
                "conditional_write_with_a_time_to_live_of_zero_leaves_the_key_absent",
                "touch_with_a_time_to_live_of_zero_removes",
            ],
        ),
        fault(
            "reports every key as present",
            || ContainsIsAlwaysTrue,
            &[
                "contains_agrees_with_read",
                "delete_if_absent_deletes_nothing",
                "touch_if_absent_touches_nothing",
            ],
        ),
        fault("ignores writes of deleted keys", Tombstones::default, &["a_deleted_key_can_be_written_again"]),
        fault("truncates large values", || CutsOff, &["value_of_one_mebibyte"]),
        fault(
            "keeps JSON numbers as floating-point ones",
            || Claims(Values::Json, numbers_as_floats),
            &["json_values_keep_their_meaning"],
        ),
        fault(
            "rounds numbers to 16 digits",
            || Claims(Values::Json, numbers_of_16_digits),
            &["json_numbers_come_back_exactly"],
        ),
        fault(
            "rounds integers to 53 bits",
            || Claims(Values::Json, integers_of_53_bits),
            &["json_numbers_come_back_exactly"],
        ),
        fault(
            "reformats JSON text",
            || Claims(Values::JsonText, reformatted),
            &["json_text_keeps_its_spelling"],
        ),
        fault(
            "accepts anything as JSON",
            || Claims(Values::JsonText, Ok),
            &["values_that_are_not_json_are_refused"],
        ),
        fault("does not answer a ping", || PingFails, &["ping_answers"]),
        fault("writes in a ping", || PingWrites, &["ping_leaves_no_entry"]),
        fault("loses entries in a flush", || FlushDrops, &["a_flush_keeps_entries"]),
        fault(
            "claims to be persistent but is not",
            || ClaimsPersistence,
            &["reopening_keeps_entries", "closing_a_handle_keeps_entries"],
        ),
        fault(
            "quotes the key in the source of an error",
            || ErrorsQuoteTheKey,
            &["errors_print_no_key_and_no_value"],
        ),
        fault("cannot be closed", || CloseFails, &["closing_twice_succeeds"]),
        fault("cannot be closed twice", SecondCloseFails::default, &["closing_twice_succeeds"]),
        handles_apart(),
    ]
}
