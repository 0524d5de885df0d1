//! The SQLite adapter: the laws in each of its modes, and the cases of SQLite alone.

mod changes;
mod damage;
mod files;
mod gone;
mod kill;
mod locks;
mod looking;
mod memory;
mod pool;
#[cfg(unix)]
mod rights;
mod shape;
mod spaces;
mod sweeping;

use std::sync::Arc;

use larder_sqlite::{Synchronous, ValueFormat};
use larder_testkit::{Must, Suite};
use libtest_mimic::{Arguments, Trial};

use crate::spaces::{Files, InMemory, OwnPool};

fn main() {
    // The case that kills a writing process runs this binary again.
    if kill::is_child() {
        kill::child();
    }
    // Files are removed when the suites that use them are dropped, which is before the exit.
    let trials = trials();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(4);
    libtest_mimic::run(&arguments, trials).exit();
}

fn trials() -> Vec<Trial> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().must("start the runtime");
    let runtime = Arc::new(runtime);
    let plain = Suite::new("sqlite", Files::new(|builder| builder));
    let plain = kill::cases(locks::cases(shape::cases(damage::cases(files::cases(plain)))));
    let plain = sweeping::cases(changes::cases(looking::cases(gone::cases(plain))));
    #[cfg(unix)]
    let plain = rights::cases(plain);
    let quick = Files::new(|builder| builder.synchronous(Synchronous::Normal).table("ein \"Tisch\"; --"));
    let json = Files::new(|builder| builder.synchronous(Synchronous::Normal).values(ValueFormat::Json));
    let json = files::json_cases(Suite::new("sqlite_json", json));
    let memory = memory::cases(Suite::new("sqlite_memory", InMemory::default()));
    let pool = pool::cases(Suite::connect("sqlite_pool", OwnPool::open));
    [
        plain.into_trials(&runtime),
        Suite::new("sqlite_normal", quick).into_trials(&runtime),
        json.into_trials(&runtime),
        memory.into_trials(&runtime),
        pool.into_trials(&runtime),
    ]
    .into_iter()
    .flatten()
    .collect()
}
