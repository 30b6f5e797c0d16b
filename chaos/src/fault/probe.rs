//! Requests sent through a proxied link to see what a fault does to it, from the outside and with nothing but the wire.
//!
//! A probe is a connection of its own beside those of the nodes, so it shows what the link does to anybody. It asks for
//! a status or makes a request that is refused, and changes nothing.

use std::net::SocketAddr;
use std::time::Duration;

use proto::raft::key_value_service_client::KeyValueServiceClient;
use proto::raft::{GetClusterStatusRequest, PutRequest};
use reports::record::Evidence;
use tokio::time::{Instant, timeout};
use tonic::transport::Endpoint;

use super::links::{Change, What};
use crate::cluster::Cluster;
use crate::scenario::{Action, Mode};

/// On a healthy loopback an answer takes a few milliseconds; silence for so long is silence.
const SILENCE: Duration = Duration::from_millis(400);
/// So many links of a fault are probed.
const LINKS_PROBED_MAX: usize = 2;

/// Evidence that a fault on links is in force.
pub(super) async fn effects(cluster: &Cluster, action: Action, changes: &[Change]) -> Vec<Evidence> {
    let mut links: Vec<&Change> = Vec::new();
    for change in changes {
        if links.iter().all(|known| known.link != change.link) {
            links.push(change);
        }
    }
    let mut evidence = Vec::new();
    let proxy_holds = read_back(cluster, changes).await;
    evidence.push(proxy_holds);
    // Links whose far end has no process answer nobody, whatever the proxy does: they prove nothing.
    let alive = |change: &&&Change| {
        let link = cluster.links().iter().find(|link| link.name == change.link);
        link.is_some_and(|link| {
            cluster.nodes()[link.to].pid().is_some() && !cluster.nodes()[link.to].is_paused()
        })
    };
    for change in links.iter().filter(alive).take(LINKS_PROBED_MAX) {
        evidence.push(probe(change, action).await);
    }
    evidence
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

async fn probe(change: &Change, action: Action) -> Evidence {
    let link = &change.link;
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
        Action::Partition { .. } => match status(change.address, SILENCE).await {
            None => Evidence {
                what: format!("a request through {link} got no answer in {SILENCE:?}"),
                effective: true,
            },
            Some(took) => Evidence {
                what: format!("a request through {link} was answered in {took:.1?}"),
                effective: false,
            },
        },
        Action::Latency { delay, jitter } => {
            // There and back, each late by the delay, less what the jitter may take away.
            let least = 2 * delay.saturating_sub(jitter);
            let limit = 8 * (delay + jitter) + SILENCE;
            match status(change.address, limit).await {
                Some(took) => {
                    let what = format!(
                        "a request through {link} took {took:.1?}, at least {least:.1?} were asked for"
                    );
                    Evidence {
                        what,
                        effective: took >= least,
                    }
                }
                None => Evidence {
                    what: format!("a request through {link} got no answer in {limit:.1?}"),
                    effective: true,
                },
            }
        }
        Action::Bandwidth { bytes_per_second } => bandwidth(change, bytes_per_second).await,
        Action::Kill | Action::Stop | Action::Pause => unreachable!("faults on processes have no links"),
    }
}

/// How long a status request takes on a connection that is already open; nothing if it is not answered in time.
async fn status(address: SocketAddr, limit: Duration) -> Option<Duration> {
    let asked = async {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .ok()?
            .tcp_nodelay(true);
        let mut client = KeyValueServiceClient::new(endpoint.connect().await.ok()?);
        client.get_cluster_status(GetClusterStatusRequest {}).await.ok()?;
        let start = Instant::now();
        client.get_cluster_status(GetClusterStatusRequest {}).await.ok()?;
        Some(start.elapsed())
    };
    timeout(limit, asked).await.ok().flatten()
}

/// Sends a request that is certain to be refused, for its empty key, and large enough to take a while.
async fn bandwidth(change: &Change, bytes_per_second: u64) -> Evidence {
    let bytes = (bytes_per_second / 4).clamp(1_000, 1_000_000);
    let least = Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64).mul_f64(0.5);
    let limit = 20 * least + SILENCE;
    let sent = async {
        let endpoint = Endpoint::from_shared(format!("http://{}", change.address))
            .ok()?
            .tcp_nodelay(true);
        let mut client = KeyValueServiceClient::new(endpoint.connect().await.ok()?);
        client.get_cluster_status(GetClusterStatusRequest {}).await.ok()?;
        let start = Instant::now();
        let put = PutRequest {
            key: String::new(),
            value: "x".repeat(bytes as usize),
        };
        // The refusal is the answer: it comes when the whole request has arrived.
        let _ = client.put(put).await;
        Some(start.elapsed())
    };
    let link = &change.link;
    match timeout(limit, sent).await.ok().flatten() {
        Some(took) => {
            let what =
                format!("{bytes} bytes through {link} took {took:.1?}, at least {least:.1?} were expected");
            Evidence {
                what,
                effective: took >= least,
            }
        }
        None => Evidence {
            what: format!("{bytes} bytes through {link} did not pass in {limit:.1?}"),
            effective: true,
        },
    }
}
