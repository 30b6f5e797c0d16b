//! `loadgen search`: the highest rate within an objective.
//!
//! Never says *so much* where the generator was the limit or the probes ran out, only *at least* so much.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::interrupt::until_interrupted;
use super::probing::{ProbeArgs, block_on, objective, probe_line, prober_error, share};
use super::{CommandError, INVALID, summary, units};
use crate::schedule::Rate;
use crate::search::{Capacity, ProbeRecord, Purpose, SearchConfig, SearchResult, Unknown, search};
use crate::threshold::Threshold;

const AFTER_HELP: &str = "\
A rate passes if 98 % of what was planned is answered in time, few enough operations fail, the backlog does not grow, and every
--slo holds with its whole 95 % interval. The winner is run three times more, the rate that failed above it once more.

Exit codes:
  0    a rate was found, or a lower bound of it
  2    wrong usage
  5    the surroundings failed: a node that does not answer
  98   not even the lowest rate says anything about the store, or it failed there";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct SearchArgs {
    #[command(flatten)]
    probes: ProbeArgs,
    /// What must hold, such as 'p99<20ms' (of the response time) or any threshold such as 'scheduled:p99.9<1s'; may be given
    /// several times.
    #[arg(long, value_parser = objective, required = true, value_name = "EXPRESSION", help_heading = "Search")]
    slo: Vec<Threshold>,
    /// Width of the answer.
    #[arg(long, value_parser = share, default_value = "5%", value_name = "PERCENT", help_heading = "Search")]
    precision: f64,
    /// What the store may take, roughly; the first probe is a twentieth of it.
    #[arg(long, value_parser = units::rate, default_value = "10k", value_name = "RATE", help_heading = "Search")]
    guess: Rate,
    /// Rates below are not tried.
    #[arg(long, value_parser = units::rate, default_value = "10", value_name = "RATE", help_heading = "Search")]
    min_rate: Rate,
    /// Rates above are not tried.
    #[arg(long, value_parser = units::rate, default_value = "1m", value_name = "RATE", help_heading = "Search")]
    max_rate: Rate,
    /// Shortest probe; longer where a percentile needs more operations.
    #[arg(long, value_parser = units::duration, default_value = "10s", value_name = "DURATION", help_heading = "Search")]
    probe_length: Duration,
    /// Longest probe.
    #[arg(long, value_parser = units::duration, default_value = "60s", value_name = "DURATION", help_heading = "Search")]
    max_probe_length: Duration,
    /// Probes at most; when they are used up, the answer is what is known by then. Not among them: short looks whether the store
    /// has recovered (up to ten after a probe that failed), and the last one, at nine tenths of the answer.
    #[arg(long, value_parser = units::count, default_value = "40", value_name = "N", help_heading = "Search")]
    max_probes: u64,
}

impl SearchArgs {
    fn config(&self) -> SearchConfig {
        SearchConfig {
            limits: self.probes.limits(&self.slo),
            guess: self.guess.as_f64(),
            precision: self.precision,
            rate_min: self.min_rate.as_f64(),
            rate_max: self.max_rate.as_f64(),
            length_min: self.probe_length,
            length_max: self.max_probe_length,
            probes_max: usize::try_from(self.max_probes).unwrap_or(usize::MAX),
            ..SearchConfig::new(Vec::new())
        }
    }
}

pub(super) fn run(args: &SearchArgs) -> Result<u8, CommandError> {
    let config = args.config();
    config.check().map_err(CommandError::usage)?;
    let (result, seed) = block_on(async {
        let mut probing = args.probes.prober().await?;
        let searched = search(&mut probing.prober, &config, args.probes.watch());
        let result = until_interrupted(searched).await;
        probing.session.close().await?;
        Ok((result?.map_err(prober_error)?, probing.seed))
    })?;
    let objectives: Vec<String> = args.slo.iter().map(ToString::to_string).collect();
    let text = match args.probes.json {
        true => format!(
            "{:#}\n",
            json!({"slo": objectives, "seed": seed, "search": result})
        ),
        false => text(&result, &objectives.join(", "), seed, args.max_probes),
    };
    summary::print(&text)?;
    Ok(match result.capacity {
        Capacity::Exactly { .. } | Capacity::AtLeast { .. } => 0,
        Capacity::Below { .. } | Capacity::Unknown { .. } => INVALID,
    })
}

fn text(result: &SearchResult, objectives: &str, seed: u64, most: u64) -> String {
    let mut lines = vec![format!("{} within {objectives}", capacity(&result.capacity))];
    if let Some(sustained) = &result.sustained {
        lines.push(format!(
            "  sustained (nine tenths): {}/s planned, {}",
            sustained.rate,
            probe_line(sustained)
        ));
    }
    lines.push(format!("  {}, seed {seed}", made(&result.probes, most)));
    lines.extend(result.notes.iter().map(|note| format!("  note: {note}")));
    lines.join("\n") + "\n"
}

/// How many probes there were, and what for.
fn made(probes: &[ProbeRecord], most: u64) -> String {
    let count = |purpose| probes.iter().filter(|probe| probe.purpose == purpose).count();
    let (looks, last) = (count(Purpose::Recovery), count(Purpose::Sustained));
    let mut text = format!("{} probes (of at most {most})", probes.len() - looks - last);
    if looks > 0 {
        text += &format!(", {looks} short looks whether the store had recovered");
    }
    if last > 0 {
        text += ", and one at nine tenths";
    }
    text
}

fn capacity(capacity: &Capacity) -> String {
    let why = |because: &Unknown| match because {
        Unknown::GeneratorBound => "generator-bound",
        Unknown::RateMax => "--max-rate reached",
        Unknown::ProbesUsed => "--max-probes reached",
        Unknown::TooThin => "too few operations to tell, see below",
    };
    match capacity {
        Capacity::Exactly { rate, fails_at } => format!("= {rate}/s (fails at {fails_at}/s)"),
        Capacity::AtLeast { rate, because } => format!(">= {rate}/s ({})", why(because)),
        Capacity::Below { rate } => format!("< {rate}/s: even that failed"),
        Capacity::Unknown { because } => format!("not known ({})", why(because)),
    }
}

#[cfg(test)]
#[test]
fn only_a_confirmed_limit_is_an_equality() {
    let exactly = Capacity::Exactly {
        rate: 1500.0,
        fails_at: 1560.0,
    };
    assert_eq!(capacity(&exactly), "= 1500/s (fails at 1560/s)");
    let bound = Capacity::AtLeast {
        rate: 1500.0,
        because: Unknown::GeneratorBound,
    };
    assert_eq!(capacity(&bound), ">= 1500/s (generator-bound)");
    assert_eq!(
        capacity(&Capacity::Below { rate: 20.0 }),
        "< 20/s: even that failed"
    );
}
