//! The conformance suite in each form and layout, and the cases of the MongoDB adapter.

// A test fails by panicking.
#![allow(clippy::panic)]

mod access;
mod documents;
mod failpoints;
mod faults;
mod grammy;
mod own;
mod places;
mod round_trips;
mod setup;

use larder_testkit::{Runner, Suite};

use crate::places::{Place, place};

/// The conformance suite on the shared server, with some options.
fn conformance(name: &str, options: &'static str) -> Suite<Place> {
    // SecantusDB, on which the cases must also pass, does a few hundred writes a second.
    Suite::connect(name, move || place(options))
        .slow()
        .across_processes(Place::url, |url| async move { larder_mongodb::connect(&url).await })
}

/// Cases of the adapter, without the laws.
fn cases(name: &str) -> Suite<Place> {
    conformance(name, "").without_laws()
}

fn main() {
    Runner::new()
        .suite(
            conformance("mongodb", "")
                .case("entries_are_stored_as_documented", documents::binary)
                .case("the_server_removes_expired_documents", documents::removed_by_the_server)
                .case("every_write_accepts_the_largest_value", documents::largest)
                .case("a_foreign_document_affects_only_its_key", documents::foreign)
                .case("keys_that_are_not_strings_are_reported", documents::strays)
                .case("a_document_made_by_hand_has_a_version", documents::by_hand)
                .case("a_batch_reports_each_failed_entry", documents::partial_failures),
        )
        .suite(
            conformance("mongodb_document", "&values=json")
                .case("entries_are_stored_as_documented", documents::document)
                .case("names_with_dollars_are_data", documents::dollars)
                .case("numbers_are_exact", documents::numbers)
                .case("values_that_bson_cannot_hold_are_rejected", documents::refused),
        )
        .suite(
            conformance("mongodb_grammy", "&layout=grammy")
                .case("sessions_of_grammy_are_read", grammy::reads)
                .case("new_sessions_equal_those_of_grammy", grammy::writes)
                .case("grammy_and_larder_can_alternate", grammy::turns)
                .case("a_compare_and_swap_compares_the_whole_value", grammy::whole_value)
                .case("numbers_are_exact", documents::numbers)
                .case("an_update_keeps_the_types_of_other_members", grammy::untouched_members)
                .case("a_copy_keeps_every_type", grammy::copied_types)
                .case("a_session_with_nan_can_be_updated", grammy::not_a_number)
                .case("a_collection_of_node_opens_with_and_without_an_index", grammy::indexes_of_node)
                .case("damaged_keys_are_reported", grammy::damaged_keys)
                .case("the_first_of_duplicate_documents_is_the_entry", grammy::first_of_doubled)
                .case("documents_with_a_list_as_key_are_ignored", grammy::listed_keys),
        )
        .suite(
            cases("mongodb_setup")
                .case("ten_simultaneous_set_ups_succeed", setup::at_once)
                .case("without_set_up_nothing_is_created", setup::switched_off)
                .case("a_conflicting_index_is_an_error", setup::other_index)
                .case("an_index_under_another_name_is_accepted", setup::same_index)
                .case("a_collection_with_a_collation_is_rejected", setup::collation)
                .case("duplicate_keys_in_a_collection_of_grammy_are_an_error", setup::doubled_keys)
                .case("opening_a_missing_collection_creates_nothing", setup::looking_at_nothing)
                .case("opening_a_foreign_collection_changes_nothing", setup::looking_at_foreign_documents)
                .case("opening_a_collection_of_larder_changes_nothing", setup::looking_at_larders_documents)
                .case("writes_to_a_foreign_collection_are_rejected", setup::writing_to_foreign_documents)
                .case("another_layout_is_rejected", setup::layout_that_does_not_fit)
                .case("an_empty_foreign_collection_is_rejected", setup::empty_collection_of_another_program)
                .case(
                    "foreign_documents_among_entries_are_detected",
                    setup::foreign_documents_between_own_ones,
                )
                .case(
                    "another_layout_is_rejected_without_set_up",
                    setup::layout_that_does_not_fit_without_setup,
                )
                .case("two_layouts_never_share_a_collection", setup::two_layouts_at_once),
        )
        .suite(
            cases("mongodb_own")
                .case("a_client_of_the_caller_stays_open", own::client_stays_open)
                .case("options_of_the_collection_are_used", own::collection_options)
                .case("a_store_can_be_used_and_dropped_outside_its_runtime", own::off_runtime),
        )
        .suite(
            cases("mongodb_access")
                .case("a_wrong_password_is_an_error", access::password)
                .case("an_unknown_host_is_unavailable", access::unknown_host)
                .case("a_closed_port_is_unavailable", access::refused_port)
                .case("a_silent_server_is_a_timeout", access::silent_server),
        )
        .suite(
            cases("mongodb_round_trips")
                .case("each_operation_is_one_command", round_trips::larder)
                .case("each_operation_is_one_command_in_the_layout_of_grammy", round_trips::grammy)
                .case("a_batch_takes_few_commands", round_trips::many)
                .case("opening_an_existing_collection_only_reads", round_trips::existing),
        )
        .suite(
            cases("mongodb_failpoints").case("errors_of_the_server_have_the_right_kind", failpoints::errors),
        )
        .suite(
            cases("mongodb_faults")
                .case("a_kill_under_load_loses_no_acknowledged_write", faults::killed_under_load)
                .case("a_restart_between_calls_is_survived", faults::restart_between_calls)
                .case("a_frozen_server_is_a_timeout", faults::frozen)
                .case("touching_reads_stop_when_the_server_is_gone", faults::touching_reads)
                .case("an_abandoned_write_is_not_applied_late", faults::abandoned_write)
                .case("a_clear_waits_for_an_abandoned_write", faults::clear_after_abandoned_write)
                .case("an_abandoned_clear_keeps_later_writes", faults::abandoned_clear),
        )
        .main()
}
