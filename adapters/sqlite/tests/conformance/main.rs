//! The conformance suite in each mode, and the cases of the SQLite adapter.

mod changes;
mod damage;
mod files;
mod gone;
mod killed;
mod locations;
mod locks;
mod looking;
mod memory;
mod pool;
#[cfg(unix)]
mod rights;
mod shape;
mod spaces;
mod sweeping;

use larder_sqlite::{Config, Synchronous, ValueFormat};
use larder_testkit::{Runner, Suite};

use crate::spaces::{Files, OwnPool};

fn main() {
    killed::run_if_second();
    let plain = files::cases(Files::suite("sqlite", |builder| builder));
    let plain = locks::cases(shape::cases(damage::cases(locations::cases(plain))));
    let plain = changes::cases(looking::cases(gone::cases(sweeping::cases(killed::cases(plain)))));
    #[cfg(unix)]
    let plain = rights::cases(plain);
    let quick = |builder: Config| builder.synchronous(Synchronous::Normal).table("ein \"Tisch\"; --");
    let json = |builder: Config| builder.synchronous(Synchronous::Normal).values(ValueFormat::Json);
    Runner::new()
        .suite(plain)
        .suite(Files::suite("sqlite_normal", quick))
        .suite(files::json_cases(Files::suite("sqlite_json", json)))
        .suite(memory::suite("sqlite_memory"))
        .suite(pool::cases(Suite::connect("sqlite_pool", OwnPool::open)))
        .main()
}
