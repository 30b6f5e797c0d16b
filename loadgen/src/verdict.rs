//! Whether a load run's numbers can be trusted.
//!
//! The rules, in order; the first that applies is the verdict:
//!
//! 1. **too thin**: fewer than [`OK_MIN`] operations were answered.
//! 2. **generator-bound**, in an open loop: the 99th percentile of the pacer's lateness (how long after its planned
//!    start an arrival was noticed) is above both [`LATENESS_LIMIT_NS`] and a tenth of the median response time.
//!    The generator then adds to what it measures. Needs 1,000 arrivals; with fewer the percentile means nothing.
//! 3. **generator-bound**: the process used more than [`CPU_SHARE_MAX`] of the cores given to the client. Does not apply
//!    where other work runs in the same process ([`crate::LoadConfig::client_cores`] is absent).
//!
//! Never looks at whether the store did well.

use reports::record::{LoadVerdict, Nanos, Percentiles};

/// Fewer answers than this say nothing.
pub const OK_MIN: u64 = 100;
/// Lateness up to this is never held against the generator.
pub const LATENESS_LIMIT_NS: Nanos = 1_000_000;
/// Part of the client's cores that it may use before it counts as the limit.
pub const CPU_SHARE_MAX: f64 = 0.8;

/// What the verdict is made from.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Operations answered.
    pub ok: u64,
    /// How late arrivals were noticed; absent in a closed loop.
    pub lateness: Option<Percentiles>,
    /// Median response time of ok operations.
    pub response_p50: Option<Nanos>,
    /// CPU time used, wall time passed (both nanoseconds), and cores given.
    pub cpu: Option<(Nanos, Nanos, u32)>,
}

/// Applies the rules.
pub fn judge(evidence: &Evidence) -> LoadVerdict {
    if evidence.ok < OK_MIN {
        return LoadVerdict::TooThin(format!(
            "{} operations were answered; below {OK_MIN} the numbers say nothing",
            evidence.ok
        ));
    }
    if let Some(p99) = evidence.lateness.as_ref().and_then(|lateness| lateness.p99) {
        let limit = LATENESS_LIMIT_NS.max(evidence.response_p50.unwrap_or(0) / 10);
        if p99 > limit {
            return LoadVerdict::GeneratorBound(format!(
                "1 % of the arrivals were noticed more than {} ms late (limit {} ms): \
                 lower the rate, or give the generator a core of its own",
                ms(p99),
                ms(limit)
            ));
        }
    }
    if let Some((used, wall, cores)) = evidence.cpu {
        let share = used as f64 / (wall.max(1) as f64 * f64::from(cores.max(1)));
        if share > CPU_SHARE_MAX {
            return LoadVerdict::GeneratorBound(format!(
                "the generator used {:.0} % of its {cores} core(s) (limit {:.0} %): \
                 lower the rate, or spread the load over several generators",
                share * 100.0,
                CPU_SHARE_MAX * 100.0
            ));
        }
    }
    LoadVerdict::Valid
}

fn ms(nanos: Nanos) -> f64 {
    (nanos as f64 / 1e4).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    fn evidence() -> Evidence {
        Evidence {
            ok: 5000,
            lateness: Some(Percentiles {
                p99: Some(MS / 2),
                ..Percentiles::default()
            }),
            response_p50: Some(2 * MS),
            cpu: Some((MS, 10 * MS, 1)),
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
