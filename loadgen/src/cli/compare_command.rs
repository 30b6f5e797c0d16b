//! `loadgen compare`: whether one set of recorded runs is faster than another.
//!
//! Never compares runs that were made under different conditions unless told to, and then says so in the result.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use reports::record::{Resources, Run, ThresholdUnit};
use serde_json::json;

use super::ratio_file::{RatioArgs, Task};
use super::{CommandError, USAGE, live_compare, recorded, summary};
use crate::compare::{
    Comparison, ComparisonVerdict, Difference, Metric, MetricComparison, NOISE, Setup, Trial, compare,
    differences,
};
use crate::threshold::quantity;

/// Runs a side; more would make more pairs than a comparison holds in memory.
const RUNS_MAX: usize = 1000;

/// What a trial is if nothing is said of it: as many writes as the target takes.
pub(super) const TRIAL: [&str; 11] = [
    "--closed",
    "--clients",
    "256",
    "--mix",
    "put=1",
    "--value-size",
    "256",
    "--warmup",
    "2s",
    "--duration",
    "10s",
];

/// Something got worse.
const REGRESSION: u8 = 1;

const AFTER_HELP: &str = "\
A change counts if it is significant (Mann-Whitney, corrected after Holm over all metrics, 5 %) and larger than --noise. One run
a side decides nothing, because it cannot show how much runs differ by themselves: six a side can, made in turns.

With --record and --recorded two targets are not rivals: what counts is whether their ratio, BASE divided by NEW, is still what it
was. Four trials a side give it an interval of 95 %; fewer give that from the smallest to the largest ratio of all pairs, and how
much that is worth. Worse by 25 % means a throughput below 0.75 of what is recorded, or a latency or CPU above 1.25 of it. Nothing is
concluded if the generator was the limit of a trial (unless it was so already when the ratios were recorded), or if a trial never
settled, was too short, or had more than 0.1 % of its operations fail; then nothing is recorded either, except that the file says
whose limit the generator was. That a trial was noisy forbids nothing: the interval shows it. A ratio whose estimate is worse by
more than the tolerance, but not the better end of its interval, is unsure: that is no pass, and more trials would tell.

Exit codes:
  0   nothing got worse, or it could not be decided; --record: written; --recorded: all that decides is as good as it was
  1   at least one metric regressed; --recorded: a ratio that decides did, or values came back that nobody can have written
  2   wrong usage, runs made under different conditions, ratios recorded with other targets or options, or a --record that
      cannot be written or would overwrite something else
  5   the disk cannot be read or written
  98  --record and --recorded: the trials allow no conclusion, or a ratio that decides is unsure or was not measured";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct CompareArgs {
    /// The run that the other is held against: its folder, its name in target/runs, or `latest`.
    #[arg(value_name = "BASE", requires = "new_run", conflicts_with_all = ["base", "new"])]
    base_run: Option<PathBuf>,
    /// The other run.
    #[arg(value_name = "NEW")]
    new_run: Option<PathBuf>,
    /// Several runs that the others are held against, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "RUN,…", requires = "new")]
    base: Vec<PathBuf>,
    /// The other runs.
    #[arg(long, value_delimiter = ',', value_name = "RUN,…", requires = "base")]
    new: Vec<PathBuf>,
    /// A target to make trials of, twice: the base and the new one. Without nodes, as in `raft` or `etcd`, each trial
    /// starts a fresh cluster on this machine. The options of `loadgen run` follow after `--`; without any, 256 clients
    /// write 256 bytes each as fast as they are answered, for ten seconds a trial.
    #[arg(long, value_name = "URL", conflicts_with_all = ["base_run", "base"])]
    target: Vec<String>,
    /// Trials of each target, made in turns.
    #[arg(long, value_name = "N", default_value = "6", requires = "target")]
    trials: usize,
    /// Options of `loadgen run` for every trial, after `--`.
    #[arg(last = true, value_name = "OPTIONS OF RUN", requires = "target")]
    options: Vec<String>,
    /// Changes up to this are not worth a verdict, however sure.
    #[arg(long, value_parser = percent, default_value_t = Percent(NOISE), value_name = "PERCENT")]
    noise: Percent,
    /// Compare although the runs were made under different conditions.
    #[arg(long)]
    force: bool,
    /// Print the comparison as one JSON document.
    #[arg(long)]
    json: bool,
    // Last, because its heading is that of everything below it.
    #[command(flatten)]
    ratios: RatioArgs,
}

/// A part of one, written in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Percent(pub(super) f64);

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}

pub(super) fn percent(text: &str) -> Result<Percent, String> {
    match text.strip_suffix('%').map(str::parse::<f64>) {
        Some(Ok(number)) if (0.0..100.0).contains(&number) => Ok(Percent(number / 100.0)),
        _ => Err(format!(
            "`{text}` is not a percentage from 0% to below 100%, such as 1% or 2.5%"
        )),
    }
}

pub(super) fn run(args: &CompareArgs) -> Result<u8, CommandError> {
    let live = !args.target.is_empty();
    let task = args.ratios.task()?;
    let (base, new) = match live {
        true => live_folders(args, task.as_ref())?,
        false => sides(args)?,
    };
    if let Some(task) = &task {
        task.refuse_few(base.len().min(new.len()))?;
    }
    let (base, new) = (read(&base)?, read(&new)?);
    refuse_repetitions(base.iter().chain(&new))?;
    let mut differences = all_differences(&base, &new);
    if live {
        differences.retain(|(_, difference)| !made_here(difference));
    }
    if task.is_some() {
        // A ratio may be that of two targets.
        for (_, difference) in &mut differences {
            difference.blocks &= !OF_TARGETS.contains(&difference.what.as_str());
        }
    }
    // Two targets are meant to differ; what differs is said all the same.
    let force = args.force || live;
    let blocked = differences.iter().any(|(_, difference)| difference.blocks) && !force;
    let (base_trials, new_trials) = match blocked {
        true => (Vec::new(), Vec::new()),
        false => (trials(&base)?, trials(&new)?),
    };
    let comparison = match blocked {
        true => Comparison {
            trials: (base.len(), new.len()),
            ..compare(&[], &[], args.noise.0)
        },
        false => compare(&base_trials, &new_trials, args.noise.0),
    };
    let ratios = match &task {
        Some(task) if !blocked => {
            let blank = task.between(&setups(&base)?, &setups(&new)?)?;
            Some(args.ratios.conclude(task, blank, &base_trials, &new_trials)?)
        }
        _ => None,
    };
    let code = ratios
        .as_ref()
        .map_or_else(|| exit_code(comparison.verdict), |ratios| ratios.code);
    let (base, new) = (labels(&base), labels(&new));
    if args.json {
        let mut document = json!({
            "base": base,
            "new": new,
            "forced": args.force,
            "differences": differences.iter().map(|(run, difference)| json!({"run": run, "difference": difference})).collect::<Vec<_>>(),
        });
        match ratios {
            // Then the two are no rivals, and only their ratios speak.
            Some(ratios) => document["ratios"] = ratios.json,
            None => {
                document["noise"] = json!(args.noise.0);
                document["comparison"] = json!(comparison);
            }
        }
        summary::print(&format!("{document:#}\n"))?;
        return Ok(code);
    }
    if blocked {
        return Err(CommandError::usage(refusal(&differences)));
    }
    summary::print(&match ratios {
        Some(ratios) => ratios.text + &told_differences(&differences, args.force),
        None => text(&comparison, &differences, args.force),
    })?;
    Ok(code)
}

/// Makes the trials, unless their ratios could not be used.
fn live_folders(
    args: &CompareArgs,
    task: Option<&Task<'_>>,
) -> Result<(Vec<PathBuf>, Vec<PathBuf>), CommandError> {
    let count = args.trials.clamp(1, RUNS_MAX);
    let sides = live_compare::Sides::of(&args.target, &args.options)?;
    if let Some(task) = task {
        task.refuse_few(count)?;
        let [base, new] = sides.configurations().map(|configuration| {
            let setup = Setup::of(configuration, None);
            setup.into_iter().collect::<Vec<Setup>>()
        });
        task.between(&base, &new)?;
    }
    live_compare::trials(sides, count)
}

/// What the runs of a side were asked, and of which target.
fn setups(runs: &[Recorded]) -> Result<Vec<Setup>, CommandError> {
    let setup = |run: &Recorded| {
        let manifest = run.run.manifest.as_ref();
        let setup =
            manifest.and_then(|manifest| Setup::of(&manifest.configuration, Some(manifest.nodes.len())));
        setup.ok_or_else(|| {
            CommandError::usage(format!(
                "the manifest of {} does not say which target it was, so that its ratios are nobody's",
                run.label
            ))
        })
    };
    runs.iter().map(setup).collect()
}

fn exit_code(verdict: ComparisonVerdict) -> u8 {
    match verdict {
        ComparisonVerdict::NotComparable => USAGE,
        verdict if verdict.is_regression() => REGRESSION,
        _ => 0,
    }
}

/// The runs of both sides, from either way of naming them.
fn sides(args: &CompareArgs) -> Result<(Vec<PathBuf>, Vec<PathBuf>), CommandError> {
    let sides = match (&args.base_run, &args.new_run) {
        (Some(base), Some(new)) => (vec![base.clone()], vec![new.clone()]),
        _ => (args.base.clone(), args.new.clone()),
    };
    if sides.0.is_empty() || sides.1.is_empty() {
        let how = "give two runs to compare, `compare BASE NEW`, or several a side, `compare --base a,b,c --new d,e,f`";
        return Err(CommandError::usage(how));
    }
    if sides.0.len().max(sides.1.len()) > RUNS_MAX {
        return Err(CommandError::usage(format!(
            "more than {RUNS_MAX} runs a side are not taken"
        )));
    }
    Ok(sides)
}

/// A run and where it was found.
struct Recorded {
    label: String,
    path: PathBuf,
    run: Run,
    resources: Option<Resources>,
}

fn read(runs: &[PathBuf]) -> Result<Vec<Recorded>, CommandError> {
    let read = |name: &PathBuf| {
        let folder = recorded::open(name)?;
        Ok(Recorded {
            label: summary::printable(&name.display().to_string()),
            path: resolved(folder.path()),
            run: Run::read(&folder).map_err(recorded::record_error)?,
            resources: folder.read_resources().map_err(recorded::record_error)?,
        })
    };
    runs.iter().map(read).collect()
}

/// The same folder by one name only; as given where it cannot be resolved.
fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// A run that counts twice would pretend to be a repetition.
fn refuse_repetitions<'a>(runs: impl Iterator<Item = &'a Recorded>) -> Result<(), CommandError> {
    let mut seen = BTreeSet::new();
    for run in runs {
        if !seen.insert(&run.path) {
            let path = summary::printable(&run.path.display().to_string());
            return Err(CommandError::usage(format!(
                "{path} is given twice; each run may count once"
            )));
        }
    }
    Ok(())
}

/// How the conditions of each run differ from those of the first, each kind of difference once.
fn all_differences(base: &[Recorded], new: &[Recorded]) -> Vec<(String, Difference)> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for other in base.iter().skip(1).chain(new) {
        for difference in differences(&base[0].run, &other.run) {
            if seen.insert(difference.what.clone()) {
                all.push((other.label.clone(), difference));
            }
        }
    }
    all.sort_by_key(|(_, difference)| !difference.blocks);
    all
}

/// What differs in any case between trials made by this command: names, seeds and addresses are its own choice.
const MADE_HERE: [&str; 6] = ["seed", "key_prefix", "tag", "endpoints", "name", "out"];

/// What two targets may differ in when their ratios are asked for.
const OF_TARGETS: [&str; 2] = ["target", "nodes"];

fn made_here(difference: &Difference) -> bool {
    let last = difference.what.rsplit('.').next();
    last.is_some_and(|last| MADE_HERE.contains(&last))
}

fn trials(runs: &[Recorded]) -> Result<Vec<Trial>, CommandError> {
    let trial = |run: &Recorded| {
        let trial = Trial::of(&run.label, &run.run).map_err(CommandError::usage)?;
        Ok(trial.with_resources(run.resources.as_ref()))
    };
    runs.iter().map(trial).collect()
}

fn labels(runs: &[Recorded]) -> Vec<&str> {
    runs.iter().map(|run| run.label.as_str()).collect()
}

fn refusal(differences: &[(String, Difference)]) -> String {
    let blocking = differences.iter().filter(|(_, difference)| difference.blocks);
    let lines: Vec<String> = blocking
        .map(|(run, difference)| format!("  {} (in {run})", summary::printable(&difference.to_string())))
        .collect();
    format!(
        "the runs were not made under the same conditions, so that a difference between them says nothing:\n{}\n\
         make them alike, or pass --force to compare all the same",
        lines.join("\n")
    )
}

fn text(comparison: &Comparison, differences: &[(String, Difference)], force: bool) -> String {
    let mut lines = vec![headline(comparison)];
    if !comparison.metrics.is_empty() {
        lines.push(format!(
            "  {:<25} {:>10} {:>10} {:>8}  {:<20} {:>6}",
            "metric", "base", "new", "change", "95 % interval", "p"
        ));
    }
    lines.extend(comparison.metrics.iter().map(row));
    lines.extend(told_differences(differences, force).lines().map(str::to_owned));
    lines.extend(
        comparison
            .notes
            .iter()
            .map(|note| format!("  note: {}", summary::printable(note))),
    );
    lines.join("\n") + "\n"
}

/// How the conditions of the runs differ, a line each.
fn told_differences(differences: &[(String, Difference)], force: bool) -> String {
    let line = |(run, difference): &(String, Difference)| {
        let kind = match difference.blocks && force {
            true => "FORCED, not the same",
            false => "not the same",
        };
        format!(
            "  {kind}: {} (in {run})\n",
            summary::printable(&difference.to_string())
        )
    };
    differences.iter().map(line).collect()
}

fn headline(comparison: &Comparison) -> String {
    let verdict = match comparison.verdict {
        ComparisonVerdict::Improved => "IMPROVED",
        ComparisonVerdict::Regressed => "REGRESSED",
        ComparisonVerdict::Unchanged => "UNCHANGED",
        ComparisonVerdict::Mixed => "MIXED: better here, worse there",
        ComparisonVerdict::Undecided => "UNDECIDED: too few runs",
        ComparisonVerdict::NotComparable => "NOT COMPARABLE: no metric that all runs have",
    };
    let (base, new) = comparison.trials;
    format!("{verdict} ({base} and {new} runs)")
}

fn row(metric: &MetricComparison) -> String {
    let unit = match metric.metric {
        Metric::Throughput => ThresholdUnit::PerSecond,
        Metric::Latency(..) | Metric::ClientCpu | Metric::ServerCpu => ThresholdUnit::Nanoseconds,
    };
    let interval = metric.interval.map_or_else(
        || match metric.change {
            crate::compare::Change::Undecided => "n/a (too few runs)".into(),
            _ => "n/a".into(),
        },
        |interval| format!("{} to {}", change(interval.low), change(interval.high)),
    );
    let word = match metric.change {
        crate::compare::Change::Improved => "improved",
        crate::compare::Change::Regressed => "REGRESSED",
        crate::compare::Change::Unchanged => "unchanged",
        crate::compare::Change::Undecided => "undecided",
    };
    format!(
        "  {:<25} {:>10} {:>10} {:>8}  {interval:<20} {:>6.3}  {word}",
        metric.metric.to_string(),
        quantity(metric.base, unit),
        quantity(metric.new, unit),
        change(metric.ratio),
        metric.p_adjusted,
    )
}

/// A ratio as a change in percent, or, where that says little, as it is.
fn change(ratio: f64) -> String {
    if ratio.is_infinite() {
        return "∞".into();
    }
    if !(0.5..2.0).contains(&ratio) {
        return format!("{ratio:.2} x");
    }
    let percent = (ratio - 1.0) * 100.0;
    match percent.abs() {
        0.0..10.0 => format!("{percent:+.1} %"),
        _ => format!("{percent:+.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_parts_of_a_hundred() {
        assert_eq!(percent("1%"), Ok(Percent(0.01)));
        assert_eq!(percent("2.5%"), Ok(Percent(0.025)));
        assert_eq!(Percent(NOISE).to_string(), "1%");
        for wrong in ["1", "-1%", "100%", "%", "NaN%"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ratios_read_as_changes() {
        assert_eq!(change(1.2), "+20 %");
        assert_eq!(change(0.985), "-1.5 %");
        assert_eq!(change(1.0), "+0.0 %");
        assert_eq!(change(3.456), "3.46 x");
        assert_eq!(change(0.25), "0.25 x");
        assert_eq!(change(f64::INFINITY), "∞");
    }

    #[test]
    fn only_what_was_forced_is_called_so_and_what_live_trials_choose_themselves_is_not_told() {
        let difference = |what: &str, blocks| Difference {
            what: what.into(),
            base: "a".into(),
            new: "b".into(),
            blocks,
        };
        let comparison = compare(&[], &[], NOISE);
        let differences = [("new".to_owned(), difference("target", true))];
        assert!(text(&comparison, &differences, true).contains("FORCED, not the same: target"));
        let said = text(&comparison, &differences, false);
        assert!(
            said.contains("  not the same: target") && !said.contains("FORCED"),
            "{said}"
        );
        for what in ["seed", "key_prefix", "load.workload.tag", "endpoints"] {
            assert!(made_here(&difference(what, false)), "{what}");
        }
        assert!(!made_here(&difference("value_size", true)));
    }

    #[test]
    fn only_what_got_worse_and_what_cannot_be_compared_shows_in_the_exit_code() {
        use ComparisonVerdict::*;
        for (verdict, code) in [
            (Improved, 0),
            (Unchanged, 0),
            (Undecided, 0),
            (Regressed, 1),
            (Mixed, 1),
            (NotComparable, 2),
        ] {
            assert_eq!(exit_code(verdict), code, "{verdict:?}");
        }
    }
}
