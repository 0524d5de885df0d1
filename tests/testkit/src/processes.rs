//! Cases that need a second process, which is killed or races with another one.
//!
//! The second process runs the same test binary. Environment variables name its suite, its role and the address
//! of its space. It opens the space by the address, and reports acknowledged writes on its standard output.

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

/// How often the writing process is killed (full and slow scale).
const KILLS: (usize, usize) = (20, 10);
/// The number of writing tasks in this process.
const WRITERS: usize = 8;
/// The number of incrementing tasks in each process (full and slow scale).
const INCREMENTERS: (usize, usize) = (8, 1);
/// The number of increments of each task.
const INCREMENTS: usize = 100;

/// The line that a process prints once it has opened the store.
const READY: &str = "ready";

const SUITE: &str = "LARDER_TESTKIT_PROCESS_SUITE";
const ADDRESS: &str = "LARDER_TESTKIT_PROCESS_ADDRESS";
const ROLE: &str = "LARDER_TESTKIT_PROCESS_ROLE";

type Opening = Pin<Box<dyn Future<Output = Result<Store, Error>> + Send>>;

/// Describes a space of a factory as a text.
type Address<F> = Box<dyn Fn(&F, &str) -> String + Send + Sync>;

/// The role of the second process.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    /// Writes until it is killed.
    Write,
    /// Increments a number, concurrently with a third process.
    Increment,
}

impl Role {
    pub(crate) const ALL: [Self; 2] = [Self::Write, Self::Increment];

    /// Returns the name of the case.
    pub(crate) const fn case(self) -> &'static str {
        match self {
            Self::Write => "acknowledged_writes_survive_a_kill",
            Self::Increment => "two_processes_lose_no_update",
        }
    }
}

/// Runs the case in which the second process has this role, if the store makes the claim that the case checks.
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
        target.ignore(format!("the claim to be {claim} is not tested: call Suite::across_processes"));
        return;
    };
    let command = |role: &str| processes.command(&suite, &factory, &target, role);
    match role {
        Role::Write => acknowledged_writes_survive(command, &target).await,
        Role::Increment => no_update_is_lost(command, &target, &handle).await,
    }
}

/// Describes and opens a space of a suite for another process.
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

    /// Runs the role of the second process of `suite` and exits, if this process is one.
    pub(crate) fn run_if_second(&self, suite: &str, runtime: &Runtime) {
        if env::var(SUITE).is_ok_and(|name| name == suite) {
            let variable = |name| env::var(name).must("read the role of this process");
            let outcome = runtime.block_on(second(&variable(ROLE), (self.open)(variable(ADDRESS))));
            if let Err(error) = &outcome {
                eprintln!("second process: {}", chain(error));
            }
            process::exit(i32::from(outcome.is_err()));
        }
    }

    fn command(&self, suite: &str, factory: &F, target: &Target, role: &str) -> Command {
        assert!(env::var_os(SUITE).is_none(), "the second process has not found its suite");
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

/// Checks that every acknowledged write of a process is still stored, and complete, after that process was killed.
async fn acknowledged_writes_survive(command: impl Fn(&str) -> Command, target: &Target) {
    let (mut acknowledged, mut read) = ([0_u64; WRITERS], [0_u64; WRITERS]);
    let mut next = 1;
    for kill in 0..target.count(KILLS.0, KILLS.1) {
        // If only one process may open the store, it must be the process that is killed.
        target.close().await.must("close the store");
        let lines = 1 + kill * 37 % 150;
        write_until_killed(command(&format!("write {next}")), lines, &mut acknowledged).await;
        let handle = target.open().await;
        for (task, &number) in acknowledged.iter().enumerate() {
            let stored = stored(&handle, &task_key(task)).await.must("read after a kill");
            assert!(
                stored >= number,
                "kill {kill}: the write of {number} was acknowledged to the killed process, but {stored} is stored"
            );
            assert!(
                stored >= read[task],
                "kill {kill}: {} was read before the kill, but {stored} is stored",
                read[task]
            );
            read[task] = stored;
            next = next.max(stored + 1);
        }
    }
    assert!(
        acknowledged.iter().all(|&number| number > 0),
        "no write of a task was acknowledged before the kills"
    );
}

/// Lets two processes increment one number with compare-and-swap, and checks that the sum is exact. Without
/// conditions, each process has its own number.
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
    // Both processes open the store before one of them begins.
    let mut outputs = Vec::new();
    for child in &mut children {
        let mut output = BufReader::new(child.stdout.take().must("its output"));
        let mut line = String::new();
        while line.trim_end() != READY {
            line.clear();
            let length = output.read_line(&mut line).await.must("read a second process's output");
            assert!(length > 0, "a second process ended before it opened the store");
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

/// Runs a writer until `lines` lines were read from it, and then kills it while other writes are running.
async fn write_until_killed(mut command: Command, lines: usize, acknowledged: &mut [u64]) {
    let mut child = command.spawn().must("start a second process");
    let mut output = BufReader::new(child.stdout.take().must("its output"));
    let mut line = String::new();
    for read in 0.. {
        if read == lines {
            child.start_kill().must("kill the second process");
        }
        line.clear();
        // Lines that were written to the pipe before the kill can still be read after it.
        let length = output.read_line(&mut line).await.must("read the second process's output");
        assert!(length > 0 || read >= lines, "the second process ended by itself");
        // The kill may have truncated the last line.
        let Some((task, number)) = line.strip_suffix('\n').and_then(|line| line.split_once(' ')) else {
            break;
        };
        let task: usize = task.parse().must("read the number of a task");
        acknowledged[task] = number.parse().must("read the acknowledged number");
    }
    child.kill().await.must("kill the second process");
}

/// Runs the role of the second process.
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
            // Waits until the first process closes it.
            tokio::io::stdin().read_to_end(&mut Vec::new()).await.must("read standard input");
            increment(&Handle::new(store.clone()), parse(process), parse(tasks)).await?;
            store.close().await
        }
        _ => panic!("the role of the second process is unknown"),
    }
}

/// Writes without end.
async fn write(store: Store, task: usize, first: usize) -> Result<(), Error> {
    let mut output = tokio::io::stdout();
    for number in first as u64.. {
        store.write(task_key(task), value(number)).await?;
        // Each line is one short write, so the lines of several tasks do not mix.
        output.write_all(format!("{task} {number}\n").as_bytes()).await.must("write to standard output");
        output.flush().await.must("write to standard output");
    }
    Ok(())
}

/// Increments the number of this process.
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
    record.map_or(0, |record| serde_json::from_slice(&record.value).must("parse the number"))
}

/// Returns the key of the number that a process increments: the same for both if the store supports conditions.
fn number_key(handle: &Handle, process: usize) -> Key {
    match handle.info().conditions() {
        true => key("number"),
        false => key(&format!("number-{process}")),
    }
}

/// Returns the stored number, and checks that its value is complete. Returns 0 if the entry does not exist.
async fn stored(store: &Store, key: &Key) -> Result<u64, Error> {
    let Some(record) = store.read(key).await? else { return Ok(0) };
    let numbers: Vec<u64> = serde_json::from_slice(&record.value).must("parse a stored value");
    let number = numbers.first().copied().must("find the number in a value");
    assert!(numbers == numbers_of(number), "the stored value is a mixture of several writes");
    Ok(number)
}

/// Returns a value with the number, as JSON, which every store can hold.
fn value(number: u64) -> Vec<u8> {
    serde_json::to_vec(&numbers_of(number)).must("write JSON")
}

/// Repeats the number, which makes the value longer than a page. The length depends on the number.
fn numbers_of(number: u64) -> Vec<u64> {
    vec![number; number as usize % 61 * 20 + 1]
}

fn task_key(task: usize) -> Key {
    key(&format!("task-{task}"))
}
