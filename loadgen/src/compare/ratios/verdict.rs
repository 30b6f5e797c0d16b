//! Whether ratios got worse than those that were recorded.

use serde::Serialize;

use super::{Quantity, Ratio, Ratios};
use crate::compare::{Doubt, Metric, SideName};

/// What became of a recorded ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RatioVerdict {
    /// The estimate is not worse than recorded by more than the tolerance, and not clearly better.
    Ok,
    /// Even the worse end of the interval is better than recorded, by more than the tolerance.
    Better,
    /// Even the better end of the interval is worse than recorded, by more than the tolerance.
    Regression,
    /// The estimate is worse than recorded by more than the tolerance, the better end of the interval is not: the trials
    /// differ too much, or are too few, to tell.
    Unsure,
    /// It was not measured this time.
    Missing,
}

/// What became of all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RatiosVerdict {
    /// None that decides looks worse by more than the tolerance.
    Held,
    /// At least one that decides did.
    Regression,
    /// A target returned values that nobody can have written.
    Damaged,
    /// The trials do not allow one, or not of all that decide.
    NoConclusion,
}

/// One recorded ratio and the same now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// Of which number.
    pub quantity: Metric,
    /// The recorded estimate.
    pub recorded: f64,
    /// What was measured, if it was.
    pub measured: Option<Ratio>,
    /// What became of it.
    pub verdict: RatioVerdict,
    /// It decides; else it is only shown.
    pub decides: bool,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// What became of all together.
    pub verdict: RatiosVerdict,
    /// In the order in which they were recorded.
    pub ratios: Vec<Judged>,
    /// Why there is no conclusion, or what else is wrong; a sentence each.
    pub reasons: Vec<String>,
    /// What a reader should know besides, a sentence each.
    pub notes: Vec<String>,
}

/// Holds what was measured against what was recorded. `gates` decide; `tolerance` is the part of a recorded ratio by which
/// it may get worse. That both were measured with the same options is the caller's to ensure ([`Ratios::differences`]).
pub fn judge(
    recorded: &Ratios,
    now: &Ratios,
    doubts: &[(SideName, &Doubt)],
    gates: &[Quantity],
    tolerance: f64,
) -> Judgement {
    let decides = |metric: Metric| Quantity::of(metric).is_some_and(|quantity| gates.contains(&quantity));
    let line = |old: &Ratio| {
        let measured = now.of(old.quantity).copied();
        Judged {
            quantity: old.quantity,
            recorded: old.ratio,
            verdict: measured.map_or(RatioVerdict::Missing, |now| against(old.ratio, &now, tolerance)),
            measured,
            decides: decides(old.quantity),
        }
    };
    let ratios: Vec<Judged> = recorded.ratios.iter().map(line).collect();
    let (mut reasons, mut notes) = (Vec::new(), Vec::new());
    for (side, doubt) in doubts {
        let party = match side {
            SideName::Base => &recorded.first,
            SideName::New => &recorded.second,
        };
        match doubt {
            // Then both ratios are against the same limit.
            Doubt::GeneratorBound(reason) if party.generator_bound => {
                notes.push(format!("{reason} (as when it was recorded)"));
            }
            doubt => reasons.push(doubt.to_string()),
        }
    }
    let believed = reasons.is_empty();
    let any = |verdict| ratios.iter().any(|line| line.decides && line.verdict == verdict);
    let damaged = doubts.iter().any(|(_, doubt)| matches!(doubt, Doubt::Damaged(_)));
    reasons.extend(
        ratios
            .iter()
            .filter(|line| line.decides)
            .filter_map(open_question),
    );
    for gate in gates {
        if !recorded.has(*gate) {
            notes.push(format!(
                "no {gate} is recorded, so that nothing is said of it; record it to be told when it gets worse"
            ));
        }
    }
    let verdict = match (damaged, believed, any(RatioVerdict::Regression)) {
        (true, ..) => RatiosVerdict::Damaged,
        (_, false, _) => RatiosVerdict::NoConclusion,
        (_, _, true) => RatiosVerdict::Regression,
        _ if any(RatioVerdict::Missing) || any(RatioVerdict::Unsure) => RatiosVerdict::NoConclusion,
        _ => RatiosVerdict::Held,
    };
    Judgement {
        verdict,
        ratios,
        reasons,
        notes,
    }
}

/// Why a ratio alone allows no conclusion, if it does not.
fn open_question(line: &Judged) -> Option<String> {
    match line.verdict {
        RatioVerdict::Missing => Some(format!("{} is recorded and was not measured", line.quantity)),
        RatioVerdict::Unsure => Some(format!(
            "{} looks worse than recorded by more than the tolerance, but its interval reaches back within it: more \
             trials would tell",
            line.quantity
        )),
        RatioVerdict::Ok | RatioVerdict::Better | RatioVerdict::Regression => None,
    }
}

fn against(recorded: f64, now: &Ratio, tolerance: f64) -> RatioVerdict {
    let (more, less) = (recorded * (1.0 + tolerance), recorded * (1.0 - tolerance));
    match now.quantity.wants_much() {
        true if now.high < less => RatioVerdict::Regression,
        true if now.ratio < less => RatioVerdict::Unsure,
        true if now.low > more => RatioVerdict::Better,
        false if now.low > more => RatioVerdict::Regression,
        false if now.ratio > more => RatioVerdict::Unsure,
        false if now.high < less => RatioVerdict::Better,
        _ => RatioVerdict::Ok,
    }
}
