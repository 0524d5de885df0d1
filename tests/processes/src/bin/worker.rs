//! A process that uses a store, for tests that race or kill it.
//!
//! ```text
//! worker increment URL KEY TASKS COUNT    adds COUNT to the number under KEY in each of TASKS tasks,
//!                                         which all race each other
//! worker queue URL KEY TASKS COUNT        the same, but the tasks take turns: only processes race
//! worker write URL TASKS FIRST            writes notes without end, from number FIRST on, and
//!                                         prints `TASK NUMBER` for each that was acknowledged
//! ```

use std::{error::Error, process::ExitCode, sync::Arc};

use larder::{Expiry, Key, Storage, StorageExt};
use larder_processes::Note;
use tokio::{io::AsyncWriteExt, sync::Mutex, task::JoinSet};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["increment", url, key, tasks, count] => increment(url, key, tasks, count, false).await,
        ["queue", url, key, tasks, count] => increment(url, key, tasks, count, true).await,
        ["write", url, tasks, first] => write(url, tasks, first).await,
        _ => Err("worker increment|queue URL KEY TASKS COUNT | worker write URL TASKS FIRST".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn increment(url: &str, key: &str, tasks: &str, count: &str, queue: bool) -> Outcome {
    let (key, tasks, count) = (Key::new(key)?, tasks.parse::<u64>()?, count.parse::<u64>()?);
    let storage: Arc<dyn Storage> = larder::open(url).await?.into();
    let turn = Arc::new(Mutex::new(()));
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        let (storage, key, turn) = (Arc::clone(&storage), key.clone(), Arc::clone(&turn));
        running.spawn(async move {
            for _ in 0..count {
                let _turn = if queue { Some(turn.lock().await) } else { None };
                storage.update_as(&key, Expiry::Never, |sum: Option<u64>| Some(sum.unwrap_or(0) + 1)).await?;
            }
            Ok::<_, larder::Error>(())
        });
    }
    while let Some(task) = running.join_next().await {
        task??;
    }
    Ok(storage.close().await?)
}

async fn write(url: &str, tasks: &str, first: &str) -> Outcome {
    let (tasks, first) = (tasks.parse::<u64>()?, first.parse::<u64>()?);
    let storage: Arc<dyn Storage> = larder::open(url).await?.into();
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let storage = Arc::clone(&storage);
        running.spawn(async move {
            let key = Key::new(format!("task:{task}"))?;
            let mut output = tokio::io::stdout();
            for number in first.. {
                storage.write_as(&key, &Note::new(number), Expiry::Never).await?;
                // One short write each: the lines of several tasks do not mix.
                output.write_all(format!("{task} {number}\n").as_bytes()).await?;
                output.flush().await?;
            }
            Outcome::Ok(())
        });
    }
    while let Some(task) = running.join_next().await {
        task??;
    }
    Ok(())
}
