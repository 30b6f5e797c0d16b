//! Looks at a run while it goes on: thresholds that may end it, and a page for Prometheus.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::CommandError;
use super::args::RunArgs;
use crate::clock::nanos;
use crate::export::prometheus::{Labels, listen_address, render_progress, serve};
use crate::run::{LoadConfig, Progress, told};
use crate::scribe::{IntervalHistograms, IntervalSink};
use crate::threshold::{SoFar, Stretch, Threshold, aborting};

/// Whoever looks.
pub(super) struct Watching {
    shared: Arc<Shared>,
    aborting: Vec<Threshold>,
    warmup: std::time::Duration,
    page: Option<(Arc<Mutex<String>>, Labels, JoinHandle<()>)>,
}

struct Shared {
    /// What has been measured so far, for thresholds that may end the run.
    so_far: Mutex<SoFar>,
    reason: Mutex<Option<String>>,
    stop: Notify,
}

impl Watching {
    /// Begins to look. The page is served from now on.
    pub(super) async fn start(args: &RunArgs, config: &LoadConfig) -> Result<Watching, CommandError> {
        let thresholds = args.output.threshold.iter();
        let aborting: Vec<Threshold> = thresholds.filter(|one| one.abort.is_some()).cloned().collect();
        let page = match &args.output.prometheus {
            None => None,
            Some(place) => Some(serve_page(place, &args.output.name).await?),
        };
        Ok(Watching {
            shared: Arc::new(Shared {
                so_far: Mutex::new(SoFar::new(
                    &aborting,
                    config.arrivals.is_open(),
                    config.arrivals.phases(config.warmup + config.duration),
                    nanos(config.warmup),
                )),
                reason: Mutex::default(),
                stop: Notify::new(),
            }),
            aborting,
            warmup: config.warmup,
            page,
        })
    }

    /// Takes the histograms of slices, if anybody wants them.
    pub(super) fn sink(&self) -> Option<IntervalSink> {
        if self.aborting.is_empty() {
            return None;
        }
        let shared = Arc::clone(&self.shared);
        Some(Box::new(move |interval| shared.keep(interval)))
    }

    /// The run stands so.
    pub(super) fn note(&self, progress: &Progress) {
        if let Some((page, labels, _)) = &self.page {
            *lock(page) = render_progress(progress, labels);
        }
        if self.aborting.is_empty() {
            return;
        }
        let mut so_far = lock(&self.shared.so_far);
        so_far.intervals(&progress.closed);
        let Some(evidence) = so_far.news() else {
            return;
        };
        let elapsed = progress.elapsed.saturating_sub(self.warmup);
        if let Some(broken) = aborting(&self.aborting, evidence, elapsed) {
            let mut reason = lock(&self.shared.reason);
            if reason.is_none() {
                *reason = Some(format!(
                    "{} is broken for certain: {}",
                    broken.expression, broken.reason
                ));
                self.shared.stop.notify_one();
            }
        }
    }

    /// Resolves when the user or a threshold wants the run to end.
    pub(super) fn stopped(&self, stop: oneshot::Receiver<()>) -> impl Future<Output = ()> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        async move {
            tokio::select! {
                () = told(stop) => {}
                () = shared.stop.notified() => {}
            }
        }
    }

    /// Why a threshold ended the run, if one did.
    pub(super) fn reason(&self) -> Option<String> {
        lock(&self.shared.reason).clone()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some((_, _, server)) = &self.page {
            server.abort();
        }
    }
}

impl Shared {
    fn keep(&self, interval: &IntervalHistograms) {
        let slice = Stretch {
            start: interval.start,
            end: interval.start.saturating_add(interval.length),
        };
        lock(&self.so_far).histograms(slice, &interval.tagged);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve_page(
    place: &str,
    name: &str,
) -> Result<(Arc<Mutex<String>>, Labels, JoinHandle<()>), CommandError> {
    let address = listen_address(place).map_err(CommandError::usage)?;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        CommandError::environment(format!("cannot listen on {address} for Prometheus: {error}"))
    })?;
    let labels = Labels::new([("run", name)]).map_err(CommandError::usage)?;
    let page = Arc::new(Mutex::new(String::new()));
    let shown = Arc::clone(&page);
    let server = tokio::spawn(async move {
        // Without the listener there is no page; the run does not depend on it.
        let _ = serve(listener, move || lock(&shown).clone()).await;
    });
    Ok((page, labels, server))
}
