//! The protocol on each kind of store, with clients that act like the real ones.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod claims;
mod exchanges;
mod fields;
mod forged;
mod lifetime;
mod logins;
mod stored;
#[path = "../support/mod.rs"]
mod support;
mod takeover;
mod version_2;

use std::time::Duration;

pub(crate) use larder_bridge_tests::Stores;
use larder_core::{Expiry, Store};
use larder_testkit::{Context, Missing, Runner, Suite};
use support::service::{Service, key};

const HOUR: u64 = 3600;

fn main() {
    Runner::new()
        .suite(suite("memory", || async { Ok(Stores::memory()) }))
        .suite(
            suite("redis", Stores::redis)
                .case("takes_over_from_mp_session_koa2", |_| takeover::takes_over_from_mp_session_koa2()),
        )
        .suite(suite("postgres", Stores::postgres))
        .suite(suite("postgres_jsonb", Stores::postgres_jsonb))
        .suite(suite("mysql", Stores::mysql))
        .main()
}

fn suite<C>(name: &str, connect: impl Fn() -> C + Send + Sync + 'static) -> Suite<Stores>
where
    C: Future<Output = Result<Stores, Missing>> + Send + 'static,
{
    logins(Suite::connect(name, connect))
        .without_laws()
        .case("the_five_exchanges", exchanges::the_five_exchanges)
        .case("query_parameters_work_like_headers", exchanges::query_parameters_work_like_headers)
        .case("the_client_logs_in_again_once", exchanges::the_client_logs_in_again_once)
        .case("the_client_stops_after_one_retry", exchanges::the_client_stops_after_one_retry)
        .case("stored_sessions_match_mp_session_koa2", stored::stored_sessions_match_mp_session_koa2)
        .case(
            "a_session_of_mp_session_koa2_remains_valid",
            stored::a_session_of_mp_session_koa2_remains_valid,
        )
        .case(
            "a_session_of_wafer_node_session_remains_valid",
            stored::a_session_of_wafer_node_session_remains_valid,
        )
        .case("foreign_data_are_an_error_and_unchanged", stored::foreign_data_are_an_error_and_unchanged)
        .case("only_changed_fields_are_written", fields::fields_are_saved)
        .case("concurrent_requests_lose_no_field", fields::concurrent_requests_lose_no_field)
        .case("requests_that_overlap_are_merged", fields::requests_that_overlap_are_merged)
        .case("a_destroyed_session_stays_destroyed", fields::a_destroyed_session_stays_destroyed)
        .case("a_session_expires", lifetime::a_session_expires)
        .case(
            "cover_time_extends_a_session_near_its_end",
            lifetime::cover_time_extends_a_session_near_its_end,
        )
        .case("bad_claims_never_reach_the_service", claims::bad_claims_never_reach_the_service)
        .case("version_2", version_2::version_2)
        .case("version_2_keeps_fields_for_the_same_session_key", version_2::version_2_keeps_fields)
}

fn logins(suite: Suite<Stores>) -> Suite<Stores> {
    suite
        .case("each_failure_has_a_message", logins::each_failure_has_a_message)
        .case("a_code_is_good_for_one_login", logins::a_code_is_good_for_one_login)
        .case("data_of_another_mini_program_are_refused", logins::data_of_another_mini_program_are_refused)
        .case("a_busy_server_is_asked_again", logins::a_busy_server_is_asked_again)
        .case("a_hanging_server_fails_at_the_timeout", logins::a_hanging_server_fails_at_the_timeout)
        .case("an_unreachable_server_is_reported", logins::an_unreachable_server_is_reported)
        .case("a_closed_store_rejects_all_requests", logins::a_closed_store_rejects_all_requests)
        .case("login_next_prepares_and_refuses", logins::login_next_prepares_and_refuses)
        .case("a_forged_user_is_refused", forged::a_forged_user_is_refused)
        .case("a_forged_user_is_refused_by_version_2", forged::a_forged_user_is_refused_by_version_2)
        .case(
            "data_without_ids_get_them_from_the_exchange",
            forged::data_without_ids_get_them_from_the_exchange,
        )
        .case("an_exchange_without_a_user_is_invalid", forged::an_exchange_without_a_user_is_invalid)
}

async fn storage(context: &Context<Stores>) -> Store {
    (*context.target.open().await).clone()
}

async fn start(context: &Context<Stores>) -> Service {
    Service::start(storage(context).await).await
}

async fn left(service: &Service, id: &str) -> Duration {
    match service.storage.ttl(&key(id)).await.unwrap() {
        Some(Expiry::After(left)) => left,
        other => panic!("the session has no expiry: {other:?}"),
    }
}
