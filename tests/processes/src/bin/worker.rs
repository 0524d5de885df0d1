//! A process that uses a store, for tests that race or kill it.
//!
//! ```text
//! worker session URL KEY TASKS COUNT      adds 1 to the number in the session under KEY, COUNT times in each
//!                                         of TASKS concurrent tasks; prints the total runs of handlers, and
//!                                         the most runs for one update
//! worker lock URL KEY TASKS COUNT         the same with plain reads and writes under a lease of KEY
//! worker lease URL KEY TTL_MS             leases KEY, prints the token, and holds the lease until killed
//! worker owner URL OWNER TASKS            creates sessions of OWNER in TASKS concurrent tasks until killed
//! ```

use std::{
    error::Error,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use larder::{Expiry, Key};
use larder_processes::Guarded;
use larder_session::{Leases, Lifetime, Sessions};
use tokio::task::JoinSet;

type Failure = Box<dyn Error + Send + Sync>;
type Outcome = Result<(), Failure>;

const USAGE: &str =
    "worker session|lock URL KEY TASKS COUNT | worker lease URL KEY TTL_MS | worker owner URL OWNER TASKS";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["session", url, key, tasks, count] => session(url, key, tasks, count).await,
        ["lock", url, key, tasks, count] => lock(url, key, tasks, count).await,
        ["lease", url, key, ttl] => lease(url, key, ttl).await,
        ["owner", url, name, tasks] => owner(url, name, tasks).await,
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn session(url: &str, key: &str, tasks: &str, count: &str) -> Outcome {
    let (key, tasks, count) = (Key::new(key)?, tasks.parse()?, count.parse::<u64>()?);
    let sessions = Sessions::<u64>::builder().storage(larder::open(url).await?).build()?;
    let (total, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    all(tasks, |_| {
        let (sessions, key) = (sessions.clone(), key.clone());
        let (total, most) = (Arc::clone(&total), Arc::clone(&most));
        async move {
            for _ in 0..count {
                let mut runs = 0;
                let add = |sum: &mut u64| {
                    runs += 1;
                    *sum += 1;
                };
                sessions.modify(&key, add).await?;
                total.fetch_add(runs, Ordering::Relaxed);
                most.fetch_max(runs, Ordering::Relaxed);
            }
            Ok(())
        }
    })
    .await?;
    sessions.storage().close().await?;
    println!("{} {}", total.load(Ordering::Relaxed), most.load(Ordering::Relaxed));
    Ok(())
}

async fn lock(url: &str, key: &str, tasks: &str, count: &str) -> Outcome {
    let (key, tasks, count) = (Key::new(key)?, tasks.parse()?, count.parse::<u64>()?);
    let sessions = Sessions::<u64>::builder().storage(larder::open(url).await?).build()?;
    all(tasks, |_| {
        let (sessions, key) = (sessions.clone(), key.clone());
        async move {
            let store = sessions.storage();
            for _ in 0..count {
                let lease = sessions.lock(&key).await?;
                let seen = store.read_as::<Guarded>(&key).await?.unwrap_or_default();
                if seen.token >= lease.token() {
                    return Err(format!("token {} came after {}", lease.token(), seen.token).into());
                }
                // A second holder at the same time would read the same sum now.
                tokio::time::sleep(Duration::from_millis(1)).await;
                let next = Guarded { sum: seen.sum + 1, token: lease.token() };
                store.write_as(&key, &next, Expiry::Never).await?;
                lease.release().await?;
            }
            Ok(())
        }
    })
    .await?;
    Ok(sessions.storage().close().await?)
}

async fn lease(url: &str, key: &str, ttl: &str) -> Outcome {
    let (key, ttl) = (Key::new(key)?, Duration::from_millis(ttl.parse()?));
    let store = larder::open(url).await?;
    let lease = Leases::new(store).with_ttl(ttl).lock(&key).await?;
    println!("{}", lease.token());
    lease.lost().await;
    Err("the lease was lost".into())
}

async fn owner(url: &str, owner: &str, tasks: &str) -> Outcome {
    let sessions: Sessions<String> = Sessions::builder()
        .storage(larder::open(url).await?)
        .prefix("visit:")
        .lifetime(Lifetime::sliding(Duration::from_secs(3600)))
        .owner(|owner: &String| Some(owner.clone()))
        .build()?;
    all(tasks.parse()?, |task| {
        let (sessions, owner) = (sessions.clone(), owner.to_owned());
        async move {
            for number in 0_u64.. {
                sessions.set((task, number), owner.clone()).await?;
            }
            Ok(())
        }
    })
    .await
}

/// Runs `work` in `tasks` concurrent tasks, until all are done or one fails.
async fn all<F>(tasks: u64, work: impl Fn(u64) -> F) -> Outcome
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let mut running: JoinSet<_> = (0..tasks).map(work).collect();
    while let Some(task) = running.join_next().await {
        task??;
    }
    Ok(())
}
