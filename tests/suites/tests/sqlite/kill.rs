//! A writing process that is killed.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use larder_core::{Bytes, Key, Store};
use larder_sqlite::SqliteStorage;
use larder_testkit::{Must, Suite};

use crate::spaces::Files;

/// The file that the child writes to, in its environment.
const FILE: &str = "LARDER_TEST_SQLITE_KILL";
const ROUNDS: u64 = 50;
const WRITERS: u64 = 16;

pub(crate) fn is_child() -> bool {
    std::env::var_os(FILE).is_some()
}

/// Writes until it is killed, and prints each write that was acknowledged: `writer number`.
pub(crate) fn child() -> ! {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().must("start the runtime");
    runtime.block_on(async {
        let path = std::env::var_os(FILE).must("the file");
        let storage = SqliteStorage::builder().file(path).connect().await.must("open");
        let writers = (0..WRITERS).map(async |writer| {
            let key = key(writer);
            let first = last(&storage, &key).await + 1;
            for number in first.. {
                storage.write(&key, value(number)).await.must("write");
                println!("{writer} {number}");
            }
        });
        stream::iter(writers).for_each_concurrent(None, |writer| writer).await;
    });
    unreachable!("the writers go on for ever")
}

fn key(writer: u64) -> Key {
    Key::new(format!("writer {writer}")).must("a key")
}

/// A number, long enough to be torn: every eight bytes of it say the same.
fn value(number: u64) -> Bytes {
    Bytes::from(number.to_be_bytes().repeat(100))
}

async fn last(storage: &Store, key: &Key) -> u64 {
    let Some(record) = storage.read(key).await.must("read") else {
        return 0;
    };
    let number = u64::from_be_bytes(*record.value.first_chunk().must("eight bytes"));
    assert_eq!(record.value, value(number), "a torn value");
    number
}

pub(crate) fn cases(suite: Suite<Files>) -> Suite<Files> {
    suite
        .case("what_is_acknowledged_survives_kill_9", |context| async move {
            let path = context.factory.path(context.target.space());
            let mut acknowledged = vec![0_u64; usize::try_from(WRITERS).must("a small number")];
            let mut total = 0;
            for round in 0..ROUNDS {
                let mut child = Command::new(std::env::current_exe().must("this binary"))
                    .env(FILE, &path)
                    .stdout(Stdio::piped())
                    .spawn()
                    .must("start the writing process");
                let mut lines = BufReader::new(child.stdout.take().must("its output")).lines();
                // Killed after a number of writes that differs from round to round, in mid-load.
                let limit = 1 + (round * 7_919) % 200;
                for seen in 0.. {
                    if seen == limit {
                        child.kill().must("kill it");
                    }
                    // What it had printed before it died counts too.
                    let Some(line) = lines.next() else { break };
                    let line = line.must("its output");
                    let Some((writer, number)) = line.split_once(' ') else { continue };
                    // A last line that the kill cut off says less than was acknowledged, never more.
                    let (Ok(writer), Ok(number)) = (writer.parse::<usize>(), number.parse()) else {
                        continue;
                    };
                    if seen < limit {
                        acknowledged[writer] = number;
                        total += 1;
                    }
                }
                child.wait().must("it has ended");
                let storage = SqliteStorage::builder().file(&path).connect().await.must("open again");
                for (writer, number) in acknowledged.iter_mut().enumerate() {
                    let stored = last(&storage, &key(writer as u64)).await;
                    assert!(
                        stored >= *number,
                        "write {number} of writer {writer} is missing, {stored} is there"
                    );
                    *number = stored;
                }
                storage.close().await.must("close");
            }
            assert!(total >= ROUNDS, "the process hardly wrote anything: {total}");
        })
        .timeout(Duration::from_secs(300))
}
