//! The protocol, as the real clients speak it, on each kind of store.

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
use support::{
    client::MiniProgram,
    service::{Service, key},
};

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
        .main()
}

fn suite<C>(name: &str, connect: impl Fn() -> C + Send + Sync + 'static) -> Suite<Stores>
where
    C: Future<Output = Result<Stores, Missing>> + Send + 'static,
{
    logins(Suite::connect(name, connect))
        .without_laws()
        .case("the_five_exchanges", exchanges::the_five_exchanges)
        .case("query_parameters_do_as_headers_do", exchanges::query_parameters_do_as_headers_do)
        .case("the_client_logs_in_again_once", exchanges::the_client_logs_in_again_once)
        .case("the_client_gives_up_after_one_retry", exchanges::the_client_gives_up_after_one_retry)
        .case(
            "what_is_stored_is_what_mp_session_koa2_stores",
            stored::what_is_stored_is_what_mp_session_koa2_stores,
        )
        .case("a_session_of_mp_session_koa2_goes_on", stored::a_session_of_mp_session_koa2_goes_on)
        .case("a_session_of_wafer_node_session_goes_on", stored::a_session_of_wafer_node_session_goes_on)
        .case("foreign_data_are_an_error_and_stay", stored::foreign_data_are_an_error_and_stay)
        .case("fields_are_saved_and_nothing_is_written_for_nothing", fields::fields_are_saved)
        .case("concurrent_requests_lose_no_field", fields::concurrent_requests_lose_no_field)
        .case("requests_that_overlap_are_merged", fields::requests_that_overlap_are_merged)
        .case("a_destroyed_session_stays_destroyed", fields::a_destroyed_session_stays_destroyed)
        .case("a_session_expires", lifetime::a_session_expires)
        .case("cover_time_extends_what_runs_out", lifetime::cover_time_extends_what_runs_out)
        .case("bad_claims_never_reach_the_service", claims::bad_claims_never_reach_the_service)
        .case("version_2", version_2::version_2)
        .case("version_2_keeps_the_fields_of_a_key_that_comes_back", version_2::version_2_keeps_fields)
}

fn logins(suite: Suite<Stores>) -> Suite<Stores> {
    suite
        .case("each_failure_is_shown", logins::each_failure_is_shown)
        .case("a_code_is_good_for_one_login", logins::a_code_is_good_for_one_login)
        .case("another_mini_programs_data_are_refused", logins::another_mini_programs_data_are_refused)
        .case("a_busy_server_is_asked_again", logins::a_busy_server_is_asked_again)
        .case(
            "a_server_that_hangs_costs_the_time_out",
            logins::a_server_that_hangs_costs_the_time_out_and_no_more,
        )
        .case("a_server_that_is_not_there_is_said_so", logins::a_server_that_is_not_there_is_said_so)
        .case("a_closed_store_keeps_everybody_out", logins::a_closed_store_keeps_everybody_out)
        .case("login_next_prepares_and_refuses", logins::login_next_prepares_and_refuses)
        .case("a_forged_user_is_refused", forged::a_forged_user_is_refused)
        .case("a_forged_user_is_refused_by_version_2", forged::a_forged_user_is_refused_by_version_2)
        .case(
            "data_that_name_nobody_are_the_exchanges_users",
            forged::data_that_name_nobody_are_the_exchanges_users,
        )
        .case(
            "an_exchange_that_names_nobody_is_unreadable",
            forged::an_exchange_that_names_nobody_is_unreadable,
        )
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
        other => panic!("the session has no end: {other:?}"),
    }
}

/// A client with the same session.
fn same(service: &Service, client: &MiniProgram) -> MiniProgram {
    let mut other = service.client();
    other.session.clone_from(&client.session);
    other
}
