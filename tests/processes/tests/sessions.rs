//! Sessions on every store, and compared with their model on real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

#[path = "sessions/cases.rs"]
mod cases;
#[path = "../../../session/tests/model/mod.rs"]
mod model;
#[path = "sessions/random.rs"]
mod random;

use std::time::Duration;

use larder_core::Store;
use larder_memory::MemoryStorage;
use larder_processes::Stores;
use larder_testkit::{Factory, Missing, Runner, Suite, factory};

fn main() {
    Runner::new()
        .suite(with_cases(Suite::new("memory", memory())))
        .suite(with_cases(stores("file", || async { Stores::file() })))
        .suite(with_cases(stores("file_grammy", || async { Stores::grammy_file() })))
        .suite(with_kill(with_cases(stores("sqlite", || async { Stores::sqlite() }))))
        .suite(random::with_model(with_kill(with_cases(stores("postgres", || Stores::postgres(""))))))
        .suite(with_cases(stores("postgres_jsonb", || Stores::postgres("&values=jsonb"))))
        .suite(with_cases(stores("postgres_grammy", || Stores::postgres("&layout=grammy"))))
        .suite(random::with_model(with_kill(with_cases(stores("mysql", || Stores::mysql(""))))))
        .suite(with_cases(stores("mysql_json", || Stores::mysql("&values=json"))))
        .suite(random::with_model(with_kill(with_cases(stores("redis", Stores::redis)))))
        .suite(with_cases(stores("valkey", Stores::valkey)))
        // SecantusDB does a few hundred writes a second.
        .suite(with_cases(stores("mongodb", || Stores::mongodb("")).slow()))
        .suite(with_cases(stores("dynamodb", Stores::dynamodb)))
        .main()
}

/// A new storage for every case.
fn memory() -> impl Factory {
    factory(|_space| async { Ok(Store::from(MemoryStorage::new())) })
}

fn stores<C>(name: &str, connect: impl Fn() -> C + Send + Sync + 'static) -> Suite<Stores>
where
    C: Future<Output = Result<Stores, Missing>> + Send + 'static,
{
    Suite::connect(name, connect)
}

fn with_kill(suite: Suite<Stores>) -> Suite<Stores> {
    suite.case("a_process_killed_while_users_sign_in_leaves_no_session_outside_of_the_index", cases::killed)
}

fn with_cases<F: Factory>(suite: Suite<F>) -> Suite<F> {
    suite
        .without_laws()
        .timeout(Duration::from_secs(600))
        .case("increments_of_64_tasks_are_exact", cases::sum_is_exact)
        .case("a_session_of_3_mb_is_stored_unless_the_store_has_a_limit", cases::large)
        .case("both_ids_of_a_moved_session_share_it", cases::moved)
        .case("a_sliding_session_is_extended_and_keeps_its_value", cases::sliding)
        .case("enhanced_sessions_of_grammy_are_read_migrated_and_saved", cases::enhanced)
        .case("content_is_never_taken_for_a_marker", cases::chosen)
        .case("the_expiry_of_the_store_decides", cases::stored_end)
        .case("a_moved_session_expires_by_the_clock_of_the_store", cases::moved_end)
        .case("text_cut_within_a_character_is_kept", cases::cut)
        .case("sign_ins_at_the_same_time_are_all_found", cases::signed_in)
        .case("no_session_lives_outside_of_the_index_after_a_revocation", cases::revoked)
}
