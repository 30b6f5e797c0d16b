//! Requests sent through a proxied link to see what a fault does to it, from the outside and with nothing but the wire.
//!
//! A probe is a connection of its own beside those of the nodes, so it shows what the link does to anybody. It asks for
//! a status or makes a request that is refused, and changes nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use proto::raft::key_value_service_client::KeyValueServiceClient;
use proto::raft::{GetClusterStatusRequest, PutRequest};
use reports::record::Evidence;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tonic::transport::{Channel, Endpoint};

use super::links::{Change, What};
use crate::cluster::{Cluster, Link};
use crate::scenario::{Action, Mode};

/// On a healthy loopback an answer takes a few milliseconds; silence for so long is silence.
const SILENCE: Duration = Duration::from_millis(400);
/// So many links of a fault are probed.
const LINKS_PROBED_MAX: usize = 2;

/// Evidence that a fault on links is in force, looked for no longer than `budget`: the schedule waits meanwhile. `taken`
/// are links that other faults hold as well; what a probe meets there could be their doing.
pub(super) async fn effects(
    cluster: &Cluster,
    action: Action,
    changes: &[Change],
    taken: &BTreeSet<String>,
    budget: Duration,
) -> Vec<Evidence> {
    let mut evidence = vec![read_back(cluster, changes).await];
    let mut probes = JoinSet::new();
    let mut links = BTreeSet::new();
    for change in changes {
        // A link with a dead end answers nobody, whatever its proxy does.
        let alive = cluster
            .links()
            .iter()
            .any(|link| link.name == change.link && ends_are_alive(cluster, link));
        if alive
            && !taken.contains(&change.link)
            && links.len() < LINKS_PROBED_MAX
            && links.insert(&change.link)
        {
            probes.spawn(probe(change.clone(), action, budget));
        }
    }
    evidence.extend(probes.join_all().await);
    evidence
}

fn ends_are_alive(cluster: &Cluster, link: &Link) -> bool {
    let alive = |node: usize| cluster.nodes()[node].pid().is_some() && !cluster.nodes()[node].is_paused();
    alive(link.to) && link.from.is_none_or(alive)
}

/// Whether every proxy says that it holds what it was told.
async fn read_back(cluster: &Cluster, changes: &[Change]) -> Evidence {
    let mut missing = Vec::new();
    for change in changes {
        let holds = match (cluster.proxy().proxy(&change.link).await, &change.what) {
            (Ok(info), What::Refuse) => !info.enabled,
            (Ok(info), What::Toxic(toxic)) => info.toxics.iter().any(|active| active.name == toxic.name),
            (Err(_), _) => false,
        };
        if !holds {
            missing.push(change.link.as_str());
        }
    }
    match missing[..] {
        [] => Evidence {
            what: format!("read back from all proxies: {} changes in force", changes.len()),
            effective: true,
        },
        _ => Evidence {
            what: format!("not in force on {}", missing.join(", ")),
            effective: false,
        },
    }
}

async fn probe(change: Change, action: Action, budget: Duration) -> Evidence {
    let link = &change.link;
    let silence = SILENCE.min(budget);
    match action {
        Action::Partition {
            mode: Mode::Refuse, ..
        } => match tokio::net::TcpStream::connect(change.address).await {
            Err(error) => Evidence {
                what: format!("a connection through {link} fails: {error}"),
                effective: true,
            },
            Ok(_) => Evidence {
                what: format!("a connection through {link} is accepted"),
                effective: false,
            },
        },
        Action::Partition { .. } => match status(change.address, silence).await {
            Err(Unanswered::Silence) => Evidence {
                what: format!("a request through {link} got no answer in {silence:?}"),
                effective: true,
            },
            Err(Unanswered::Failure(why)) => failed(link, &why),
            Ok(took) => Evidence {
                what: format!("a request through {link} was answered in {took:.1?}"),
                effective: false,
            },
        },
        Action::Latency { delay, jitter } => {
            // There and back, each late by the delay, less what the jitter may take away.
            let least = 2 * delay.saturating_sub(jitter);
            let limit = (8 * (delay + jitter) + 4 * SILENCE).min(budget);
            match status(change.address, limit).await {
                Ok(took) => {
                    let what = format!(
                        "a request through {link} took {took:.1?}, at least {least:.1?} were asked for"
                    );
                    Evidence {
                        what,
                        effective: took >= least,
                    }
                }
                // Two requests, one after the other, cannot be through yet.
                Err(Unanswered::Silence) if limit < 2 * least => Evidence {
                    what: format!(
                        "a request through {link} is unanswered after {limit:.1?}, as {least:.1?} make it"
                    ),
                    effective: true,
                },
                Err(Unanswered::Silence) => failed(link, &format!("no answer in {limit:.1?}")),
                Err(Unanswered::Failure(why)) => failed(link, &why),
            }
        }
        Action::Bandwidth { bytes_per_second } => bandwidth(&change, bytes_per_second, budget).await,
        Action::Kill | Action::Stop | Action::Pause => unreachable!("faults on processes have no links"),
    }
}

/// A probe that failed in another way than the fault would make it fail proves nothing.
fn failed(link: &str, why: &str) -> Evidence {
    Evidence {
        what: format!("a request through {link} failed, which shows nothing: {why}"),
        effective: false,
    }
}

/// Why a probe has no time to tell.
enum Unanswered {
    /// Nothing came back in time.
    Silence,
    /// Something went wrong before that.
    Failure(String),
}

impl From<tonic::transport::Error> for Unanswered {
    fn from(error: tonic::transport::Error) -> Unanswered {
        Unanswered::Failure(format!("{error:?}"))
    }
}

impl From<tonic::Status> for Unanswered {
    fn from(status: tonic::Status) -> Unanswered {
        Unanswered::Failure(status.to_string())
    }
}

/// How long a status request takes on a connection that is already open.
async fn status(address: SocketAddr, limit: Duration) -> Result<Duration, Unanswered> {
    let asked = async {
        let mut client = connect(address).await?;
        client.get_cluster_status(GetClusterStatusRequest {}).await?;
        let start = Instant::now();
        client.get_cluster_status(GetClusterStatusRequest {}).await?;
        Ok(start.elapsed())
    };
    timeout(limit, asked).await.unwrap_or(Err(Unanswered::Silence))
}

async fn connect(address: SocketAddr) -> Result<KeyValueServiceClient<Channel>, Unanswered> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
    Ok(KeyValueServiceClient::new(endpoint.connect().await?))
}

/// Sends a request that is certain to be refused, for its empty key, and large enough to take a while.
async fn bandwidth(change: &Change, bytes_per_second: u64, budget: Duration) -> Evidence {
    let bytes = (bytes_per_second / 4).clamp(1_000, 1_000_000);
    let least = Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64).mul_f64(0.5);
    let limit = (20 * least + 4 * SILENCE).min(budget);
    let sent = async {
        let mut client = connect(change.address).await?;
        client.get_cluster_status(GetClusterStatusRequest {}).await?;
        let start = Instant::now();
        let put = PutRequest {
            key: String::new(),
            value: "x".repeat(bytes as usize),
            ..Default::default()
        };
        match client.put(put).await {
            // The refusal is the answer: it comes when the whole request has arrived.
            Err(status) if status.code() == tonic::Code::InvalidArgument => Ok(start.elapsed()),
            Err(status) => Err(status.into()),
            Ok(_) => Err(Unanswered::Failure(
                "a request with an empty key was taken".to_owned(),
            )),
        }
    };
    let link = &change.link;
    match timeout(limit, sent).await.unwrap_or(Err(Unanswered::Silence)) {
        Ok(took) => {
            let what =
                format!("{bytes} bytes through {link} took {took:.1?}, at least {least:.1?} were expected");
            Evidence {
                what,
                effective: took >= least,
            }
        }
        Err(Unanswered::Silence) => failed(link, &format!("no answer in {limit:.1?}")),
        Err(Unanswered::Failure(why)) => failed(link, &why),
    }
}
