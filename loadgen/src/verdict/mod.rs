//! Whether a load run's numbers can be trusted.
//!
//! The rules, in order; the first that applies is the verdict:
//!
//! 1. **too thin**: fewer than [`OK_MIN`] operations were answered.
//! 2. **generator-bound**, in an open loop: the 99th percentile of the pacer's lateness (how long after its planned
//!    start an arrival was noticed) is above both the limit given ([`LATENESS_LIMIT`] unless
//!    [`crate::LoadConfig::lateness_limit`] says otherwise) and a tenth of the median response time.
//!    The generator then adds to what it measures. Needs 1,000 arrivals; with fewer the percentile means nothing.
//! 3. **generator-bound**: the process used more than [`CPU_SHARE_MAX`] of the cores given to the client. Does not apply
//!    where other work runs in the same process ([`crate::LoadConfig::client_cores`] is absent).
//! 4. **generator-bound**, in an open loop: operations were left unsent although the run was not stopped early, or more
//!    than [`WAITED_SHARE_MAX`] of the arrivals had to wait because too much was in flight. What the store was offered is
//!    then not what was planned. Does not apply where outages are part of the plan
//!    ([`crate::LoadConfig::waits_are_expected`]). After rule 3, because a generator without CPU time also fills up, and
//!    more operations in flight would not help it.
//! 5. **unsteady**, in an open loop of an even rate without outages on purpose: what was planned and not ended grew to
//!    the end.
//! 6. **noisy**, under the same conditions: the machine's host took more than [`STEAL_MAX`] of its time for others, or
//!    the slices' throughput scatters by more than [`VARIATION_MAX`], or the median is known to less than
//!    [`MEDIAN_WIDTH_MAX`].
//!
//! Never looks at whether the store's answers were good; a store that takes less than the plan shows in rule 4.

mod steadiness;

use std::time::Duration;

use reports::record::{LoadVerdict, Nanos, Percentiles};

use crate::clock::nanos;

pub use steadiness::{
    GROWTH_SECONDS_MIN, MEDIAN_WIDTH_MAX, SLICES_MIN, STEAL_MAX, Steadiness, VARIATION_MAX,
};

/// Fewer answers than this say nothing.
pub const OK_MIN: u64 = 100;
/// Lateness up to this is not held against a generator that has the process to itself.
pub const LATENESS_LIMIT: Duration = Duration::from_millis(1);
/// Part of the client's cores that it may use before it counts as the limit.
pub const CPU_SHARE_MAX: f64 = 0.8;
/// Part of the arrivals that may have to wait for a place.
pub const WAITED_SHARE_MAX: f64 = 0.01;

/// What the verdict is made from.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Operations answered.
    pub ok: u64,
    /// How late arrivals were noticed; absent in a closed loop.
    pub lateness: Option<Percentiles>,
    /// Lateness up to this is never held against the generator.
    pub lateness_limit: Duration,
    /// Median response time of ok operations.
    pub response_p50: Option<Nanos>,
    /// CPU time used, wall time passed (both nanoseconds), and cores given.
    pub cpu: Option<(Nanos, Nanos, u32)>,
    /// How the plan met the limit of operations in flight; absent in a closed loop and where waits are expected.
    pub waits: Option<Waits>,
    /// How steady it was; absent in a closed loop, where the rate changes by plan, and where outages are expected.
    pub steadiness: Option<Steadiness>,
}

/// How the plan of an open loop met the limit of operations in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Arrivals, without the warm-up.
    pub planned: u64,
    /// Those that found the limit reached.
    pub waited: u64,
    /// Those that were never sent.
    pub unsent: u64,
    /// The plan was stopped before its end, which leaves operations unsent by intention.
    pub stopped: bool,
    /// The limit.
    pub max_in_flight: usize,
}

/// Applies the rules.
pub fn judge(evidence: &Evidence) -> LoadVerdict {
    if evidence.ok < OK_MIN {
        return LoadVerdict::TooThin(format!(
            "{} operations were answered; below {OK_MIN} the numbers say nothing",
            evidence.ok
        ));
    }
    let reason = too_late(evidence)
        .or_else(|| too_busy(evidence))
        .or_else(|| evidence.waits.as_ref().and_then(too_full));
    match (reason, &evidence.steadiness) {
        (Some(reason), _) => LoadVerdict::GeneratorBound(reason),
        (None, Some(steadiness)) => steadiness::judge(steadiness).unwrap_or(LoadVerdict::Valid),
        (None, None) => LoadVerdict::Valid,
    }
}

fn too_late(evidence: &Evidence) -> Option<String> {
    let p99 = evidence.lateness.as_ref()?.p99?;
    let limit = nanos(evidence.lateness_limit).max(evidence.response_p50.unwrap_or(0) / 10);
    (p99 > limit).then(|| {
        format!(
            "1 % of the arrivals were noticed more than {} ms late (limit {} ms): \
             lower the rate, or give the generator a core of its own",
            ms(p99),
            ms(limit)
        )
    })
}

fn too_busy(evidence: &Evidence) -> Option<String> {
    let (used, wall, cores) = evidence.cpu?;
    let share = used as f64 / (wall.max(1) as f64 * f64::from(cores.max(1)));
    (share > CPU_SHARE_MAX).then(|| {
        format!(
            "the generator used {:.0} % of its {cores} core(s) (limit {:.0} %): \
             lower the rate, or spread the load over several generators",
            share * 100.0,
            CPU_SHARE_MAX * 100.0
        )
    })
}

fn too_full(waits: &Waits) -> Option<String> {
    let Waits {
        planned,
        waited,
        unsent,
        stopped,
        max_in_flight,
    } = *waits;
    let too_many_waited = waited as f64 > planned as f64 * WAITED_SHARE_MAX;
    let what = if unsent > 0 && !stopped {
        format!("{unsent} of {planned} operations were never sent, and {waited} arrivals")
    } else if too_many_waited {
        format!("{waited} of {planned} arrivals")
    } else {
        return None;
    };
    Some(format!(
        "{what} had to wait because {max_in_flight} operations were in flight (limit {:.0} %): what was offered is \
         not what was planned; raise --max-in-flight, or lower the rate if it is above what the store takes",
        WAITED_SHARE_MAX * 100.0
    ))
}

fn ms(nanos: Nanos) -> f64 {
    (nanos as f64 / 1e4).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    const WAITS: Waits = Waits {
        planned: 5000,
        waited: 50,
        unsent: 0,
        stopped: false,
        max_in_flight: 64,
    };

    fn evidence() -> Evidence {
        Evidence {
            ok: 5000,
            lateness: Some(Percentiles {
                p99: Some(MS / 2),
                ..Percentiles::default()
            }),
            lateness_limit: LATENESS_LIMIT,
            response_p50: Some(2 * MS),
            cpu: Some((MS, 10 * MS, 1)),
            waits: Some(WAITS),
            steadiness: None,
        }
    }

    fn late(p99: Nanos, response_p50: Option<Nanos>) -> Evidence {
        Evidence {
            lateness: Some(Percentiles {
                p99: Some(p99),
                ..Percentiles::default()
            }),
            response_p50,
            ..evidence()
        }
    }

    #[test]
    fn each_rule_applies_beyond_its_limit_only() {
        let bound = |evidence: &Evidence| matches!(judge(evidence), LoadVerdict::GeneratorBound(_));
        assert_eq!(judge(&evidence()), LoadVerdict::Valid);
        assert!(!bound(&late(MS, Some(2 * MS))) && bound(&late(MS + 1, Some(2 * MS))));
        assert!(!bound(&late(4 * MS, Some(40 * MS))) && bound(&late(4 * MS + 1, Some(40 * MS))));
        assert!(bound(&late(MS + 1, None)));
        let cpu = |used| Evidence {
            cpu: Some((used, 10 * MS, 2)),
            ..evidence()
        };
        assert!(!bound(&cpu(16 * MS)) && bound(&cpu(16 * MS + 1)));
    }

    #[test]
    fn the_limit_of_lateness_is_the_one_given() {
        let generous = |p99| Evidence {
            lateness_limit: Duration::from_millis(20),
            ..late(p99, None)
        };
        assert_eq!(judge(&generous(20 * MS)), LoadVerdict::Valid);
        assert!(matches!(
            judge(&generous(20 * MS + 1)),
            LoadVerdict::GeneratorBound(reason) if reason.contains("limit 20 ms")
        ));
    }

    #[test]
    fn a_plan_that_did_not_reach_the_store_is_told_with_its_numbers() {
        let verdict = |waits| {
            judge(&Evidence {
                waits: Some(waits),
                ..evidence()
            })
        };
        let says = |waits, words: &[&str]| match verdict(waits) {
            LoadVerdict::GeneratorBound(reason) => {
                assert!(words.iter().all(|word| reason.contains(word)), "{reason}");
            }
            other => panic!("{waits:?}: {other:?}"),
        };
        let advice = "raise --max-in-flight";
        says(
            Waits { waited: 51, ..WAITS },
            &[
                "51 of 5000 arrivals had to wait",
                "64 operations were in flight",
                advice,
            ],
        );
        let unsent = Waits { unsent: 1, ..WAITS };
        says(
            unsent,
            &["1 of 5000 operations were never sent", "50 arrivals", advice],
        );
        let stopped = Waits {
            stopped: true,
            ..unsent
        };
        assert_eq!(verdict(stopped), LoadVerdict::Valid);
        says(
            Waits {
                waited: 51,
                ..stopped
            },
            &["51 of 5000 arrivals"],
        );
    }

    #[test]
    fn a_generator_without_cpu_time_is_not_told_to_take_on_more() {
        let busy = Evidence {
            cpu: Some((9 * MS, 10 * MS, 1)),
            waits: Some(Waits { unsent: 100, ..WAITS }),
            ..evidence()
        };
        assert!(matches!(
            judge(&busy),
            LoadVerdict::GeneratorBound(reason) if reason.contains("core(s)")
        ));
    }

    #[test]
    fn too_few_answers_come_first() {
        let thin = Evidence {
            ok: OK_MIN - 1,
            ..late(100 * MS, None)
        };
        assert!(matches!(judge(&thin), LoadVerdict::TooThin(_)));
        let enough = Evidence {
            ok: OK_MIN,
            ..evidence()
        };
        assert_eq!(judge(&enough), LoadVerdict::Valid);
    }

    #[test]
    fn what_was_not_measured_is_not_held_against_anybody() {
        let bare = Evidence {
            lateness: None,
            response_p50: None,
            cpu: None,
            waits: None,
            ..evidence()
        };
        assert_eq!(judge(&bare), LoadVerdict::Valid);
        let few = Evidence {
            lateness: Some(Percentiles::default()),
            ..evidence()
        };
        assert_eq!(judge(&few), LoadVerdict::Valid);
    }
}
