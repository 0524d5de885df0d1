//! Batches of a process that is killed.

use std::{collections::BTreeSet, env, path::PathBuf, process::Stdio};

use larder_core::{Applied, Change, Condition, Expiry, Key, ReadOptions, Result, Store};
use larder_sqlite::Config;
use larder_testkit::{Must, Suite};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    runtime::Runtime,
};

use crate::spaces::Files;

/// Names the database to the second process.
const PATH: &str = "LARDER_SQLITE_BATCHES";
/// The number of times that the process is killed.
const KILLS: usize = 12;
/// The number of entries that a batch puts: some on the condition that they are as read, and some without one.
const PUTS: usize = 64;

/// Writes batches until this process is killed, if it is the second process.
pub(crate) fn run_if_second() {
    if let Some(path) = env::var_os(PATH) {
        let runtime = Runtime::new().must("a runtime");
        runtime.block_on(async { write(&open(path.into()).await).await }).must("apply a batch");
    }
}

async fn open(path: PathBuf) -> Store {
    Config::new().file(path).connect().await.must("open")
}

fn key(name: impl ToString) -> Key {
    Key::new(name.to_string()).must("a key")
}

/// The round of each entry; 0 if it is missing.
async fn rounds(store: &Store) -> Result<Vec<(u64, Condition)>> {
    let keys: Vec<_> = (0..PUTS).map(key).collect();
    let records = store.read_many(&keys, &ReadOptions::new()).await.into_iter().map(|record| {
        let Some(record) = record? else { return Ok((0, Condition::Absent)) };
        let text = String::from_utf8(record.value.to_vec()).must("text");
        Ok((text.parse().must("a number"), Condition::unchanged(record.version)))
    });
    records.collect()
}

/// Applies batches of puts, a deletion and touches, and prints the number of each.
async fn write(store: &Store) -> Result<()> {
    loop {
        let rounds = rounds(store).await?;
        let round = rounds[0].0 + 1;
        let puts = rounds.into_iter().enumerate().map(|(number, (_, seen))| {
            let put = Change::put(key(number), round.to_string(), Expiry::Never);
            if number % 4 == 0 { put } else { put.on(seen) }
        });
        let odd = if round % 2 == 1 {
            Change::put(key("odd"), "1", Expiry::Never).on(Condition::Absent)
        } else {
            Change::delete(key("odd")).on(Condition::Present)
        };
        let touch = Change::touch(key("touched"), Expiry::after_secs(3_600));
        let changes = puts.chain([odd, touch]).collect();
        store.apply(changes).await.into_iter().collect::<Result<Vec<Applied>>>()?;
        println!("{round}");
    }
}

pub(crate) fn cases(suite: Suite<Files>) -> Suite<Files> {
    suite.case("a_batch_of_a_killed_process_is_stored_entirely_or_not", |context| async move {
        let path = context.factory.path(context.target.space());
        open(path.clone()).await.write("touched", "1").await.must("write");
        let mut acknowledged = 0;
        for kill in 0..KILLS {
            let program = env::current_exe().must("find this test's binary");
            let mut command = Command::new(program);
            let command = command.env(PATH, &path).stdin(Stdio::null()).stdout(Stdio::piped());
            let mut child = command.kill_on_drop(true).spawn().must("start a second process");
            let mut lines = BufReader::new(child.stdout.take().must("its output")).lines();
            let mut read = 0;
            while let Some(line) = lines.next_line().await.must("read the second process's output") {
                acknowledged = line.parse().must("the number of a batch");
                read += 1;
                if read == 1 + kill * 5 {
                    child.start_kill().must("kill the second process");
                }
            }
            assert!(read > kill * 5, "the second process ended by itself");
            child.wait().await.must("wait for the second process");
            let store = open(path.clone()).await;
            let found: BTreeSet<_> =
                rounds(&store).await.must("read").into_iter().map(|(round, _)| round).collect();
            assert_eq!(found.len(), 1, "kill {kill}: a batch was stored in part: {found:?}");
            let round = *found.first().must("a round");
            assert!(
                round == acknowledged || round == acknowledged + 1,
                "kill {kill}: batch {acknowledged} was acknowledged, and {round} is stored"
            );
            assert_eq!(store.contains("odd").await.must("look"), round % 2 == 1, "kill {kill}");
            store.close().await.must("close");
        }
    })
}
