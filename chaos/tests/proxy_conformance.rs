//! What every fault proxy has to do, whoever implements it.
//!
//! The same cases run against the embedded proxy by direct calls, against the embedded proxy through its own HTTP API
//! and the remote client, and against a real toxiproxy-server where `TOXIPROXY_URL` names one. Times are only ever
//! checked from below, by what was injected; from above there is one generous limit for everything.

#![allow(clippy::unwrap_used)]

#[path = "proxy_conformance/control.rs"]
mod control;
#[path = "proxy_conformance/cuts.rs"]
mod cuts;
#[path = "proxy_conformance/rig.rs"]
mod rig;
#[path = "proxy_conformance/traffic.rs"]
mod traffic;

/// One test per case and implementation.
macro_rules! conformance {
    ($($module:ident::$case:ident,)+) => {
        mod embedded {
            $(#[tokio::test]
            async fn $case() {
                crate::rig::run(crate::rig::Rig::embedded(), async |rig| crate::$module::$case(rig).await).await;
            })+
        }

        #[cfg(feature = "toxiproxy")]
        mod over_http {
            $(#[tokio::test]
            async fn $case() {
                crate::rig::run(crate::rig::Rig::over_http().await, async |rig| crate::$module::$case(rig).await).await;
            })+
        }

        #[cfg(feature = "toxiproxy")]
        mod real_server {
            $(#[tokio::test]
            async fn $case() {
                if let Some(rig) = crate::rig::Rig::real_server().await {
                    crate::rig::run(rig, async |rig| crate::$module::$case(rig).await).await;
                }
            })+
        }
    };
}

conformance! {
    traffic::bytes_pass_both_ways,
    traffic::latency_delays_each_direction_by_itself,
    traffic::latency_keeps_pipelining_and_order,
    traffic::bandwidth_takes_its_time,
    traffic::slicer_keeps_every_byte,
    traffic::slow_close_delays_the_end,
    traffic::limit_data_is_exact,
    traffic::timeout_closes_after_its_time,
    traffic::reset_peer_resets,
    traffic::a_megabyte_survives_every_combination,
    traffic::fifty_connections_at_once,
    traffic::a_dead_upstream_shows_as_a_closed_connection,
    cuts::disabling_refuses_and_enabling_serves_again,
    cuts::silence_drops_and_its_removal_closes,
    cuts::a_jam_holds_and_then_delivers_everything,
    cuts::a_changed_latency_reaches_live_connections,
    cuts::one_way_upstream_leaves_downstream_alone,
    cuts::one_way_downstream_leaves_upstream_alone,
    cuts::each_mode_of_cut_heals,
    cuts::a_cut_that_fails_half_way_is_undone,
    control::toxics_are_read_back_as_they_were_given,
    control::updates_are_read_back,
    control::reset_of_one_leaves_the_other,
    control::reset_of_all_can_be_repeated,
    control::deletion_leaves_nothing_listening,
    control::wrong_calls_are_told_apart,
    control::two_proxies_do_not_disturb_each_other,
    control::shutdown_leaves_nothing,
}
