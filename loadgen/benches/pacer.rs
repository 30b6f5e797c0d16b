//! How late the pacer wakes, and what that costs.
//!
//! Prints its own table instead of criterion's, because a mean says nothing about lateness: median and 99th percentile
//! over all arrivals, from planned to noticed, and the CPU time of the process as a share of one core. Neighbours on the
//! machine show in the 99th percentile.
//!
//! Not part of it: sending anything.

use std::time::{Duration, Instant};

use loadgen::pacer::Pacer;
use loadgen::{Arrivals, Rate, Schedule};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// How long each row is measured.
const LENGTH: Duration = Duration::from_secs(5);

fn main() {
    // `cargo test --benches` starts benches with this, only to see whether they run.
    let length = if std::env::args().any(|argument| argument == "--test") {
        Duration::from_millis(50)
    } else {
        LENGTH
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime on the current thread needs only a few descriptors");
    println!("spacing     rate/s   arrivals     wakes    p50 µs    p99 µs    CPU %");
    for per_second in [2_000, 20_000] {
        let rate = Rate::per_second(per_second);
        for (name, arrivals) in [
            ("constant", Arrivals::Constant { rate }),
            ("poisson", Arrivals::Poisson { rate }),
        ] {
            let plan = arrivals.schedule(length, 7).expect("an open loop has a plan");
            let row = runtime.block_on(walk(plan));
            println!(
                "{name:<10} {per_second:>7} {:>10} {:>9} {:>9.1} {:>9.1} {:>8.1}",
                row.late.len(),
                row.wakes,
                row.percentile(50),
                row.percentile(99),
                row.cpu_percent
            );
        }
    }
}

struct Row {
    /// Nanoseconds, in order.
    late: Vec<u64>,
    wakes: u64,
    cpu_percent: f64,
}

impl Row {
    /// Microseconds.
    fn percentile(&self, percent: usize) -> f64 {
        let index = (self.late.len() * percent / 100).min(self.late.len().saturating_sub(1));
        self.late.get(index).map_or(f64::NAN, |late| *late as f64 / 1e3)
    }
}

async fn walk(mut plan: Schedule) -> Row {
    let (origin, cpu) = (Instant::now(), cpu_time());
    let mut pacer = Pacer::new(origin);
    assert!(
        pacer.is_precise(),
        "no timerfd here: this would measure tokio's timer"
    );
    let mut late = Vec::with_capacity(200_000);
    let mut wakes = 0;
    while let Some(next) = plan.peek() {
        pacer
            .wait_until(Some(origin + Duration::from_nanos(next.at)))
            .await;
        wakes += 1;
        let elapsed = origin.elapsed().as_nanos() as u64;
        while let Some(arrival) = plan.pop_due(elapsed) {
            late.push(elapsed - arrival.at);
        }
    }
    let cpu_percent = (cpu_time() - cpu).as_secs_f64() / origin.elapsed().as_secs_f64() * 100.0;
    late.sort_unstable();
    Row {
        late,
        wakes,
        cpu_percent,
    }
}

/// Of this process, so far.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the own usage can always be asked for");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
