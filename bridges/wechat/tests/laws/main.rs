//! Hashed ids and the index of owners on every store.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod hashed;
mod moves;
mod owners;
#[path = "../support/mod.rs"]
mod support;

pub(crate) use larder_bridge_tests::Stores;
use larder_core::Store;
use larder_testkit::{Context, Suite};
use larder_wechat::{Protocol, WechatBuilder};
use support::{
    client::{Answer, MiniProgram},
    service::Service,
};

fn main() {
    larder_bridge_tests::on_every_adapter(cases).main()
}

fn cases(suite: Suite<Stores>) -> Suite<Stores> {
    suite
        .without_laws()
        .case("a_stolen_store_logs_nobody_in", hashed::a_stolen_store_logs_nobody_in)
        .case("the_protocol_works_with_hashed_ids", hashed::the_protocol_works_with_hashed_ids)
        .case("foreign_data_under_a_hashed_id_are_unchanged", hashed::foreign_data_are_unchanged)
        .case("a_plain_session_moves_when_it_is_saved", moves::a_plain_session_moves_when_it_is_saved)
        .case("a_plain_session_moves_when_it_is_extended", moves::a_plain_session_moves_when_it_is_extended)
        .case("a_logout_removes_a_session_from_both_ids", moves::a_logout_removes_both)
        .case("a_login_keeps_the_fields_of_a_plain_session", moves::a_login_keeps_the_fields)
        .case("concurrent_requests_move_a_session_once", moves::concurrent_requests_move_a_session_once)
        .case("a_revocation_during_moves_is_final", moves::a_revocation_during_moves_is_final)
        .case("the_sessions_of_a_user_are_listed", owners::the_sessions_of_a_user_are_listed)
        .case("a_user_is_logged_out_everywhere", owners::a_user_is_logged_out_everywhere)
        .case("a_user_is_logged_out_everywhere_else", owners::a_user_is_logged_out_everywhere_else)
        .case("one_session_of_a_user_is_ended", owners::one_session_of_a_user_is_ended)
        .case("a_user_has_at_most_n_sessions", owners::a_user_has_at_most_n_sessions)
        .case("a_logout_removes_the_session_from_the_index", owners::a_logout_removes_the_entry)
        .case("a_revoked_session_is_not_saved_again", owners::a_revoked_session_is_not_saved_again)
        .case("racing_saves_do_not_undo_a_revocation", owners::racing_saves_do_not_undo_a_revocation)
        .case("a_login_during_a_revocation_is_listed_or_ended", owners::racing_logins_are_listed)
        .case("an_extended_session_stays_in_the_index", owners::an_extended_session_stays_in_the_index)
        .case("index_entries_expire", owners::index_entries_expire)
        .case("a_session_changes_its_owner", owners::a_session_changes_its_owner)
        .case("the_owners_id_cannot_be_changed", owners::the_owners_id_cannot_be_changed)
        .case("version_2_lists_a_session_once", owners::version_2_lists_a_session_once)
        .case("a_foreign_index_entry_refuses_logins", owners::a_foreign_index_entry_refuses_logins)
}

async fn storage(context: &Context<Stores>) -> Store {
    (*context.target.open().await).clone()
}

async fn start(context: &Context<Stores>, options: impl FnOnce(WechatBuilder) -> WechatBuilder) -> Service {
    Service::with(storage(context).await, options).await
}

/// Logs a client in.
async fn log_in(service: &Service, protocol: Protocol) -> MiniProgram {
    let mut client = service.client();
    match protocol {
        Protocol::Wafer2 => drop(client.login2(true).await.unwrap()),
        _ => client.login().await.unwrap(),
    }
    client
}

/// Sends a request with the client's session, without a retry.
async fn ask(client: &MiniProgram, path: &str) -> Answer {
    let names = client.names();
    // Version 2 has no id.
    let names: Vec<_> =
        names.iter().filter(|name| !name.1.is_empty()).map(|(name, value)| (*name, &**value)).collect();
    let method = if path == "/me" || path == "/fields" || path == "/handle" {
        reqwest::Method::GET
    } else {
        reqwest::Method::POST
    };
    client.wx_request(method, path, &names, Some(&serde_json::json!(1))).await
}

/// Returns whether the client's session is valid.
async fn is_valid(client: &MiniProgram) -> bool {
    let answer = ask(client, "/me").await;
    let error = &answer.data["error"];
    assert!(error.is_null() || error == "ERR_INVALID_SESSION" || error == "ERR_SKEY_INVALID", "{error}");
    error.is_null()
}
