//! The conformance suite on each kind of server and layout, and the cases of the Redis adapter.

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
        .case("a_batch_is_sent_at_once", round_trips::one_flight)
}

/// Cases that start their own server.
fn private(name: &str, kind: Kind) -> Suite<Place> {
    Suite::connect(name, move || needs_private(kind)).without_laws()
}

fn main() {
    Runner::new()
        .suite(
            // Redis before 8.4 has no IFEQ, so `cas=auto` uses the script here.
            conformance("redis", Kind::Redis, "")
                .case("prefixes_do_not_collide", keyspace::prefixes_do_not_collide)
                .case("a_key_of_another_type_affects_only_itself", keyspace::another_type)
                .case("invalid_keys_are_errors_in_a_listing", keyspace::unnameable_keys)
                .case("an_empty_prefix_is_rejected", keyspace::empty_prefix)
                .case("a_page_of_one_key_lists_everything", keyspace::small_pages)
                .case("forced_ifeq_fails_if_the_server_lacks_it", keyspace::forced_ifeq)
                .case("a_unix_socket_can_be_used", access::unix_socket),
        )
        .suite(conformance("redis_resp2", Kind::Redis, "&protocol=resp2"))
        .suite(conformance("redis_tls", Kind::RedisTls, "").case("certificates_are_checked", access::tls))
        .suite(
            conformance("redis_password", Kind::RedisPassword, "")
                .case("a_wrong_password_is_an_error", access::password),
        )
        .suite(conformance("valkey_ifeq", Kind::Valkey, "&cas=ifeq"))
        .suite(conformance("valkey_script", Kind::Valkey, "&cas=script"))
        .suite(
            conformance("redis_cluster", Kind::RedisCluster, "")
                .case("listings_cover_every_node", cluster::listings_cover_every_node)
                .case("a_cluster_needs_a_cluster_url", cluster::plain_url)
                .case("every_node_of_a_cluster_has_one_location", cluster::one_location),
        )
        .suite(
            conformance("redis_sentinel", Kind::RedisSentinel, "")
                .case("master_and_replica_have_one_location", sentinel::one_location),
        )
        .suite(grammy::suite())
        .suite(own::manager())
        .suite(own::cluster())
        .suite(
            Suite::connect("redis_access", || place(Kind::Redis, ""))
                .without_laws()
                .case("an_unknown_host_is_unavailable", access::unknown_host)
                .case("a_closed_port_is_unavailable", access::refused_port)
                .case("a_silent_server_is_a_timeout", access::silent_server)
                .case("a_missing_database_is_an_error", access::no_such_database)
                .case("a_connection_of_the_caller_stays_open", own::stays_open)
                .case("a_connection_has_the_location_of_its_database", own::location_of_a_connection),
        )
        .suite(
            private("redis_faults", Kind::Redis)
                .case("a_kill_under_load_loses_no_acknowledged_write", faults::killed_under_load)
                .case("a_restart_between_calls_needs_at_most_one_retry", faults::restart_between_calls)
                .case("a_frozen_server_is_a_timeout", faults::frozen)
                .case("a_restart_within_a_listing_hides_no_key", faults::restart_within_a_listing)
                .case("a_server_without_memory_is_full", faults::full)
                .case("a_value_above_the_limit_of_the_server_is_too_large", faults::smaller_limit)
                .case("a_batch_reports_each_failed_entry", keyspace::partial_failures)
                .case("a_missing_permission_is_an_error", access::missing_permission)
                .case("documented_permissions_are_enough", access::documented_permissions)
                .case("a_listing_reads_only_up_to_its_limit", round_trips::limit)
                .case("fencing_needs_permission", fencing::needs_permission)
                .case("unfenced_storage_reconnects", fencing::unfenced_storage_reconnects)
                .case("lost_permission_stops_changes", fencing::lost_permission_stops_changes)
                .case("one_kill_per_reconnect", fencing::one_kill_per_reconnect)
                .case("client_address_with_a_space_is_fenced", fencing::address_with_a_space)
                .case("a_different_server_in_between_does_not_end_fencing", fencing::other_server_in_between)
                .case("a_timeout_while_fencing_is_unavailable", fencing::frozen_server_confirms_nothing)
                .case("a_broken_connection_of_the_caller_is_reported", own::broken)
                .case("each_operation_is_one_command", round_trips::script),
        )
        .suite(private("valkey_ifeq", Kind::Valkey).case("each_operation_is_one_command", round_trips::ifeq))
        .suite(
            private("redis_cluster_faults", Kind::RedisCluster)
                .case("moved_slots_are_followed", cluster::slots_move)
                .case("a_killed_node_is_used_again_after_its_restart", cluster::node_killed),
        )
        .suite(
            private("redis_sentinel_faults", Kind::RedisSentinel)
                .case("a_failover_is_followed", sentinel::failover)
                .case("an_unknown_master_is_an_error", sentinel::unknown_master),
        )
        .main()
}
