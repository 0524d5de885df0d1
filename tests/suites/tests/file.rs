//! The file adapter: the laws on each of its layouts, and what is true of files only.

#[path = "file/damage.rs"]
mod damage;
#[path = "file/directory.rs"]
mod directory;
#[path = "file/existing.rs"]
mod existing;
#[path = "file/grammy.rs"]
mod grammy;
#[path = "file/permissions.rs"]
mod permissions;
#[path = "file/snapshot.rs"]
mod snapshot;
#[path = "file/spaces.rs"]
mod spaces;
#[path = "file/stopped.rs"]
mod stopped;

use std::sync::Arc;

use larder_file::{Layout, ValueFormat};
use larder_testkit::{Must, Suite};
use libtest_mimic::{Arguments, Trial};

use crate::spaces::{Directories, Snapshots};

fn main() {
    // Cases that need another user run in a process of their own, which is this binary again.
    if permissions::is_child() {
        permissions::child();
        return;
    }
    if stopped::is_child() {
        stopped::child();
        return;
    }
    // Directories are removed when the suites that use them are dropped, which is before the exit.
    let suites = trials();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(4);
    libtest_mimic::run(&arguments, suites).exit();
}

fn trials() -> Vec<Trial> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().must("start the runtime");
    let runtime = Arc::new(runtime);
    let synced = Directories::new(|builder| builder);
    let unsynced = Directories::new(|builder| builder.sync(false));
    let json = Directories::new(|builder| builder.sync(false).values(ValueFormat::Json));
    let grammy = Directories::new(|builder| builder.sync(false).layout(Layout::Grammy));

    let synced = Suite::new("file", synced).slow();
    let synced = stopped::cases(permissions::cases(directory::cases(existing::cases(damage::cases(synced)))))
        .into_trials(&runtime);
    let unsynced = Suite::new("file_unsynced", unsynced).into_trials(&runtime);
    let json = damage::cases(Suite::new("file_json", json)).into_trials(&runtime);
    let grammy = damage::grammy_cases(grammy::cases(Suite::new("file_grammy", grammy))).into_trials(&runtime);
    let snapshot = snapshot::cases(Suite::new("file_snapshot", Snapshots::new())).into_trials(&runtime);
    [synced, unsynced, json, grammy, snapshot].into_iter().flatten().collect()
}
