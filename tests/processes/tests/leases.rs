//! Leases across processes: one holder at a time, which keeps its lease while it lives.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use larder::{ErrorKind, Expiry, Key};
use larder_processes::{Guarded, Stores};
use larder_session::Leases;
use larder_testkit::{Context, Fails, Lifetime, Missing, Must, Runner, Suite};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::sleep,
};

/// A lease is renewed after a third of this, and a machine under load may delay a worker by two seconds.
const TTL: Duration = Duration::from_secs(3);
/// Long enough for a slow machine. The test fails if a lease never ends.
const LIMIT: Duration = Duration::from_secs(60);

const PROCESSES: u64 = 2;
const TASKS: u64 = 4;
/// The increments of each task.
const INCREMENTS: u64 = 25;

fn main() {
    Runner::new()
        .suite(killed("file", || async { Stores::file() }))
        .suite(excluding(killed("sqlite", || async { Stores::sqlite() })))
        .suite(excluding(killed("postgres", || Stores::postgres(""))))
        .suite(excluding(killed("mysql", || Stores::mysql(""))))
        .suite(excluding(killed("redis", Stores::redis)))
        .suite(killed("valkey", Stores::valkey))
        .suite(killed("mongodb", || Stores::mongodb("")))
        .suite(killed("dynamodb", Stores::dynamodb))
        .main()
}

fn killed<C>(name: &str, connect: impl Fn() -> C + Send + Sync + 'static) -> Suite<Stores>
where
    C: Future<Output = Result<Stores, Missing>> + Send + 'static,
{
    Suite::connect(name, connect)
        .without_laws()
        .timeout(Duration::from_secs(300))
        .case("a_lease_lives_as_long_as_its_process_and_then_expires", lasts_and_expires)
}

fn excluding(suite: Suite<Stores>) -> Suite<Stores> {
    suite.case("two_processes_never_hold_one_lease_at_once", never_overlaps)
}

async fn lasts_and_expires(context: Context<Stores>) {
    let url = context.factory.url(context.target.space());
    let storage = context.target.open().await;
    let leases = Leases::new(&*storage).with_ttl(TTL).with_wait_limit(LIMIT);
    let key = Key::new("shared").expect("make a key");
    let (mut worker, first) = hold(&url, &key).await;

    // The lease lasts longer than its time to live, because it is renewed.
    let start = Instant::now();
    while start.elapsed() < 3 * TTL {
        assert!(leases.try_lock(&key).await.must("try to lock").is_none(), "a held lease was granted again");
        sleep(Duration::from_millis(100)).await;
    }
    leases.check(&key, first).await.must("check the token of the holder");

    let waiter = tokio::spawn({
        let (leases, key) = (leases.clone(), key.clone());
        async move { leases.lock(&key).await.map(|lease| (lease, Instant::now())) }
    });
    let held = Key::new(format!("{}held:{key}", Leases::DEFAULT_PREFIX)).expect("make a key");
    let asked = Instant::now();
    let left = match storage.ttl(&held).await.must("read the time that the lease has left") {
        Some(Expiry::After(left)) if left <= TTL => left,
        left => panic!("a lease of {TTL:?} has {left:?} left"),
    };
    let killed = Instant::now();
    worker.kill().await.expect("kill the worker");

    let (lease, granted) = waiter.await.expect("run the waiter").must("wait for the lease");
    assert!(granted > killed, "the lease was granted while its holder lived");
    let waited = granted - asked;
    assert!(
        waited + Lifetime::EARLY >= left,
        "the lease was granted after {waited:?}, but it had {left:?} left"
    );
    assert!(lease.token() > first, "token {} came after {first}", lease.token());
    leases.check(&key, first).await.fails(ErrorKind::Conflict, "check the token of the killed holder");
    leases.check(&key, lease.token()).await.must("check the token of the holder");
    lease.release().await.must("release the lease");
}

/// Starts a worker that holds the lease of `key`; returns it and its token.
async fn hold(url: &str, key: &Key) -> (Child, u64) {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_worker"))
        .args(["lease", url, key.as_str(), &TTL.as_millis().to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("start a worker");
    let mut output = BufReader::new(worker.stdout.take().expect("take the worker's output"));
    let mut line = String::new();
    output.read_line(&mut line).await.expect("read the worker's output");
    (worker, line.trim_end().parse().expect("parse the token"))
}

async fn never_overlaps(context: Context<Stores>) {
    let url = context.factory.url(context.target.space());
    let storage = context.target.open().await;
    let workers: Vec<_> = (0..PROCESSES)
        .map(|_| {
            Command::new(env!("CARGO_BIN_EXE_worker"))
                .args(["lock", &url, "sum", &TASKS.to_string(), &INCREMENTS.to_string()])
                .kill_on_drop(true)
                .spawn()
                .expect("start a worker")
        })
        .collect();
    for mut worker in workers {
        assert!(worker.wait().await.expect("wait for a worker").success(), "a worker failed");
    }
    let stored =
        storage.read_as::<Guarded>(&Key::new("sum").expect("make a key")).await.expect("read the sum");
    let stored = stored.expect("find the sum");
    let sum = PROCESSES * TASKS * INCREMENTS;
    assert_eq!(stored.sum, sum);
    // Each lease draws a token, and attempts that came too late may have drawn more.
    assert!(stored.token >= sum, "{sum} leases, but the last token is {}", stored.token);
}
