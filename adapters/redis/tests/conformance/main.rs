//! Redis and Valkey: the conformance suite on each kind of server and layout, and what only this
//! adapter has.

mod access;
mod cluster;
mod faults;
mod fencing;
mod grammy;
mod keyspace;
mod own;
mod places;
mod round_trips;
mod sentinel;

use larder_test_servers::Kind;
use larder_testkit::{Runner, Suite};

use crate::places::{Place, needs_private, place};

/// The conformance suite on the shared server of a kind, with some options.
fn conformance(name: &str, kind: Kind, options: &'static str) -> Suite<Place> {
    Suite::connect(name, move || place(kind, options))
        .across_processes(Place::url, |url| async move { larder_redis::connect(&url).await })
        .case("one_server_is_fenced", fencing::claimed_by_one_server)
        .case("a_batch_goes_out_at_once", round_trips::one_flight)
}

/// Cases that each start a server of their own.
fn private(name: &str, kind: Kind) -> Suite<Place> {
    Suite::connect(name, move || needs_private(kind)).without_laws()
}

fn main() {
    Runner::new()
        .suite(
            // Redis before 8.4 has no IFEQ, so here `cas=auto` is the script.
            conformance("redis", Kind::Redis, "")
                .case("prefixes_do_not_collide", keyspace::prefixes_do_not_collide)
                .case("a_key_of_another_type_is_corrupt_for_itself", keyspace::another_type)
                .case("keys_that_cannot_be_named_are_errors_in_a_listing", keyspace::unnameable_keys)
                .case("an_empty_prefix_is_refused", keyspace::empty_prefix)
                .case("a_page_of_one_key_lists_everything", keyspace::small_pages)
                .case("forced_ifeq_says_that_the_server_lacks_it", keyspace::forced_ifeq)
                .case("a_unix_socket_leads_there_too", access::unix_socket),
        )
        .suite(conformance("redis_resp2", Kind::Redis, "&protocol=resp2"))
        .suite(conformance("redis_tls", Kind::RedisTls, "").case("certificates_are_checked", access::tls))
        .suite(conformance("redis_password", Kind::RedisPassword, "").case("password", access::password))
        .suite(conformance("valkey_ifeq", Kind::Valkey, "&cas=ifeq"))
        .suite(conformance("valkey_script", Kind::Valkey, "&cas=script"))
        .suite(
            conformance("redis_cluster", Kind::RedisCluster, "")
                .case("listings_cover_every_node", cluster::listings_cover_every_node)
                .case("a_cluster_is_asked_for_as_one", cluster::plain_url)
                .case("location_is_that_of_the_cluster", cluster::one_location),
        )
        .suite(
            conformance("redis_sentinel", Kind::RedisSentinel, "")
                .case("location_is_that_of_master_and_replica", sentinel::one_location),
        )
        .suite(grammy::suite())
        .suite(own::manager())
        .suite(own::cluster())
        .suite(
            Suite::connect("redis_access", || place(Kind::Redis, ""))
                .without_laws()
                .case("unknown_host", access::unknown_host)
                .case("refused_port", access::refused_port)
                .case("a_server_that_never_answers", access::silent_server)
                .case("no_such_database", access::no_such_database)
                .case("a_connection_of_the_callers_stays_open", own::stays_open)
                .case("location_is_that_of_the_connection", own::location_of_a_connection),
        )
        .suite(
            private("redis_faults", Kind::Redis)
                .case("killed_and_restarted_under_load", faults::killed_under_load)
                .case("a_restart_between_calls_goes_unnoticed", faults::restart_between_calls)
                .case("a_frozen_server_is_a_timeout", faults::frozen)
                .case("a_restart_within_a_listing_hides_no_key", faults::restart_within_a_listing)
                .case("full_memory_is_full", faults::full)
                .case("a_smaller_limit_of_the_server_is_too_large", faults::smaller_limit)
                .case("a_batch_says_which_entries_failed", keyspace::partial_failures)
                .case("missing_permission", access::missing_permission)
                .case("documented_permissions_are_enough", access::documented_permissions)
                .case("a_listing_reads_no_more_than_its_limit", round_trips::limit)
                .case("fencing_needs_permission", fencing::needs_permission)
                .case("unfenced_storage_reconnects", fencing::unfenced_storage_reconnects)
                .case("lost_permission_stops_changes", fencing::lost_permission_stops_changes)
                .case("one_kill_per_reconnect", fencing::one_kill_per_reconnect)
                .case("client_address_with_a_space_is_fenced", fencing::address_with_a_space)
                .case("other_server_in_between_does_not_end_fencing", fencing::other_server_in_between)
                .case("time_out_of_fencing_is_unavailable", fencing::frozen_server_confirms_nothing)
                .case("a_broken_connection_of_the_callers_is_reported", own::broken)
                .case("one_command_each", round_trips::script),
        )
        .suite(private("valkey_ifeq", Kind::Valkey).case("one_command_each", round_trips::ifeq))
        .suite(
            private("redis_cluster_faults", Kind::RedisCluster)
                .case("slots_move_under_the_storage", cluster::slots_move)
                .case("a_node_is_killed_and_restarted", cluster::node_killed),
        )
        .suite(
            private("redis_sentinel_faults", Kind::RedisSentinel)
                .case("failover", sentinel::failover)
                .case("unknown_master", sentinel::unknown_master),
        )
        .main()
}
