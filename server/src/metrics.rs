//! What a node tells Prometheus: text exposition format 0.0.4 on `/metrics`. Gathered when it is asked for, from what the
//! node knows anyway; on the way of a request there are only counters.

use std::fmt::Write as _;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tonic::Status;

use crate::node::{Failure, Handle, Status as NodeStatus};
use crate::raft::RoleKind;
use crate::wal::WalStats;

/// What is counted as it happens.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: [[AtomicU64; 3]; 2],
    pub(crate) offices_taken: AtomicU64,
    pub(crate) snapshots_taken: AtomicU64,
    pub(crate) snapshots_failed: AtomicU64,
    pub(crate) snapshots_installed: AtomicU64,
    pub(crate) snapshots_sent: AtomicU64,
    pub(crate) snapshots_not_sent: AtomicU64,
}

/// What clients ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    Read,
    Write,
}

/// How an operation ended, as its client was told.
#[derive(Debug, Clone, Copy)]
enum Ended {
    Ok,
    NotExecuted,
    /// Also where nobody was left to be told.
    Unknown,
}

impl Ended {
    fn with(status: &Status) -> Ended {
        let outcome = status.metadata().get(proto::metadata::OUTCOME);
        match outcome.is_some_and(|outcome| outcome == proto::metadata::NOT_EXECUTED) {
            true => Ended::NotExecuted,
            false => Ended::Unknown,
        }
    }
}

impl Counters {
    /// Carries a call out and counts how it ended. One whose client has gone meanwhile, so that it is dropped, counts as
    /// unknown.
    pub(crate) async fn count<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let mut counting = Counting {
            counters: self,
            operation,
            ended: Ended::Unknown,
        };
        let answer = call.await;
        counting.ended = match &answer {
            Ok(_) => Ended::Ok,
            Err(status) => Ended::with(status),
        };
        answer
    }

    /// A request has been answered, or will not be.
    pub(crate) fn answered<T>(&self, operation: Operation, outcome: &Result<T, Status>) {
        match outcome {
            Ok(_) => self.add(operation, Ended::Ok),
            Err(status) => self.refused(operation, status),
        }
    }

    /// A request was refused in these words.
    pub(crate) fn refused(&self, operation: Operation, status: &Status) {
        self.add(operation, Ended::with(status));
    }

    /// The client has gone before there was an answer.
    pub(crate) fn cut_off(&self, operation: Operation) {
        self.add(operation, Ended::Unknown);
    }

    fn add(&self, operation: Operation, ended: Ended) {
        self.requests[operation as usize][ended as usize].fetch_add(1, Relaxed);
    }
}

/// Counts when it goes.
struct Counting<'a> {
    counters: &'a Counters,
    operation: Operation,
    ended: Ended,
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.counters.add(self.operation, self.ended);
    }
}

/// Where the numbers come from.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) node: Handle,
    pub(crate) node_id: Arc<str>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) wal: Arc<WalStats>,
}

/// Serves `/metrics` until it is dropped.
pub(crate) async fn serve(listener: TcpListener, sources: Sources) {
    let router = axum::Router::new()
        .route("/metrics", get(metrics))
        .with_state(sources);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("the metrics are no longer served: {error}");
    }
}

async fn metrics(State(sources): State<Sources>) -> Response {
    match sources.node.status(None).await {
        Ok(status) => {
            let text = page(&sources, &status);
            (
                [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
                text,
            )
                .into_response()
        }
        Err(failure) => {
            let why = match failure {
                Failure::Overloaded => {
                    "too many questions wait for this node already; ask again in a moment\n"
                }
                _ => "this node is stopping\n",
            };
            (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
        }
    }
}

/// A page of metrics, one family after the other.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Names of nodes have no character that would have to be escaped.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Into<Number>) {
        self.family(name, kind, help);
        self.sample(name, &[], value.into().0);
    }

    /// `within` tells for each upper bound in seconds, in rising order, how many of the `count` did not exceed it.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        within: impl IntoIterator<Item = (f64, u64)>,
        sum: f64,
        count: u64,
    ) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, within) in within {
            self.sample(&bucket, &[("le", &bound.to_string())], within as f64);
        }
        self.sample(&bucket, &[("le", "+Inf")], count as f64);
        self.sample(&format!("{name}_sum"), &[], sum);
        self.sample(&format!("{name}_count"), &[], count as f64);
    }
}

/// Counts and indexes become floating-point numbers here, as Prometheus has it: exact up to 2⁵³.
struct Number(f64);

impl From<u64> for Number {
    fn from(number: u64) -> Number {
        Number(number as f64)
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Number {
        Number(number)
    }
}

impl From<bool> for Number {
    fn from(holds: bool) -> Number {
        Number(f64::from(u8::from(holds)))
    }
}

fn page(sources: &Sources, status: &NodeStatus) -> String {
    let mut page = Page(String::with_capacity(4096));
    page.family(
        "whitewater_build_info",
        "gauge",
        "Always 1; the labels say which program and which node.",
    );
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("node_id", &*sources.node_id),
    ];
    page.sample("whitewater_build_info", &labels, 1.0);
    raft(&mut page, status);
    peers(&mut page, status);
    disk(&mut page, sources);
    counters(&mut page, &sources.counters);
    process(&mut page);
    page.0
}

fn raft(page: &mut Page, status: &NodeStatus) {
    page.one("raft_term", "gauge", "The current term.", status.term);
    page.family("raft_role", "gauge", "1 for what the node is doing at present.");
    for (name, role) in [
        ("follower", RoleKind::Follower),
        ("pre_candidate", RoleKind::PreCandidate),
        ("candidate", RoleKind::Candidate),
        ("leader", RoleKind::Leader),
    ] {
        page.sample(
            "raft_role",
            &[("role", name)],
            f64::from(u8::from(status.role == role)),
        );
    }
    page.one(
        "raft_has_leader",
        "gauge",
        "Whether the node knows a leader.",
        status.leader.is_some(),
    );
    for (name, help, value) in [
        (
            "raft_commit_index",
            "Highest index known to be committed.",
            status.commit,
        ),
        (
            "raft_applied_index",
            "Highest index applied to the state.",
            status.applied,
        ),
        ("raft_last_index", "Last index of the log.", status.last),
        (
            "raft_durable_index",
            "Highest index on this node's disk.",
            status.durable,
        ),
        (
            "raft_log_start_index",
            "The index right before the first entry of the log.",
            status.log_start,
        ),
        (
            "raft_snapshot_index",
            "Last index of the newest snapshot.",
            status.snapshot,
        ),
        (
            "raft_suspect_index",
            "Entries up to here may be missing because of damage; 0 if none are.",
            status.suspect,
        ),
    ] {
        page.one(name, "gauge", help, value);
    }
    page.one(
        "raft_voters",
        "gauge",
        "How many nodes vote.",
        status.voters as u64,
    );
    page.one(
        "raft_unfit",
        "gauge",
        "Whether this node should not lead.",
        !status.unfit.is_empty(),
    );
}

fn peers(page: &mut Page, status: &NodeStatus) {
    let named = || status.peers.iter().filter(|peer| !peer.name.is_empty());
    page.family(
        "raft_peer_connected",
        "gauge",
        "Whether the links to the peer are up.",
    );
    for peer in named() {
        page.sample(
            "raft_peer_connected",
            &[("peer", &peer.name)],
            f64::from(u8::from(peer.connected)),
        );
    }
    page.family(
        "raft_peer_match_index",
        "gauge",
        "Leader only: highest index on the peer's disk.",
    );
    for peer in named() {
        page.sample(
            "raft_peer_match_index",
            &[("peer", &peer.name)],
            peer.matched as f64,
        );
    }
}

fn disk(page: &mut Page, sources: &Sources) {
    let wal = sources.wal.snapshot();
    let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    let bounds = WalStats::SYNC_BOUNDS.map(|bound| bound.as_secs_f64());
    page.histogram(
        "wal_fsync_duration_seconds",
        "What it took to make group commits durable.",
        bounds.into_iter().zip(wal.syncs_within),
        seconds(wal.sync_ns_total),
        wal.syncs,
    );
    page.one(
        "wal_fsync_seconds_max",
        "gauge",
        "The longest of them.",
        seconds(wal.sync_ns_max),
    );
    page.one(
        "wal_written_bytes_total",
        "counter",
        "Bytes written to the log, padding included.",
        wal.bytes,
    );
    page.one("wal_segments", "gauge", "Segments on disk.", wal.segments);
    page.one(
        "wal_full",
        "gauge",
        "Whether there is no space for the next segment.",
        wal.full,
    );
}

fn counters(page: &mut Page, counters: &Counters) {
    page.family(
        "kv_requests_total",
        "counter",
        "Operations of clients by how they ended.",
    );
    for (operation, outcomes) in ["read", "write"].into_iter().zip(&counters.requests) {
        for (outcome, count) in ["ok", "not_executed", "unknown"].into_iter().zip(outcomes) {
            let labels = [("operation", operation), ("outcome", outcome)];
            page.sample("kv_requests_total", &labels, count.load(Relaxed) as f64);
        }
    }
    page.family("snapshots_total", "counter", "Snapshots by what became of them.");
    for (outcome, count) in [
        ("taken", &counters.snapshots_taken),
        ("failed", &counters.snapshots_failed),
        ("installed", &counters.snapshots_installed),
        ("sent", &counters.snapshots_sent),
        ("not_sent", &counters.snapshots_not_sent),
    ] {
        page.sample(
            "snapshots_total",
            &[("outcome", outcome)],
            count.load(Relaxed) as f64,
        );
    }
    let taken = counters.offices_taken.load(Relaxed);
    page.one(
        "raft_offices_taken_total",
        "counter",
        "How often this node has become the leader.",
        taken,
    );
}

/// The usual numbers of a process, where `/proc` tells them.
fn process(page: &mut Page) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields are counted behind the name of the program, which may hold anything and ends with the last parenthesis.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let field = |number: usize| fields.get(number).and_then(|text| text.parse::<f64>().ok());
    if let Some(((user, system), pages)) = field(11).zip(field(12)).zip(field(21)) {
        // Clock ticks of 10 ms and pages of 4 KiB: so on every Linux this runs on.
        page.one(
            "process_cpu_seconds_total",
            "counter",
            "Processor time used.",
            (user + system) / 100.0,
        );
        page.one(
            "process_resident_memory_bytes",
            "gauge",
            "Memory in use.",
            pages * 4096.0,
        );
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        page.one(
            "process_open_fds",
            "gauge",
            "Open files and sockets.",
            open.count() as u64,
        );
    }
}
