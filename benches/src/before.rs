//! Adds an earlier build of this program as a contender. It runs as a child process with stores of its own, and
//! measures its Larder on request, in turns with the other contenders.

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
};

use crate::{
    contenders::Set,
    data::Data,
    measure::{Contender, Kind, Load, Operation, Sample},
    stores::{self, Bench, Place},
};

/// The argument that starts such a child.
pub const CHILD: &str = "before-child";

pub struct Before(Arc<Mutex<Talk>>);

struct Talk {
    /// Killed when this value is dropped.
    _child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Before {
    pub async fn start(binary: &Path, bench: &Bench, data: Data) -> Self {
        let mut child = Command::new(binary)
            .args([CHILD, bench.name, &data.keys.to_string(), &data.size.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let mut from = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(from.next_line().await.unwrap().as_deref(), Some("ready"));
        Self(Arc::new(Mutex::new(Talk { _child: child, to, from })))
    }

    /// Adds a contender to every row.
    pub fn join(self, set: &mut Set) {
        for (&operation, contenders) in &mut set.rows {
            let talk = Arc::clone(&self.0);
            contenders.push(Contender::of(Kind::Before, "larder, before", move |load| {
                let talk = Arc::clone(&talk);
                async move { talk.lock().await.ask(operation, load).await }.boxed()
            }));
        }
    }
}

impl Talk {
    async fn ask(&mut self, operation: Operation, load: Load) -> Result<Sample, String> {
        let Load { tasks, keys, time } = load;
        let line = format!("{} {tasks} {keys} {}\n", operation.name(), time.as_millis());
        self.to.write_all(line.as_bytes()).await.unwrap();
        let answer = self.from.next_line().await.unwrap().ok_or("the earlier build has ended")?;
        let numbers = answer.split_once(' ').map(|(operations, nanos)| (operations.parse(), nanos.parse()));
        match numbers {
            Some((Ok(operations), Ok(nanos))) => Ok(Sample { operations, took: Duration::from_nanos(nanos) }),
            _ => Err(answer),
        }
    }
}

pub async fn child(store: &str, keys: &str, size: &str) {
    let bench = stores::ALL.iter().find(|bench| bench.name == store).unwrap();
    let data = Data { keys: keys.parse().unwrap(), size: size.parse().unwrap() };
    let set = (bench.open)(Place { data, peers: false, url: None, space: "before" }).await;
    println!("ready");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        let words: Vec<_> = line.split(' ').collect();
        let operation = Operation::ALL.into_iter().find(|operation| operation.name() == words[0]).unwrap();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let load = Load { tasks: number(1), keys: number(2), time: Duration::from_millis(number(3)) };
        let contender = set.rows[&operation].iter().find(|contender| contender.kind == Kind::Larder).unwrap();
        match contender.run(load).await {
            Ok(sample) => println!("{} {}", sample.operations, sample.took.as_nanos()),
            Err(failure) => println!("failed: {failure}"),
        }
    }
}
