//! `loadgen compare --record` and `--recorded`: ratios that are kept in a file, and what becomes of them.
//!
//! Promises: a file that cannot be used is refused before anything is measured; nothing is recorded from trials that cannot
//! be believed; what could not be concluded never ends with exit code 0.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::compare_command::{Percent, percent};
use super::{CommandError, INVALID, summary};
use crate::compare::{
    Doubt, Judged, Judgement, Quantity, Ratio, RatioVerdict, Ratios, RatiosError, RatiosVerdict, Setup,
    SideName, Trial, doubts, judge,
};

/// By how much a ratio may get worse, unless told otherwise.
const TOLERANCE: f64 = 0.25;

/// Something got clearly worse, or is damaged.
const WORSE: u8 = 1;

/// Fewer trials a side show nothing of how much trials differ.
const TRIALS_MIN: usize = 2;

#[derive(Debug, Args)]
#[command(next_help_heading = "Ratios that are kept")]
pub(super) struct RatioArgs {
    /// Write the ratios of the first target to the second (BASE divided by NEW) to this file: throughput, p50, p99 and CPU
    /// of all servers per operation, and what the trials were asked.
    #[arg(long, value_name = "FILE", conflicts_with = "recorded")]
    record: Option<PathBuf>,
    /// Hold the ratios against those in this file, which must have been recorded with the same options.
    #[arg(long, value_name = "FILE")]
    recorded: Option<PathBuf>,
    /// A ratio is a regression if even the better end of its interval is worse than recorded by more than this; if only
    /// its estimate is, that is unsure and no pass.
    #[arg(
        long,
        value_parser = percent,
        default_value_t = Percent(TOLERANCE),
        value_name = "PERCENT",
        requires = "recorded"
    )]
    tolerance: Percent,
    /// Let this ratio decide too. Throughput, p50 and CPU always do; p99 is else only shown, because it differs too much
    /// between trials.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "QUANTITY",
        requires = "recorded"
    )]
    gate: Vec<Quantity>,
}

/// What is to be done with ratios.
pub(super) enum Task<'a> {
    /// Write them here.
    Record(&'a Path),
    /// Hold them against these, from here.
    Hold(&'a Path, Box<Ratios>),
}

/// What became of them.
pub(super) struct Done {
    pub(super) code: u8,
    pub(super) text: String,
    pub(super) json: Value,
}

impl RatioArgs {
    /// What is asked for, if anything. Refuses what cannot work, before anything is measured.
    pub(super) fn task(&self) -> Result<Option<Task<'_>>, CommandError> {
        if let Some(path) = &self.record {
            Ratios::check_writable(path).map_err(CommandError::usage)?;
            return Ok(Some(Task::Record(path)));
        }
        let Some(path) = &self.recorded else {
            return Ok(None);
        };
        let recorded = Ratios::read(path).map_err(ratios_error)?;
        if let Some(gate) = self.gate.iter().find(|gate| !recorded.has(**gate)) {
            return Err(CommandError::usage(format!(
                "{} holds no ratio of {gate}, so that --gate cannot let it decide; record it, or leave it out",
                shown(path)
            )));
        }
        Ok(Some(Task::Hold(path, Box::new(recorded))))
    }

    fn gates(&self) -> Vec<Quantity> {
        let mut gates = Quantity::GATES.to_vec();
        let more = self.gate.iter().filter(|gate| !Quantity::GATES.contains(gate));
        gates.extend(more);
        gates.dedup();
        gates
    }

    /// Does what is asked for, with the trials of both targets.
    pub(super) fn conclude(
        &self,
        task: &Task<'_>,
        blank: Ratios,
        first: &[Trial],
        second: &[Trial],
    ) -> Result<Done, CommandError> {
        let now = blank.measured(first, second);
        let doubts = doubts(first, second);
        // What forbids to conclude anything is told as the reason, and what does not, as a note.
        let warnings = first.iter().chain(second).flat_map(|trial| &trial.warnings);
        let remarks = warnings
            .filter(|warning| !doubts.iter().any(|(_, doubt)| doubt.to_string() == **warning))
            .cloned()
            .collect();
        match task {
            Task::Record(path) => record(path, &now, &doubts, remarks),
            Task::Hold(path, recorded) => {
                let mut judgement = judge(recorded, &now, &doubts, &self.gates(), self.tolerance.0);
                judgement.notes.extend(remarks);
                Ok(self.held(path, recorded, judgement))
            }
        }
    }

    fn held(&self, path: &Path, recorded: &Ratios, judgement: Judgement) -> Done {
        let (word, code) = match judgement.verdict {
            RatiosVerdict::Held => ("OK", 0),
            RatiosVerdict::Regression => ("REGRESSION", WORSE),
            RatiosVerdict::Damaged => ("DAMAGED VALUES", WORSE),
            RatiosVerdict::NoConclusion => ("NO CONCLUSION", INVALID),
        };
        let mut lines = vec![
            format!(
                "{word}: {} against {} (tolerance {})",
                recorded.pair(),
                shown(path),
                self.tolerance
            ),
            format!(
                "  {:<25} {:>9} {:>9}  {:<24} verdict",
                "ratio", "recorded", "measured", "interval"
            ),
        ];
        lines.extend(judgement.ratios.iter().map(judged));
        lines.extend(judgement.reasons.iter().map(|reason| told("because", reason)));
        lines.extend(judgement.notes.iter().map(|note| told("note", note)));
        Done {
            code,
            text: lines.join("\n") + "\n",
            json: json!({
                "pair": recorded.pair(),
                "tolerance": self.tolerance.0,
                "judgement": judgement,
            }),
        }
    }
}

impl Task<'_> {
    /// Refuses so few trials that their ratio would have no interval.
    pub(super) fn refuse_few(&self, trials: usize) -> Result<(), CommandError> {
        match trials < TRIALS_MIN {
            true => Err(CommandError::usage(format!(
                "ratios that are kept need at least {TRIALS_MIN} trials a side: one does not show how much trials differ"
            ))),
            false => Ok(()),
        }
    }

    /// The ratios before anything is measured. Refuses sides that were asked different things, and recorded ratios of other
    /// targets or with other options.
    pub(super) fn between(&self, first: &[Setup], second: &[Setup]) -> Result<Ratios, CommandError> {
        let ([a, ..], [b, ..]) = (first, second) else {
            return Err(CommandError::usage("a side has no run"));
        };
        let unlike = |differences: Vec<String>| {
            CommandError::usage(format!(
                "the trials were not made with the same options, so that their ratio says nothing:\n{}",
                listed(&differences)
            ))
        };
        let blank = Ratios::between(a, b).map_err(unlike)?;
        for (of, other) in first
            .iter()
            .map(|other| (a, other))
            .chain(second.iter().map(|other| (b, other)))
        {
            Ratios::between(of, other).map_err(unlike)?;
            if (&of.target, of.nodes) != (&other.target, other.nodes) {
                let (one, another) = (&of.target, &other.target);
                return Err(CommandError::usage(format!(
                    "the runs of a side are of different targets or numbers of nodes: {one} and {another}"
                )));
            }
        }
        if let Task::Hold(path, recorded) = self {
            let differences = recorded.differences(&blank);
            if !differences.is_empty() {
                return Err(CommandError::usage(format!(
                    "{} was recorded with other targets or options:\n{}\nmeasure with the same, or record anew with --record",
                    shown(path),
                    listed(&differences)
                )));
            }
        }
        Ok(blank)
    }
}

/// Writes the ratios, unless they cannot be believed.
fn record(
    path: &Path,
    now: &Ratios,
    doubts: &[(SideName, &Doubt)],
    mut notes: Vec<String>,
) -> Result<Done, CommandError> {
    let mut reasons: Vec<String> = Vec::new();
    for (_, doubt) in doubts {
        match doubt {
            Doubt::GeneratorBound(reason) => notes.push(format!("{reason} (the file says so)")),
            doubt => reasons.push(doubt.to_string()),
        }
    }
    if now.ratios.is_empty() {
        reasons.push("there is no number that all trials have".into());
    }
    let absent = Quantity::GATES.iter().filter(|gate| !now.has(**gate));
    let warnings: Vec<String> = absent
        .map(|gate| {
            format!("no {gate} was measured in all trials, so that --recorded will say nothing of it")
        })
        .collect();
    let damaged = doubts.iter().any(|(_, doubt)| matches!(doubt, Doubt::Damaged(_)));
    let (headline, code) = match (reasons.is_empty(), damaged) {
        (true, _) => {
            now.write(path).map_err(ratios_error)?;
            (format!("RECORDED: {} in {}", now.pair(), shown(path)), 0)
        }
        (false, damaged) => {
            let headline = format!("NOT RECORDED: {}, {} is as it was", now.pair(), shown(path));
            (headline, if damaged { WORSE } else { INVALID })
        }
    };
    let mut lines = vec![headline];
    lines.extend(now.ratios.iter().map(|ratio| {
        let name = ratio.quantity.to_string();
        format!("  {name:<25} {:>9}  {}", number(ratio.ratio), interval(ratio))
    }));
    lines.extend(reasons.iter().map(|reason| told("because", reason)));
    lines.extend(warnings.iter().map(|warning| told("warning", warning)));
    lines.extend(notes.iter().map(|note| told("note", note)));
    Ok(Done {
        code,
        text: lines.join("\n") + "\n",
        json: json!({
            "pair": now.pair(),
            "written": reasons.is_empty(),
            "ratios": now.ratios,
            "reasons": reasons,
            "warnings": warnings,
            "notes": notes,
        }),
    })
}

fn judged(line: &Judged) -> String {
    let word = match line.verdict {
        RatioVerdict::Ok => "ok",
        RatioVerdict::Better => "better",
        RatioVerdict::Regression => "regression",
        RatioVerdict::Unsure => "unsure: more trials would tell",
        RatioVerdict::Missing => "missing",
    };
    let (measured, interval) = match &line.measured {
        Some(ratio) => (number(ratio.ratio), interval(ratio)),
        None => ("n/a".into(), "n/a".into()),
    };
    let only = if line.decides { "" } else { " (only shown)" };
    format!(
        "  {:<25} {:>9} {measured:>9}  {interval:<24} {word}{only}",
        line.quantity.to_string(),
        number(line.recorded),
    )
}

fn interval(ratio: &Ratio) -> String {
    format!(
        "{} to {} ({:.0} %)",
        number(ratio.low),
        number(ratio.high),
        ratio.confidence * 100.0
    )
}

/// Three digits or more.
fn number(ratio: f64) -> String {
    match ratio {
        100.0.. => format!("{ratio:.0}"),
        10.0..100.0 => format!("{ratio:.1}"),
        1.0..10.0 => format!("{ratio:.2}"),
        0.1..1.0 => format!("{ratio:.3}"),
        _ => format!("{ratio:.2e}"),
    }
}

fn told(kind: &str, what: &str) -> String {
    format!("  {kind}: {}", summary::printable(what))
}

fn listed(lines: &[String]) -> String {
    let lines = lines.iter().map(|line| format!("  {}", summary::printable(line)));
    lines.collect::<Vec<_>>().join("\n")
}

fn shown(path: &Path) -> String {
    summary::printable(&path.display().to_string())
}

fn ratios_error(error: RatiosError) -> CommandError {
    match &error {
        RatiosError::Malformed { .. } | RatiosError::Occupied { .. } => CommandError::usage(error),
        RatiosError::Read { source, .. } if source.kind() == ErrorKind::NotFound => {
            CommandError::usage(error)
        }
        RatiosError::Read { .. } | RatiosError::Write { .. } => CommandError::environment(error),
    }
}
