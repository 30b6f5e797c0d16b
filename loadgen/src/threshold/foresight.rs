//! What a plan alone shows of thresholds: those that could not be held against anything are refused before the run begins.

use std::time::Duration;

use super::evaluate::named;
use super::expression::{Metric, Threshold};

/// What is known of a run before it is made.
#[derive(Debug, Clone)]
pub struct Foresight {
    /// Operations are planned. In a closed loop there are no response times.
    pub open_loop: bool,
    /// The phases that will be measured, in their order.
    pub phases: Vec<String>,
    /// Length of the slices in the record.
    pub interval: Duration,
}

impl Foresight {
    /// Why a run of this plan could never answer to a threshold, or never be ended by it; nothing if it can.
    pub fn objection(&self, threshold: &Threshold) -> Option<String> {
        let reason = self
            .unknown_phase(threshold)
            .or_else(|| self.too_short(threshold))
            .or_else(|| self.never_aborts(threshold))?;
        Some(format!("`{threshold}` cannot be judged: {reason}"))
    }

    fn unknown_phase(&self, threshold: &Threshold) -> Option<String> {
        let phase = threshold.selector.phase.as_ref()?;
        (!self.phases.contains(phase)).then(|| named(phase, self.phases.iter().map(String::as_str)))
    }

    fn too_short(&self, threshold: &Threshold) -> Option<String> {
        let over = threshold.over?;
        (over < self.interval).then(|| {
            format!(
                "`over` is shorter than the slices that are recorded, which take {}; ask for a longer stretch, or for shorter \
                 slices with --interval",
                humantime::format_duration(self.interval)
            )
        })
    }

    /// While a run goes on, only its slices are known: histograms by operation and outcome, and how many operations ended how.
    fn never_aborts(&self, threshold: &Threshold) -> Option<String> {
        threshold.abort?;
        let selector = &threshold.selector;
        let metric = selector.metric;
        let what = match metric {
            Metric::Unavailable | Metric::Retries | Metric::Redirects => format!("`{metric}`"),
            _ if selector.endpoint.is_some() => "what single endpoints did".into(),
            Metric::Throughput | Metric::Goodput if selector.operation.is_some() => {
                format!("the {metric} of single operations")
            }
            Metric::Response | Metric::Lag | Metric::Scheduled if !self.open_loop => {
                return Some(format!(
                    "nothing is planned in a closed loop, so that `{metric}` cannot `abort` it; `service` can"
                ));
            }
            _ => return None,
        };
        Some(format!(
            "{what} is known only when the run is over, so that it cannot `abort` it; leave `abort` out"
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn objection(text: &str, open_loop: bool) -> Option<String> {
        let foresight = Foresight {
            open_loop,
            phases: vec!["stage-1".into(), "stage-2".into()],
            interval: Duration::from_secs(1),
        };
        foresight.objection(&text.parse().unwrap())
    }

    #[test]
    fn what_can_never_be_judged_is_refused_beforehand() {
        for (text, words) in [
            (
                "response{phase=stage-3}:p99<1s",
                "no phase `stage-3`; it has stage-1, stage-2",
            ),
            (
                "response:p99<1s over 500ms",
                "slices that are recorded, which take 1s",
            ),
            ("unavailable:longest<3s abort", "`unavailable` is known only"),
            ("retries:count<3 abort after 5s", "`retries` is known only"),
            ("redirects:rate<1% abort", "`redirects` is known only"),
            ("errors{endpoint=a:1}:rate<1% abort", "what single endpoints did"),
            (
                "goodput{op=put}:rate>1/s abort",
                "the goodput of single operations",
            ),
        ] {
            let objection = objection(text, true).unwrap_or_default();
            assert!(objection.contains(words), "{text}: {objection}");
            assert!(objection.contains(&format!("`{text}`")), "{objection}");
        }
        for text in [
            "response{op=put,phase=stage-2}:p99<1s over 1s abort",
            "scheduled{phase=stage-1}:p99<1s abort",
            "errors{op=put,outcome=transport}:rate<1% abort",
            "errors{phase=stage-1}:rate<1% abort",
            "goodput:rate>1/s over 2s abort",
            "unavailable:longest<3s",
            "retries{endpoint=a:1}:count<3",
        ] {
            assert_eq!(objection(text, true), None, "{text}");
        }
        assert!(objection("scheduled:p99<1s abort", false).is_some_and(|text| text.contains("closed loop")));
        assert_eq!(objection("service:p99<1s abort", false), None);
        assert_eq!(objection("scheduled:p99<1s", false), None);
    }
}
