//! The conformance suite on each layout, and the cases of the file adapter.

mod damage;
mod directory;
mod existing;
mod grammy;
mod permissions;
mod snapshot;
mod spaces;
mod stopped;

use larder_file::{Config, Layout, ValueFormat};
use larder_testkit::Runner;

use crate::spaces::{Directories, SnapshotFiles};

fn main() {
    // Some cases run in a second process, which is this binary again.
    if permissions::is_child() {
        permissions::child();
        return;
    }
    if stopped::is_child() {
        stopped::child();
        return;
    }
    let synced =
        directory::cases(existing::cases(damage::cases(Directories::suite("file", |config| config))));
    let json = |config: Config| config.sync(false).values(ValueFormat::Json);
    let grammy = |config: Config| config.sync(false).layout(Layout::Grammy);
    Runner::new()
        .suite(stopped::cases(permissions::cases(synced)).slow())
        .suite(Directories::suite("file_unsynced", |config| config.sync(false)))
        .suite(damage::cases(Directories::suite("file_json", json)))
        .suite(damage::grammy_cases(grammy::cases(Directories::suite("file_grammy", grammy))))
        .suite(snapshot::cases(SnapshotFiles::suite("file_snapshot")))
        .main()
}
