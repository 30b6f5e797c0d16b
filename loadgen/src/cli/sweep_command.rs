//! `loadgen sweep`: latency over rate.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::interrupt::until_interrupted;
use super::probing::{ProbeArgs, block_on, nanos, objective, prober_error, verdict_word};
use super::{CommandError, summary, units};
use crate::search::{RATES_MAX, Sweep, geometric, order, sweep};
use crate::threshold::Threshold;

/// Repetitions of each rate, at most.
const REPETITIONS_MAX: u64 = 1000;

#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    #[command(flatten)]
    probes: ProbeArgs,
    /// The rates: a list (1k,2k,5k), or so many from one to another, each the same factor above the one before (1k..20k:8).
    #[arg(long, value_parser = rates, value_name = "RATES", help_heading = "Sweep")]
    rates: Rates,
    /// How often each rate is probed; the order is shuffled anew each time.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=REPETITIONS_MAX), default_value = "3", value_name = "N", help_heading = "Sweep")]
    repetitions: u64,
    /// How long a probe is.
    #[arg(short, long, value_parser = units::duration, default_value = "10s", value_name = "DURATION", help_heading = "Sweep")]
    duration: Duration,
    /// What a probe must keep to count as passed (without one, whether the store keeps up is all that is told), such as 'p99<20ms'; may be given several times.
    #[arg(long, value_parser = objective, value_name = "EXPRESSION", help_heading = "Sweep")]
    slo: Vec<Threshold>,
}

#[derive(Debug, Clone, PartialEq)]
struct Rates(Vec<f64>);

pub(super) fn run(args: &SweepArgs) -> Result<u8, CommandError> {
    if args.duration.is_zero() {
        return Err(CommandError::usage("the duration must be above zero"));
    }
    let limits = args.probes.limits(&args.slo);
    let (result, seed) = block_on(async {
        let mut probing = args.probes.prober().await?;
        let order = order(&args.rates.0, args.repetitions as usize, probing.seed);
        let swept = sweep(
            &mut probing.prober,
            &order,
            args.duration,
            &limits,
            args.probes.watch(),
        );
        let result = until_interrupted(swept).await;
        probing.session.close().await?;
        Ok((result?.map_err(prober_error)?, probing.seed))
    })?;
    let text = match args.probes.json {
        true => format!("{:#}\n", json!({"seed": seed, "sweep": result})),
        false => text(&result, seed, limits.objectives.is_empty()),
    };
    summary::print(&text)?;
    Ok(0)
}

fn text(sweep: &Sweep, seed: u64, without_objective: bool) -> String {
    let mut lines = vec![format!(
        "{:>10} {:>10} {:>9} {:>9} {:>9}  verdict",
        "rate", "achieved", "p50", "p99", "p99.9"
    )];
    for point in &sweep.points {
        let reason = point
            .reasons
            .first()
            .map_or_else(String::new, |reason| format!(": {reason}"));
        let knee = if sweep.knee == Some(point.rate) {
            "  <- knee"
        } else {
            ""
        };
        lines.push(format!(
            "{:>10.1} {:>10.1} {:>9} {:>9} {:>9}  {}{reason}{knee}",
            point.rate,
            point.achieved_rate,
            nanos(point.p50),
            nanos(point.p99),
            nanos(point.p999),
            verdict_word(point.verdict, without_objective),
        ));
    }
    if sweep.knee.is_none() {
        lines.push("no knee within these rates".into());
    }
    lines.push(format!(
        "{} probes in shuffled order, seed {seed}",
        sweep.probes.len()
    ));
    lines.join("\n") + "\n"
}

fn rates(text: &str) -> Result<Rates, String> {
    let one = |text: &str| units::rate(text).map(|rate| rate.as_f64());
    let mut rates = match text.split_once("..") {
        None => text.split(',').map(one).collect::<Result<Vec<f64>, String>>()?,
        Some((low, rest)) => {
            let (high, count) = rest
                .split_once(':')
                .ok_or_else(|| format!("`{text}` does not say how many rates: write 1k..20k:8"))?;
            let (low, high) = (one(low)?, one(high)?);
            let count: usize = count
                .parse()
                .map_err(|_| format!("`{count}` is not a number of rates"))?;
            if low >= high {
                return Err(format!("`{text}` does not rise: write the lower rate first"));
            }
            if !(2..=RATES_MAX).contains(&count) {
                return Err(format!(
                    "from one rate to another there are 2 to {RATES_MAX} of them, not {count}"
                ));
            }
            geometric(low, high, count)
        }
    };
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    match rates.len() {
        ..=RATES_MAX => Ok(Rates(rates)),
        more => Err(format!("{more} rates are more than a sweep takes ({RATES_MAX})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_listed_or_spread() {
        assert_eq!(rates("5k,1k,2k,1k"), Ok(Rates(vec![1000.0, 2000.0, 5000.0])));
        assert_eq!(rates("2.5"), Ok(Rates(vec![2.5])));
        let spread = rates("1k..8k:4").map(|rates| rates.0);
        assert!(spread.is_ok_and(|rates| {
            rates
                .iter()
                .zip([1e3, 2e3, 4e3, 8e3])
                .all(|(a, b)| (a - b).abs() < 1e-6)
        }));
        for (wrong, words) in [
            ("", "not a number"),
            ("1k..8k", "how many"),
            ("8k..1k:3", "lower rate first"),
            ("1k..8k:1", "2 to 1000"),
            ("1k..8k:x", "number of rates"),
            ("1k..8k:5000", "not 5000"),
            ("0,1k", "above zero"),
        ] {
            let error = rates(wrong);
            assert!(
                error.as_ref().is_err_and(|error| error.contains(words)),
                "{wrong}: {error:?}"
            );
        }
    }
}
