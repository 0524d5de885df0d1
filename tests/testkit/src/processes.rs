//! Cases that need a second process: it is killed, or races with this one.
//!
//! The second process is the test binary again, told by the environment which suite it belongs to. It
//! opens a space by its address, and says on its standard output what was acknowledged.

use std::{
    collections::BTreeSet,
    env,
    future::Future,
    pin::Pin,
    process::{self, Stdio},
    sync::Arc,
};

use larder_core::{Error, Key, Store};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::Command,
    runtime::Runtime,
};

use crate::{
    Context, Factory, Handle, Must, Target, increment_by_conditional_write, laws::key, must::chain, race,
};

/// How often the writing process is killed.
const KILLS: (usize, usize) = (20, 10);
/// How many tasks write in it.
const WRITERS: usize = 8;
/// How many tasks of each process increment the number.
const INCREMENTERS: (usize, usize) = (8, 1);
/// How often each of them does.
const INCREMENTS: usize = 100;

/// What a process prints once it has opened the store.
const READY: &str = "ready";

const SUITE: &str = "LARDER_TESTKIT_PROCESS_SUITE";
const ADDRESS: &str = "LARDER_TESTKIT_PROCESS_ADDRESS";
const ROLE: &str = "LARDER_TESTKIT_PROCESS_ROLE";

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

impl Role {
    pub(crate) const ALL: [Self; 2] = [Self::Write, Self::Increment];

    /// The name of the case.
    pub(crate) const fn case(self) -> &'static str {
        match self {
            Self::Write => "acknowledged_writes_survive_a_kill",
            Self::Increment => "two_processes_lose_no_update",
        }
    }
}

/// Runs the case in which the second process has this role, if the store claims what it is about.
pub(crate) async fn run<F: Factory>(
    role: Role,
    suite: String,
    processes: Option<Arc<Processes<F>>>,
    Context { factory, target }: Context<F>,
) {
    let handle = target.open().await;
    let (claimed, claim) = match role {
        Role::Write => (handle.info().persistent, "persistent"),
        Role::Increment => (handle.info().shared, "shared"),
    };
    if !claimed {
        target.ignore(format!("the store does not claim to be {claim}"));
        return;
    }
    let Some(processes) = processes else {
        target.ignore(format!(
            "that the store is {claim} is not tested: Suite::across_processes tells how another process opens it"
        ));
        return;
    };
    let command = |role: &str| processes.command(&suite, &factory, &target, role);
    match role {
        Role::Write => acknowledged_writes_survive(command, &target).await,
        Role::Increment => no_update_is_lost(command, &target, &handle).await,
    }
}

/// How another process finds a space of a suite, and opens it.
pub(crate) struct Processes<F> {
    address: Address<F>,
    open: Box<dyn Fn(String) -> Opening + Send + Sync>,
}

impl<F: Factory> Processes<F> {
    pub(crate) fn new<O>(
        address: impl Fn(&F, &str) -> String + Send + Sync + 'static,
        open: impl Fn(String) -> O + Send + Sync + 'static,
    ) -> Self
    where
        O: Future<Output = Result<Store, Error>> + Send + 'static,
    {
        Self { address: Box::new(address), open: Box::new(move |address| Box::pin(open(address))) }
    }

    /// Plays the second process of `suite` and ends, if this process is one.
    pub(crate) fn run_if_second(&self, suite: &str, runtime: &Runtime) {
        if env::var(SUITE).is_ok_and(|name| name == suite) {
            let variable = |name| env::var(name).must("read what this process is to do");
            let outcome = runtime.block_on(second(&variable(ROLE), (self.open)(variable(ADDRESS))));
            if let Err(error) = &outcome {
                eprintln!("second process: {}", chain(error));
            }
            process::exit(i32::from(outcome.is_err()));
        }
    }

    fn command(&self, suite: &str, factory: &F, target: &Target, role: &str) -> Command {
        assert!(env::var_os(SUITE).is_none(), "the second process did not find its suite");
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
}

/// What is acknowledged to a process is still stored, and whole, after that process was killed.
async fn acknowledged_writes_survive(command: impl Fn(&str) -> Command, target: &Target) {
    let (mut acknowledged, mut read) = ([0_u64; WRITERS], [0_u64; WRITERS]);
    let mut next = 1;
    for kill in 0..target.count(KILLS.0, KILLS.1) {
        // Where only one process may have the store open, that is the one that is killed.
        target.close().await.must("close the store");
        let lines = 1 + kill * 37 % 150;
        write_until_killed(command(&format!("write {next}")), lines, &mut acknowledged).await;
        let handle = target.open().await;
        for (task, &number) in acknowledged.iter().enumerate() {
            let stored = stored(&handle, &task_key(task)).await.must("read after a kill");
            assert!(
                stored >= number,
                "kill {kill}: number {number} was acknowledged to the killed process, and {stored} is stored"
            );
            assert!(
                stored >= read[task],
                "kill {kill}: number {} was read before the kill, and {stored} is stored",
                read[task]
            );
            read[task] = stored;
            next = next.max(stored + 1);
        }
    }
    assert!(
        acknowledged.iter().all(|&number| number > 0),
        "a task had nothing acknowledged before the kills"
    );
}

/// Two processes increment one number under compare-and-swap: the sum is exact. Without conditions, each
/// has a number of its own.
async fn no_update_is_lost(command: impl Fn(&str) -> Command, target: &Target, handle: &Handle) {
    let tasks = match handle.info().conditions() {
        true => target.count(INCREMENTERS.0, INCREMENTERS.1),
        false => 1,
    };
    let start = |process| {
        let mut command = command(&format!("increment {process} {tasks}"));
        command.stdin(Stdio::piped()).spawn().must("start a second process")
    };
    let mut children = [0, 1].map(start);
    // Both have the store open before one of them begins.
    let mut outputs = Vec::new();
    for child in &mut children {
        let mut output = BufReader::new(child.stdout.take().must("its output"));
        let mut line = String::new();
        while line.trim_end() != READY {
            line.clear();
            let length = output.read_line(&mut line).await.must("read a second process's output");
            assert!(length > 0, "a second process ended before it had opened the store");
        }
        outputs.push(output);
    }
    for child in &mut children {
        drop(child.stdin.take());
    }
    for mut child in children {
        let status = child.wait().await.must("wait for a second process");
        assert!(status.success(), "a second process failed: {status}");
    }
    let mut sum = 0;
    for key in BTreeSet::from([0, 1].map(|process| number_key(handle, process))) {
        sum += read_number(handle, &key).await;
    }
    assert_eq!(sum, (2 * tasks * INCREMENTS) as u64, "the sum of the increments of two processes");
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
    child.kill().await.must("kill the second process");
}

/// What the second process does.
async fn second(role: &str, opening: Opening) -> Result<(), Error> {
    let store = opening.await?;
    let parse = |text: &str| text.parse().must("read a number of the role");
    match role.split(' ').collect::<Vec<_>>()[..] {
        ["write", first] => {
            let writers = (0..WRITERS).map(|task| write(store.clone(), task, parse(first)));
            futures_util::future::try_join_all(writers).await.map(drop)
        }
        ["increment", process, tasks] => {
            let mut output = tokio::io::stdout();
            output.write_all(format!("{READY}\n").as_bytes()).await.must("write to standard output");
            output.flush().await.must("write to standard output");
            // Until the first process closes it.
            tokio::io::stdin().read_to_end(&mut Vec::new()).await.must("read standard input");
            increment(&Handle::new(store.clone()), parse(process), parse(tasks)).await?;
            store.close().await
        }
        _ => panic!("there is no such role"),
    }
}

/// Writes without end.
async fn write(store: Store, task: usize, first: usize) -> Result<(), Error> {
    let mut output = tokio::io::stdout();
    for number in first as u64.. {
        store.write(task_key(task), value(number)).await?;
        // One short write each: the lines of several tasks do not mix.
        output.write_all(format!("{task} {number}\n").as_bytes()).await.must("write to standard output");
        output.flush().await.must("write to standard output");
    }
    Ok(())
}

/// Increments the number that this process increments.
async fn increment(handle: &Handle, process: usize, tasks: usize) -> Result<(), Error> {
    let key = number_key(handle, process);
    if handle.info().conditions() {
        let task = |_| {
            let (handle, key) = (handle.clone(), key.clone());
            async move { increment_by_conditional_write(&handle, &key, INCREMENTS).await }
        };
        race(tasks, task).await;
        return Ok(());
    }
    for _ in 0..INCREMENTS {
        let next = read_number(handle, &key).await + 1;
        handle.write(&key, next.to_string()).await?;
    }
    Ok(())
}

async fn read_number(handle: &Handle, key: &Key) -> u64 {
    let record = handle.read(key).await.must("read the number");
    record.map_or(0, |record| serde_json::from_slice(&record.value).must("read the number as one"))
}

/// The entry that a process increments: both the same, if the store has conditions.
fn number_key(handle: &Handle, process: usize) -> Key {
    match handle.info().conditions() {
        true => key("number"),
        false => key(&format!("number-{process}")),
    }
}

/// The number that is stored, in a value that is whole; 0 without one.
async fn stored(store: &Store, key: &Key) -> Result<u64, Error> {
    let Some(record) = store.read(key).await? else { return Ok(0) };
    let numbers: Vec<u64> = serde_json::from_slice(&record.value).must("read a value that was stored");
    let number = numbers.first().copied().must("find the number in a value");
    assert!(numbers == numbers_of(number), "a mixture of several writes is stored");
    Ok(number)
}

/// A value that holds the number, as JSON, so that every store can hold it.
fn value(number: u64) -> Vec<u8> {
    serde_json::to_vec(&numbers_of(number)).must("write JSON")
}

/// The number many times over, so that the value spans pages. How often differs from number to number.
fn numbers_of(number: u64) -> Vec<u64> {
    vec![number; number as usize % 61 * 20 + 1]
}

fn task_key(task: usize) -> Key {
    key(&format!("task-{task}"))
}
