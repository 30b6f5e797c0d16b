//! The page of a run that goes on.
//!
//! Promises: the counters are those of the page of a whole run, with all operations together; what is only known while a
//! run goes on are gauges.

use super::{Labels, Page};
use crate::run::Progress;

/// The page while a run goes on; `labels` are put on every sample.
pub fn render_progress(progress: &Progress, labels: &Labels) -> String {
    let mut page = Page {
        labels,
        text: String::new(),
    };
    page.family(
        "whitewater_operations_total",
        "counter",
        "Operations by what came of them: ok, failed, unknown or unsent.",
    );
    let counts = progress.counts;
    for (result, count) in [
        ("ok", counts.ok),
        ("failed", counts.failed),
        ("unknown", counts.unknown),
        ("unsent", counts.unsent),
    ] {
        let labels = [("operation", "all"), ("result", result)];
        page.count("whitewater_operations_total", &labels, count);
    }
    let planned = "whitewater_planned_operations_total";
    page.family(planned, "counter", "Operations that the plan wanted to start.");
    page.count(planned, &[], progress.planned);
    for (name, help, value) in [
        (
            "whitewater_in_flight_operations",
            "Operations being executed.",
            progress.in_flight as f64,
        ),
        (
            "whitewater_queued_operations",
            "Arrivals waiting for a place.",
            progress.queued as f64,
        ),
        (
            "whitewater_ok_operations_per_second",
            "Answered operations a second, of late.",
            progress.ok_per_second,
        ),
        (
            "whitewater_elapsed_seconds",
            "Since the start of the load.",
            progress.elapsed.as_secs_f64(),
        ),
        (
            "whitewater_planned_seconds",
            "How long operations will be started, warm-up included.",
            progress.total.as_secs_f64(),
        ),
    ] {
        page.single(name, "gauge", help, value);
    }
    page.text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reports::record::Counts;

    use super::*;

    #[test]
    fn every_number_of_a_run_that_goes_on_is_there() {
        let progress = Progress {
            elapsed: Duration::from_millis(2500),
            total: Duration::from_secs(30),
            planned: 100,
            counts: Counts {
                ok: 70,
                failed: 1,
                unknown: 2,
                unsent: 3,
            },
            in_flight: 7,
            queued: 17,
            ok_per_second: 28.5,
            interval: None,
            closed: Vec::new(),
        };
        let text = render_progress(&progress, &Labels::default());
        for line in [
            "whitewater_operations_total{operation=\"all\",result=\"ok\"} 70",
            "whitewater_operations_total{operation=\"all\",result=\"unsent\"} 3",
            "whitewater_planned_operations_total 100",
            "whitewater_in_flight_operations 7",
            "whitewater_queued_operations 17",
            "whitewater_ok_operations_per_second 28.5",
            "whitewater_elapsed_seconds 2.5",
            "whitewater_planned_seconds 30",
            "# TYPE whitewater_elapsed_seconds gauge",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
