//! Whether a load run's numbers can be trusted.
//!
//! The rules, in order; the first that applies is the verdict:
//!
//! 1. **too thin**: fewer than [`OK_MIN`] operations were answered.
//! 2. **generator-bound**, in an open loop: more than [`LATE_SHARE_MAX`] of the arrivals were noticed later after their
//!    planned start than both the limit given ([`LATENESS_LIMIT`] unless [`crate::LoadConfig::lateness_limit`] says
//!    otherwise) and a tenth of the median response time. The generator then adds to what it measures. With fewer than
//!    1,000 arrivals, more than chance explains must be late.
//! 3. **generator-bound**: the process used more than [`CPU_SHARE_MAX`] of the cores given to the client. Does not apply
//!    where other work runs in the same process ([`crate::LoadConfig::client_cores`] is absent).
//! 4. **overloaded**, in an open loop: operations were left unsent although the run was not stopped early, or more
//!    than [`WAITED_SHARE_MAX`] of the arrivals had to wait because too much was in flight. The generator was in time and
//!    had cores to spare (rules 2 and 3), so the store did not keep up: the numbers are valid, as those of an overloaded
//!    store. Does not apply where outages are part of the plan ([`crate::LoadConfig::waits_are_expected`]).
//! 5. **unsteady**, in an open loop of an even rate without outages on purpose: what was planned and not ended grew to
//!    the end.
//! 6. **noisy**, in every loop without outages on purpose: nobody was answered for longer than [`SILENCE_MIN`] and
//!    [`SILENCE_SHARE_MAX`] of the run, while somebody waited.
//! 7. **noisy**, in an open loop of an even rate and in a closed one, without outages on purpose: the machine's host took
//!    more than [`STEAL_MAX`] of its time for others, or the slices' throughput scatters by more than
//!    [`VARIATION_MAX`], or the median is known to less than [`MEDIAN_WIDTH_MAX`].
//! 8. **noisy**, where the whole machine was watched: processes that are neither the generator nor its servers used more
//!    than [`OTHERS_SHARE_MAX`] of the machine's cores (`with_others`).
//!
//! Never looks at whether the store's answers were good.

mod others;
mod steadiness;

use std::time::Duration;

use reports::record::{LoadVerdict, Nanos, Percentiles};

use crate::clock::{human, nanos};
use crate::statistics::share_interval;

pub use others::OTHERS_SHARE_MAX;
pub(crate) use others::with_others;
pub use steadiness::{
    GROWTH_SECONDS_MIN, MEDIAN_WIDTH_MAX, SLICES_MIN, STEAL_MAX, Steadiness, VARIATION_MAX,
};

/// Fewer answers than this say nothing.
pub const OK_MIN: u64 = 100;
/// Lateness up to this is not held against a generator that has the process to itself.
pub const LATENESS_LIMIT: Duration = Duration::from_millis(1);
/// Part of the arrivals that may be noticed late.
pub const LATE_SHARE_MAX: f64 = 0.01;
/// Shorter times without an answer are no objection.
pub const SILENCE_MIN: Duration = Duration::from_secs(1);
/// Nor are times without an answer that are less than this part of the run.
pub const SILENCE_SHARE_MAX: f64 = 0.1;
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
    /// Arrivals noticed later than [`lateness_allowed`]; absent in a closed loop.
    pub late: Option<u64>,
    /// Lateness up to this is never held against the generator.
    pub lateness_limit: Duration,
    /// Median response time of ok operations.
    pub response_p50: Option<Nanos>,
    /// CPU time used, wall time passed (both nanoseconds), and cores given.
    pub cpu: Option<(Nanos, Nanos, u32)>,
    /// How the plan met the limit of operations in flight; absent in a closed loop and where waits are expected.
    pub waits: Option<Waits>,
    /// The longest time in which somebody waited and no operation was answered; absent where outages are expected.
    pub silence: Option<Silence>,
    /// How steady it was; absent where the rate changes by plan, and where outages are expected.
    pub steadiness: Option<Steadiness>,
}

/// A time without any answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// How long it was, nanoseconds.
    pub length: Nanos,
    /// When it began, nanoseconds after the measured time did.
    pub from: Nanos,
    /// How long the measured time was, nanoseconds.
    pub measured: Nanos,
}

/// How late an arrival may be noticed, where the limit given and the median response time are these.
pub fn lateness_allowed(limit: Duration, response_p50: Option<Nanos>) -> Nanos {
    nanos(limit).max(response_p50.unwrap_or(0) / 10)
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
    if let Some(reason) = too_late(evidence).or_else(|| too_busy(evidence)) {
        return LoadVerdict::GeneratorBound(reason);
    }
    let silence = evidence.silence.as_ref().and_then(silent);
    if let Some(reason) = evidence.waits.as_ref().and_then(too_full) {
        let silence = silence.map_or_else(String::new, |silence| format!("; {silence}"));
        return LoadVerdict::Overloaded(reason + &silence);
    }
    let steadiness = evidence.steadiness.as_ref();
    steadiness
        .and_then(steadiness::growing)
        .map(LoadVerdict::Unsteady)
        .or_else(|| silence.map(LoadVerdict::Noisy))
        .or_else(|| steadiness.and_then(steadiness::noise).map(LoadVerdict::Noisy))
        .unwrap_or(LoadVerdict::Valid)
}

fn too_late(evidence: &Evidence) -> Option<String> {
    let lateness = evidence.lateness.as_ref()?;
    let limit = lateness_allowed(evidence.lateness_limit, evidence.response_p50);
    let advice = "lower the rate, or give the generator a core of its own";
    let Some(p99) = lateness.p99 else {
        let late = evidence.late?;
        let share = share_interval(late as f64, lateness.count as f64)?;
        return (share.low > LATE_SHARE_MAX).then(|| {
            format!(
                "{late} of {} arrivals were noticed more than {} ms late (limit {:.0} %): {advice}",
                lateness.count,
                ms(limit),
                LATE_SHARE_MAX * 100.0
            )
        });
    };
    (p99 > limit).then(|| {
        format!(
            "1 % of the arrivals were noticed more than {} ms late (limit {} ms): {advice}",
            ms(p99),
            ms(limit)
        )
    })
}

/// What the longest time without an answer says.
fn silent(silence: &Silence) -> Option<String> {
    let limit = nanos(SILENCE_MIN).max((silence.measured as f64 * SILENCE_SHARE_MAX) as Nanos);
    (silence.length > limit).then(|| {
        format!(
            "no operation was answered for {} from {} of the measured time on (limit {}), although some were waiting",
            human(silence.length),
            human(silence.from),
            human(limit)
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
        "{what} had to wait because {max_in_flight} operations were in flight (limit {:.0} %), while the generator was in \
         time: with so many open, the store did not keep up with the plan; these are valid numbers of an overloaded \
         store, so lower the rate to see one that is not, or raise --max-in-flight if it can do more at once",
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
            late: Some(0),
            lateness_limit: LATENESS_LIMIT,
            response_p50: Some(2 * MS),
            cpu: Some((MS, 10 * MS, 1)),
            waits: Some(WAITS),
            silence: None,
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
            LoadVerdict::Overloaded(reason) => {
                assert!(words.iter().all(|word| reason.contains(word)), "{reason}");
            }
            other => panic!("{waits:?}: {other:?}"),
        };
        let advice = "valid numbers of an overloaded store";
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
            late: None,
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

    #[test]
    fn a_generator_that_stood_still_shows_also_among_few_arrivals() {
        let few = |late| Evidence {
            lateness: Some(Percentiles {
                count: 500,
                ..Percentiles::default()
            }),
            late: Some(late),
            ..evidence()
        };
        assert!(matches!(
            judge(&few(25)),
            LoadVerdict::GeneratorBound(reason) if reason.contains("25 of 500 arrivals were noticed more than 1 ms late")
        ));
        // As many as chance explains where one in a hundred is late.
        assert_eq!(judge(&few(8)), LoadVerdict::Valid);
    }

    #[test]
    fn a_long_silence_is_told_in_every_loop() {
        let silent = |length, measured| Evidence {
            silence: Some(Silence {
                length,
                from: 1500 * MS,
                measured,
            }),
            waits: None,
            lateness: None,
            ..evidence()
        };
        assert_eq!(judge(&silent(1000 * MS, 5000 * MS)), LoadVerdict::Valid);
        assert!(matches!(
            judge(&silent(1001 * MS, 5000 * MS)),
            LoadVerdict::Noisy(reason) if reason.contains("no operation was answered for")
        ));
        assert_eq!(judge(&silent(3000 * MS, 30_000 * MS)), LoadVerdict::Valid);
        assert!(matches!(
            judge(&silent(3001 * MS, 30_000 * MS)),
            LoadVerdict::Noisy(_)
        ));
        let overloaded = Evidence {
            waits: Some(Waits { waited: 500, ..WAITS }),
            ..silent(2000 * MS, 5000 * MS)
        };
        assert!(matches!(
            judge(&overloaded),
            LoadVerdict::Overloaded(reason) if reason.contains("overloaded store") && reason.contains("no operation was answered")
        ));
    }
}
