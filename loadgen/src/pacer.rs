//! Wakes the driver when an arrival is due.
//!
//! tokio's own timer rounds to a millisecond, which is longer than many operations take. So the kernel's `timerfd` is
//! armed for an absolute instant of the plan and waited for in the reactor of the driver's own current-thread runtime:
//! no second thread and no hand-over between threads. Where there is no `timerfd`, or it is refused, tokio's timer does
//! the waiting, and the lateness in the record shows it.
//!
//! Promises: exact below 4,000 wakes a second; above, once a short allowance is used up, wakes are rounded up to the next
//! quantum of 250 µs, so that a high rate costs no more wakes. A wait allocates nothing, may be cancelled at any point
//! and repeated, and never ends before its instant. Never spins: on a shared machine the scheduler takes the core away
//! exactly when it matters. Never decides what starts: the driver measures its own lateness against the plan.

use std::time::{Duration, Instant};

/// How far apart wakes are once they are bundled: 4,000 a second.
const QUANTUM: Duration = Duration::from_micros(250);

/// Wakes that may come closer together than a quantum before they are bundled, as random arrivals well below the limit
/// do. The allowance refills by one a quantum.
const ALLOWANCE: u32 = 64;

/// Waits for instants of a plan, one at a time.
#[derive(Debug)]
pub struct Pacer {
    /// Quanta are counted from here.
    origin: Instant,
    /// Wakes before this instant are beyond the allowance (the virtual scheduling algorithm of ITU-T I.371, annex A,
    /// with a quantum as increment).
    exact_from: Instant,
    #[cfg(target_os = "linux")]
    timer: Option<linux::Timer>,
    #[cfg(target_os = "linux")]
    _slack: Option<linux::Slack>,
}

impl Pacer {
    /// A pacer that counts quanta from `origin`. Belongs to the current tokio runtime, whose reactor and timer it needs,
    /// and lowers the timer slack of the current thread until it is dropped.
    pub fn new(origin: Instant) -> Pacer {
        Pacer {
            origin,
            exact_from: origin,
            #[cfg(target_os = "linux")]
            timer: linux::Timer::new().ok(),
            #[cfg(target_os = "linux")]
            _slack: linux::Slack::lower(),
        }
    }

    /// Whether waits are exact to microseconds; otherwise tokio's timer of a millisecond is used.
    pub fn is_precise(&self) -> bool {
        #[cfg(target_os = "linux")]
        return self.timer.is_some();
        #[cfg(not(target_os = "linux"))]
        return false;
    }

    /// Waits until `due`, or until the end of its quantum if wakes have come too fast. Ends at once if `due` has passed, never
    /// without one.
    /// Cancel safe: a wait that was dropped leaves nothing behind but an armed timer, which the next one uses or sets
    /// anew.
    pub async fn wait_until(&mut self, due: Option<Instant>) {
        let Some(due) = due else {
            return std::future::pending().await;
        };
        if Instant::now() >= due {
            return;
        }
        let due = self.rounded(due);
        self.sleep_until(due).await;
        self.count_wake(Instant::now());
    }

    async fn sleep_until(&mut self, due: Instant) {
        #[cfg(target_os = "linux")]
        if let Some(timer) = &mut self.timer {
            match timer.wait_until(due).await {
                Ok(()) => return,
                // The kernel took back what it had given; wait as if it had never been there.
                Err(_) => self.timer = None,
            }
        }
        tokio::time::sleep_until(due.into()).await;
    }

    /// `due` itself while the allowance lasts, then the end of its quantum.
    fn rounded(&self, due: Instant) -> Instant {
        if due >= self.exact_from {
            return due;
        }
        let since = due.saturating_duration_since(self.origin);
        let quantum = QUANTUM.as_nanos();
        let missing = (quantum - since.as_nanos() % quantum) % quantum;
        // Below a quantum, so it fits.
        due + Duration::from_nanos(missing as u64)
    }

    fn count_wake(&mut self, now: Instant) {
        let full = now.checked_sub(QUANTUM * ALLOWANCE).unwrap_or(self.origin);
        self.exact_from = self.exact_from.max(full) + QUANTUM;
    }
}

#[cfg(target_os = "linux")]
mod linux {
    //! The kernel's timer in tokio's reactor.

    use std::io;
    use std::os::fd::{AsFd, AsRawFd, RawFd};
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
    use nix::time::clock_gettime;
    use tokio::io::unix::AsyncFd;

    /// Pairs of clock readings from which the closest is taken.
    const CLOCK_SAMPLES: usize = 8;

    #[derive(Debug)]
    pub(super) struct Timer {
        fd: AsyncFd<Descriptor>,
        zero: (Instant, Duration),
        armed_for: Option<Instant>,
    }

    /// A timer as the reactor wants it: by its number.
    #[derive(Debug)]
    struct Descriptor(TimerFd);

    impl AsRawFd for Descriptor {
        fn as_raw_fd(&self) -> RawFd {
            self.0.as_fd().as_raw_fd()
        }
    }

    impl Timer {
        pub(super) fn new() -> io::Result<Timer> {
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            let fd = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
            #[expect(
                deprecated,
                reason = "its successor is unsafe, which is forbidden here; a TimerFd owns its descriptor and keeps it open"
            )]
            let fd = AsyncFd::with_interest(Descriptor(fd), tokio::io::Interest::READABLE)?;
            Ok(Timer {
                fd,
                zero: same_moment()?,
                armed_for: None,
            })
        }

        pub(super) async fn wait_until(&mut self, due: Instant) -> io::Result<()> {
            if self.armed_for != Some(due) {
                let (instant, monotonic) = self.zero;
                let at = monotonic + due.saturating_duration_since(instant);
                // Setting it forgets an expiry nobody read. What the reactor still believes is found out by reading.
                self.fd.get_ref().0.set(
                    Expiration::OneShot(TimeSpec::from_duration(at)),
                    TimerSetTimeFlags::TFD_TIMER_ABSTIME,
                )?;
                self.armed_for = Some(due);
            }
            loop {
                let mut ready = self.fd.readable().await?;
                // Reads the count of expiries; `WouldBlock` makes the reactor forget and wait again.
                if let Ok(read) = ready.try_io(|fd| fd.get_ref().0.wait().map_err(io::Error::from)) {
                    ready.clear_ready();
                    self.armed_for = None;
                    return read;
                }
            }
        }
    }

    /// The same moment on both clocks. `Instant` is `CLOCK_MONOTONIC` on Linux, but does not show its number, so the pair
    /// is measured: the system's clock is read after the `Instant`, hence the timer can only be late, by as much as the
    /// two readings were apart, a fraction of a microsecond for the closest of several. Both run at the same speed, so once
    /// is enough.
    fn same_moment() -> io::Result<(Instant, Duration)> {
        let mut closest: Option<(Duration, Instant, Duration)> = None;
        for _ in 0..CLOCK_SAMPLES {
            let before = Instant::now();
            let monotonic = clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?;
            let apart = before.elapsed();
            if closest.is_none_or(|(least, ..)| apart < least) {
                closest = Some((apart, before, Duration::from(monotonic)));
            }
        }
        closest
            .map(|(_, instant, monotonic)| (instant, monotonic))
            .ok_or_else(|| io::Error::other("no clock was read"))
    }

    /// The timer slack of a thread, lowered: the kernel rounds its sleeps up by 50 µs otherwise. Restored when dropped,
    /// because processes started from the thread inherit it.
    #[derive(Debug)]
    pub(super) struct Slack {
        file: PathBuf,
        before: String,
    }

    impl Slack {
        /// Nothing where that is not possible; the lateness shows it.
        pub(super) fn lower() -> Option<Slack> {
            let file = PathBuf::from(format!("/proc/{}/timerslack_ns", nix::unistd::gettid()));
            let before = std::fs::read_to_string(&file).ok()?;
            std::fs::write(&file, "1").ok()?;
            Some(Slack { file, before })
        }
    }

    impl Drop for Slack {
        fn drop(&mut self) {
            // If the thread is gone, so is its slack.
            let _ = std::fs::write(&self.file, self.before.trim());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[tokio::test]
    async fn no_wait_ends_before_its_instant() {
        let mut pacer = Pacer::new(Instant::now());
        for micros in [0, 10, 300, 1_000, 5_000, 20] {
            let due = Instant::now() + Duration::from_micros(micros);
            pacer.wait_until(Some(due)).await;
            assert!(Instant::now() >= due);
        }
    }

    #[tokio::test]
    async fn a_dropped_wait_disturbs_no_later_one() {
        let mut pacer = Pacer::new(Instant::now());
        let mut context = Context::from_waker(Waker::noop());
        for far in [1, 3_600_000] {
            let due = Instant::now() + Duration::from_millis(far);
            // Polled once, so that the timer is armed, then dropped.
            let _ = pin!(pacer.wait_until(Some(due))).as_mut().poll(&mut context);
            // An expiry that nobody read, or a far one, must neither end nor delay the next wait.
            let due = Instant::now() + Duration::from_millis(20);
            pacer.wait_until(Some(due)).await;
            assert!(Instant::now() >= due);
        }
    }

    #[tokio::test]
    async fn a_wait_for_the_past_ends_without_waiting() {
        let mut pacer = Pacer::new(Instant::now());
        let due = Instant::now();
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(
            pin!(pacer.wait_until(Some(due))).as_mut().poll(&mut context),
            Poll::Ready(())
        );
    }

    #[tokio::test]
    async fn without_a_kernel_timer_it_still_waits() {
        let mut pacer = Pacer::new(Instant::now());
        #[cfg(target_os = "linux")]
        {
            pacer.timer = None;
        }
        assert!(!pacer.is_precise());
        let due = Instant::now() + Duration::from_millis(3);
        pacer.wait_until(Some(due)).await;
        assert!(Instant::now() >= due);
    }

    /// Wakes, as if each came when asked for, for arrivals `gap` apart; how many, and how many on time.
    async fn wakes(gap: Duration, arrivals: u32) -> (u32, u32) {
        let origin = Instant::now();
        let mut pacer = Pacer::new(origin);
        let (mut wakes, mut exact, mut now) = (0, 0, origin);
        for number in 1..=arrivals {
            let due = origin + gap * number;
            if due > now {
                now = pacer.rounded(due);
                pacer.count_wake(now);
                wakes += 1;
                exact += u32::from(now == due);
            }
        }
        (wakes, exact)
    }

    #[tokio::test]
    async fn below_the_limit_every_wake_is_exact_and_above_it_they_are_bundled() {
        assert_eq!(wakes(Duration::from_micros(500), 2_000).await, (2_000, 2_000));
        assert_eq!(wakes(Duration::from_micros(251), 2_000).await, (2_000, 2_000));
        // 20,000 a second for a second: 4,000 quanta, and the allowance.
        let (count, _) = wakes(Duration::from_micros(50), 20_000).await;
        assert!((3_900..=4_000 + ALLOWANCE).contains(&count), "{count}");
    }
}
