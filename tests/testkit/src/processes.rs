//! Cases that need a second process: it is killed, or races with this one.
//!
//! The second process is the test binary again, told by the environment which suite it belongs to. It
//! opens a space by its address, and says on its standard output what was acknowledged.

use std::{
    env,
    future::Future,
    pin::Pin,
    process::{self, Stdio},
    sync::Arc,
};

use larder_core::{Bytes, Condition, Error, ErrorKind, Store, WriteOptions};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    runtime::Runtime,
};

use crate::{Factory, Must, Target, laws::key};

/// How often the writing process is killed.
const KILLS: (usize, usize) = (10, 3);
/// How many tasks write in it.
const TASKS: u64 = 4;
/// How many increments each of two processes makes.
const INCREMENTS: (usize, usize) = (300, 30);

const SUITE: &str = "LARDER_TESTKIT_PROCESS_SUITE";
const ADDRESS: &str = "LARDER_TESTKIT_PROCESS_ADDRESS";
const ROLE: &str = "LARDER_TESTKIT_PROCESS_ROLE";

/// The names of the cases.
pub(crate) const CASES: [&str; 2] = ["acknowledged_writes_survive_a_kill", "two_processes_lose_no_update"];

type Opening = Pin<Box<dyn Future<Output = Result<Store, Error>> + Send>>;

/// Describes a space of a factory as a text.
type Address<F> = Box<dyn Fn(&F, &str) -> String + Send + Sync>;

/// What the second process does.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    /// Writes until it is killed.
    Write,
    /// Increments a number, and so does a third process.
    Increment,
}

/// How another process finds a space of a suite, and opens it.
pub(crate) struct Processes<F> {
    address: Address<F>,
    open: Arc<dyn Fn(String) -> Opening + Send + Sync>,
}

impl<F: Factory> Processes<F> {
    pub(crate) fn new<O>(
        address: impl Fn(&F, &str) -> String + Send + Sync + 'static,
        open: impl Fn(String) -> O + Send + Sync + 'static,
    ) -> Self
    where
        O: Future<Output = Result<Store, Error>> + Send + 'static,
    {
        Self { address: Box::new(address), open: Arc::new(move |address| Box::pin(open(address))) }
    }

    /// Plays the second process of `suite` and ends, if this process is one.
    pub(crate) fn run_if_second(&self, suite: &str, runtime: &Runtime) {
        if env::var(SUITE).is_ok_and(|name| name == suite) {
            let variable = |name| env::var(name).must("read what this process is to do");
            let outcome = runtime.block_on(second(&variable(ROLE), (self.open)(variable(ADDRESS))));
            if let Err(error) = &outcome {
                eprintln!("second process: {error}: {error:?}");
            }
            process::exit(i32::from(outcome.is_err()));
        }
    }

    /// Runs the case in which the second process has this role.
    pub(crate) async fn run(&self, role: Role, suite: &str, factory: &F, target: &Target) {
        match role {
            Role::Write => self.acknowledged_writes_survive(suite, factory, target).await,
            Role::Increment => self.no_update_is_lost(suite, factory, target).await,
        }
    }

    fn command(&self, suite: &str, factory: &F, target: &Target, role: &str) -> Command {
        let program = env::current_exe().must("find this test's binary");
        let mut command = Command::new(program);
        command
            .env(SUITE, suite)
            .env(ADDRESS, (self.address)(factory, target.space()))
            .env(ROLE, role)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// What is acknowledged to a process is still stored after that process was killed.
    async fn acknowledged_writes_survive(&self, suite: &str, factory: &F, target: &Target) {
        let handle = target.open().await;
        let info = *handle.info();
        // Where only one process may have the store open, that is the one that is killed.
        target.close().await.must("close the store");
        if !info.persistent {
            return;
        }
        let mut acknowledged = [0_u64; TASKS as usize];
        let mut next = 1;
        for kill in 0..target.count(KILLS.0, KILLS.1) {
            let command = self.command(suite, factory, target, &format!("write {next}"));
            write_until_killed(command, 1 + kill * 7 % 60, &mut acknowledged).await;
            let handle = target.open().await;
            for (task, &number) in (0_u64..).zip(&acknowledged) {
                let stored = stored(&handle, &task_key(task)).await.must("read after a kill");
                assert!(
                    stored >= number,
                    "kill {kill}: number {number} was acknowledged to the killed process, and {stored} is stored"
                );
                next = next.max(stored + 1);
            }
            target.close().await.must("close the store");
        }
        assert!(acknowledged.iter().any(|&number| number > 0), "nothing was acknowledged before the kills");
    }

    /// Two processes increment one number under compare-and-swap: the sum is exact.
    async fn no_update_is_lost(&self, suite: &str, factory: &F, target: &Target) {
        let handle = target.open().await;
        let info = *handle.info();
        if !(info.shared && info.conditions()) {
            return;
        }
        let increments = target.count(INCREMENTS.0, INCREMENTS.1);
        let mut children: Vec<Child> = Vec::new();
        for _ in 0..2 {
            let mut command = self.command(suite, factory, target, &format!("increment {increments}"));
            children.push(command.spawn().must("start a second process"));
        }
        for child in &mut children {
            let status = child.wait().await.must("wait for a second process");
            assert!(status.success(), "a second process failed: {status}");
        }
        let sum = stored(&handle, &key("sum")).await.must("read the sum");
        assert_eq!(sum, 2 * increments as u64, "the sum of the increments of two processes");
    }
}

/// Runs a writer until so many lines were read from it, and kills it there and then, with others of its
/// writes under way.
async fn write_until_killed(mut command: Command, lines: usize, acknowledged: &mut [u64]) {
    let mut child = command.spawn().must("start a second process");
    let mut output = BufReader::new(child.stdout.take().must("its output"));
    let mut line = String::new();
    for read in 0.. {
        if read == lines {
            child.start_kill().must("kill the second process");
        }
        line.clear();
        // What was written to the pipe before the kill is still read after it.
        let length = output.read_line(&mut line).await.must("read the second process's output");
        assert!(length > 0 || read >= lines, "the second process ended by itself");
        // The kill may have cut the last line.
        let Some((task, number)) = line.strip_suffix('\n').and_then(|line| line.split_once(' ')) else {
            break;
        };
        let task: usize = task.parse().must("read the number of a task");
        acknowledged[task] = number.parse().must("read the number that was acknowledged");
    }
    child.wait().await.must("wait for the second process");
}

/// What the second process does.
async fn second(role: &str, opening: Opening) -> Result<(), Error> {
    let store = opening.await?;
    let (role, number) = role.split_once(' ').must("split the role");
    let number: u64 = number.parse().must("read the role's number");
    match role {
        "write" => {
            let writers = (0..TASKS).map(|task| write(store.clone(), task, number));
            futures_util::future::try_join_all(writers).await.map(drop)
        }
        _ => {
            for _ in 0..number {
                increment(&store).await?;
            }
            store.close().await
        }
    }
}

/// Writes without end.
async fn write(store: Store, task: u64, first: u64) -> Result<(), Error> {
    let mut output = tokio::io::stdout();
    for number in first.. {
        store.write(task_key(task), number.to_string()).await?;
        // One short write each: the lines of several tasks do not mix.
        output.write_all(format!("{task} {number}\n").as_bytes()).await.must("write to standard output");
        output.flush().await.must("write to standard output");
    }
    Ok(())
}

async fn increment(store: &Store) -> Result<(), Error> {
    let key = key("sum");
    loop {
        let record = store.read(&key).await?;
        let sum = record.as_ref().map_or(0, |record| number(&record.value));
        let condition = Condition::unchanged(record.and_then(|record| record.version));
        let options = WriteOptions::new().condition(condition);
        match store.write_with(&key, (sum + 1).to_string().into(), &options).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            written => return written.map(drop),
        }
    }
}

async fn stored(store: &Store, key: &larder_core::Key) -> Result<u64, Error> {
    Ok(store.read(key).await?.map_or(0, |record| number(&record.value)))
}

/// A number is JSON, so that every store can hold it.
fn number(value: &Bytes) -> u64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).must("read a number that was stored")
}

fn task_key(task: u64) -> larder_core::Key {
    key(&format!("task-{task}"))
}
