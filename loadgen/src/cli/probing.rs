//! What `search` and `sweep` have in common: how a store is probed, and how probes are shown.

use std::future::Future;
use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use reports::record::ThresholdUnit;
use tokio::runtime::Builder;

use super::args::{IN_FLIGHT_MAX, TargetArgs, WorkArgs};
use super::identity::{base36, drawn_seed, unix_time_ms};
use super::session::Session;
use super::{CommandError, units};
use crate::run::{self, LoadConfig, LoadError};
use crate::search::{Limits, LoadProber, LoadProberError, ProbeRecord, ProbeVerdict, Purpose, Step};
use crate::threshold::{Metric, Threshold, quantity};
use crate::workload::Workload;

#[derive(Debug, Args)]
pub(super) struct ProbeArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    #[command(flatten)]
    pub(super) work: WorkArgs,
    /// Part of the operations that may not end ok.
    #[arg(long, value_parser = share, default_value = "0.1%", value_name = "PERCENT", help_heading = "Probes")]
    errors: f64,
    /// How long a probe's load runs before it is measured.
    #[arg(long, value_parser = units::duration, default_value = "2s", value_name = "DURATION", help_heading = "Probes")]
    warmup: Duration,
    /// Time limit of each operation, redirects and retries included.
    #[arg(long, value_parser = units::duration, default_value = "2s", value_name = "DURATION", help_heading = "Probes")]
    timeout: Duration,
    /// Operations in flight at most; arrivals beyond it wait, and show as backlog.
    #[arg(long, value_parser = units::count, default_value = "4096", value_name = "N", help_heading = "Probes")]
    max_in_flight: u64,
    /// Everything random follows from it [default: drawn, and printed]
    #[arg(long, value_name = "N", help_heading = "Probes")]
    seed: Option<u64>,
    /// Print the result as one JSON document.
    #[arg(long, help_heading = "Output")]
    pub(super) json: bool,
    /// Do not show each probe.
    #[arg(short, long, help_heading = "Output")]
    quiet: bool,
}

/// A prober, what it talks to, and the seed that it was given.
pub(super) struct Probing {
    pub(super) prober: LoadProber,
    pub(super) session: Session,
    pub(super) seed: u64,
}

impl ProbeArgs {
    pub(super) fn limits(&self, objectives: &[Threshold]) -> Limits {
        Limits {
            objectives: objectives.to_vec(),
            errors_max: self.errors,
        }
    }

    /// Connects, and makes sure that somebody is there.
    pub(super) async fn prober(&self) -> Result<Probing, CommandError> {
        let now_ms = unix_time_ms();
        let seed = self.seed.unwrap_or_else(|| drawn_seed(now_ms));
        let config = LoadConfig {
            // Keys of its own, so that no value of an earlier run is in the way.
            workload: self.work.workload(&base36(now_ms)),
            preload: self.work.preload(),
            warmup: self.warmup,
            timeout: self.timeout,
            max_in_flight: usize::try_from(self.max_in_flight)
                .unwrap_or(usize::MAX)
                .min(IN_FLIGHT_MAX as usize),
            seed,
            client_cores: Some(1),
            ..LoadConfig::default()
        };
        run::check(&config).map_err(CommandError::usage)?;
        Workload::new(config.workload.clone(), seed).map_err(CommandError::usage)?;
        let session = Session::open(&self.target, self.timeout).await?;
        Ok(Probing {
            prober: LoadProber::new(session.client.clone(), config),
            session,
            seed,
        })
    }

    /// Says on standard error what is going on.
    pub(super) fn watch(&self) -> impl FnMut(Step<'_>) + use<> {
        let quiet = self.quiet;
        move |step| {
            if quiet {
                return;
            }
            let line = match step {
                Step::Begins {
                    purpose,
                    rate,
                    length,
                } => {
                    format!(
                        "{}: {}/s for {:.0} s …",
                        word(purpose),
                        shown_rate(rate),
                        length.as_secs_f64()
                    )
                }
                Step::Ended(record) => format!("  {}", probe_line(record)),
            };
            // Somebody who closed standard error does not want to know.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

/// Runs `work` on one thread: on small machines the others belong to the store.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CommandError::environment)?;
    let result = runtime.block_on(work);
    // Connections may still be closing; the result does not depend on them.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

pub(super) fn prober_error(error: LoadProberError) -> CommandError {
    match error {
        LoadProberError::Load(
            LoadError::Workload(_) | LoadError::Zero { .. } | LoadError::Unsupported { .. },
        ) => CommandError::usage(error),
        _ => CommandError::environment(error),
    }
}

/// A threshold on the response time unless it names another metric.
pub(super) fn objective(text: &str) -> Result<Threshold, String> {
    Threshold::parse_with_default(text, Metric::Response).map_err(|error| error.to_string())
}

/// `5%` as a part of one.
pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.strip_suffix('%').map(str::parse::<f64>) {
        Some(Ok(number)) if (0.0..=100.0).contains(&number) => Ok(number / 100.0),
        _ => Err(format!(
            "`{text}` is not a percentage from 0% to 100%, such as 5% or 0.1%"
        )),
    }
}

/// What a probe came to, in one line.
pub(super) fn probe_line(record: &ProbeRecord) -> String {
    let time = |value: Option<u64>| nanos(value.map(|value| value as f64));
    let mut line = format!(
        "{:.0}/s answered, p50 {}, p99 {}, {}",
        record.achieved_rate,
        time(record.latency.p50),
        time(record.latency.p99),
        verdict_word(record.verdict, record.objectives.is_empty())
    );
    if let Some(reason) = record.reasons.first() {
        line += &format!(": {reason}");
    }
    line
}

pub(super) fn nanos(value: Option<f64>) -> String {
    value.map_or_else(
        || "n/a".into(),
        |value| quantity(value, ThresholdUnit::Nanoseconds),
    )
}

/// A rate with the digits that can be told: four.
pub(super) fn shown_rate(rate: f64) -> String {
    let digits = (3.0 - rate.max(1e-6).log10().floor()).clamp(0.0, 9.0) as usize;
    let text = format!("{rate:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Without an objective there is nothing to pass: a store only kept up, or did not.
pub(super) fn verdict_word(verdict: ProbeVerdict, without_objective: bool) -> &'static str {
    match verdict {
        ProbeVerdict::Passed if without_objective => "kept up",
        ProbeVerdict::Failed if without_objective => "did not keep up",
        ProbeVerdict::Passed => "passed",
        ProbeVerdict::Failed => "failed",
        ProbeVerdict::Marginal => "not sure",
        ProbeVerdict::TooThin => "too thin",
        ProbeVerdict::GeneratorBound => "generator-bound",
    }
}

pub(super) fn word(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Baseline => "baseline",
        Purpose::Climb => "climb",
        Purpose::Descend => "descend",
        Purpose::Bisect => "bisect",
        Purpose::Repeat => "repeat",
        Purpose::Recovery => "recovery",
        Purpose::Confirm => "confirm",
        Purpose::ConfirmLimit => "confirm the limit",
        Purpose::Sustained => "sustained",
        Purpose::Sweep => "sweep",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_shown_with_four_digits_and_no_verdict_pretends_an_objective() {
        for (rate, text) in [
            (632.455_532_033_675_9, "632.5"),
            (12_345.678, "12346"),
            (100_000.0, "100000"),
            (500.0, "500"),
            (0.123_456, "0.1235"),
        ] {
            assert_eq!(shown_rate(rate), text);
        }
        assert_eq!(verdict_word(ProbeVerdict::Passed, true), "kept up");
        assert_eq!(verdict_word(ProbeVerdict::Passed, false), "passed");
    }

    #[test]
    fn shares_are_written_in_percent() {
        assert_eq!((share("5%"), share("100%")), (Ok(0.05), Ok(1.0)));
        for wrong in ["5", "-1%", "101%", "%", "NaN%"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn objectives_are_about_the_response_time_unless_they_say_otherwise() {
        assert_eq!(
            objective("p99<20ms").map(|o| o.to_string()),
            Ok("response:p99<20ms".into())
        );
        assert_eq!(
            objective("service:p99<20ms").map(|o| o.to_string()),
            Ok("service:p99<20ms".into())
        );
        assert!(objective("p99<20").is_err_and(|error| error.contains("no unit") && error.contains('^')));
    }
}
