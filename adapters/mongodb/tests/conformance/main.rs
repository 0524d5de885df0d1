//! MongoDB: the conformance suite in each form and layout, and what only this adapter has.

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
    // The stand-in for MongoDB, which the cases must also pass on, does some hundred writes a second.
    Suite::connect(name, move || place(options))
        .slow()
        .across_processes(Place::url, |url| async move { larder_mongodb::connect(&url).await })
}

/// Cases of this adapter's own.
fn cases(name: &str) -> Suite<Place> {
    conformance(name, "").without_laws()
}

fn main() {
    Runner::new()
        .suite(
            conformance("mongodb", "")
                .case("what_is_stored", documents::binary)
                .case("expired_documents_are_removed_by_the_server", documents::removed_by_the_server)
                .case("the_largest_value_fits_by_every_way", documents::largest)
                .case("a_foreign_document_is_corrupt_for_itself", documents::foreign)
                .case("keys_that_are_not_strings_are_reported", documents::strays)
                .case("a_document_made_by_hand_can_be_compared", documents::by_hand)
                .case("a_batch_says_which_entries_failed", documents::partial_failures),
        )
        .suite(
            conformance("mongodb_document", "&values=json")
                .case("what_is_stored", documents::document)
                .case("dollars_are_data", documents::dollars)
                .case("numbers_are_exact", documents::numbers)
                .case("what_bson_cannot_hold_is_refused", documents::refused),
        )
        .suite(
            conformance("mongodb_grammy", "&layout=grammy")
                .case("what_grammy_wrote_is_read", grammy::reads)
                .case("what_is_written_is_what_grammy_writes", grammy::writes)
                .case("both_take_turns", grammy::turns)
                .case("a_compare_and_swap_sees_the_whole_value", grammy::whole_value)
                .case("numbers_are_exact", documents::numbers)
                .case("update_keeps_the_types_of_other_members", grammy::untouched_members)
                .case("copy_keeps_every_type", grammy::copied_types)
                .case("session_with_nan_can_be_updated", grammy::not_a_number)
                .case("collection_of_node_opens_with_and_without_index", grammy::indexes_of_node)
                .case("damaged_keys_are_reported", grammy::damaged_keys)
                .case("first_of_doubled_documents_is_the_entry", grammy::first_of_doubled)
                .case("documents_whose_key_is_a_list_are_left_alone", grammy::listed_keys),
        )
        .suite(
            cases("mongodb_setup")
                .case("ten_start_at_once", setup::at_once)
                .case("setup_false_creates_nothing", setup::switched_off)
                .case("an_index_in_the_way", setup::other_index)
                .case("an_index_under_another_name_will_do", setup::same_index)
                .case("a_collection_with_a_collation", setup::collation)
                .case("doubled_keys_in_grammys_collection", setup::doubled_keys)
                .case("looking_at_nothing_creates_nothing", setup::looking_at_nothing)
                .case("looking_at_foreign_documents_changes_nothing", setup::looking_at_foreign_documents)
                .case("looking_at_larders_documents_changes_nothing", setup::looking_at_larders_documents)
                .case("writing_to_foreign_documents_is_refused", setup::writing_to_foreign_documents)
                .case("layout_that_does_not_fit_is_refused", setup::layout_that_does_not_fit)
                .case(
                    "empty_collection_of_another_program_is_refused",
                    setup::empty_collection_of_another_program,
                )
                .case(
                    "foreign_documents_between_own_ones_are_found",
                    setup::foreign_documents_between_own_ones,
                )
                .case(
                    "layout_that_does_not_fit_is_refused_without_setup",
                    setup::layout_that_does_not_fit_without_setup,
                )
                .case("two_layouts_never_share_a_collection", setup::two_layouts_at_once),
        )
        .suite(
            cases("mongodb_own")
                .case("a_client_of_the_callers_stays_open", own::client_stays_open)
                .case("options_of_the_collection_are_used", own::collection_options)
                .case("a_storage_works_and_goes_off_its_runtime", own::off_runtime),
        )
        .suite(
            cases("mongodb_access")
                .case("password", access::password)
                .case("unknown_host", access::unknown_host)
                .case("refused_port", access::refused_port)
                .case("a_server_that_never_answers", access::silent_server),
        )
        .suite(
            cases("mongodb_round_trips")
                .case("one_command_each", round_trips::larder)
                .case("one_command_each_in_grammys_layout", round_trips::grammy)
                .case("few_commands_for_many", round_trips::many)
                .case("looking_sends_only_reads", round_trips::existing),
        )
        .suite(cases("mongodb_failpoints").case("errors_of_the_server", failpoints::errors))
        .suite(
            cases("mongodb_faults")
                .case("killed_and_restarted_under_load", faults::killed_under_load)
                .case("a_restart_between_calls", faults::restart_between_calls)
                .case("a_frozen_server_is_a_timeout", faults::frozen)
                .case("reads_that_touch_stop_once_the_store_is_gone", faults::touching_reads)
                .case("an_abandoned_write_does_not_come_late", faults::abandoned_write)
                .case("a_clear_waits_for_an_abandoned_write", faults::clear_after_abandoned_write)
                .case("an_abandoned_clear_spares_what_is_written_later", faults::abandoned_clear),
        )
        .main()
}
