//! `chaos up`.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use loadgen::target::{Endpoints, InvalidEndpoints, LocalCluster, LocalOptions};
use tokio::sync::watch;

use super::FAILED;
use crate::cluster::{Cluster, ClusterSpec};
use crate::proxy::FaultProxy;

/// A store that is not ours is asked so often whether its nodes still run.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// What the nodes are: `raft`, the reference store; `etcd`, which must be installed; or `echo`, one bare gRPC server.
    #[arg(long, value_name = "STORE", default_value = "raft", value_parser = store)]
    target: Endpoints,

    /// How many nodes [default: 3, and 1 of a store that has no more].
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: Option<u8>,

    /// Where the nodes keep their data and logs [default: a temporary folder, removed at the end].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Print the endpoints as one JSON document.
    #[arg(long)]
    json: bool,
}

/// A kind of store, without nodes.
fn store(text: &str) -> Result<Endpoints, String> {
    let endpoints: Endpoints = text
        .parse()
        .map_err(|error: InvalidEndpoints| error.to_string())?;
    match endpoints.wants_local_cluster() {
        true => Ok(endpoints),
        false => Err(format!(
            "name a kind of store that can be started, such as etcd, not {text}"
        )),
    }
}

pub(super) fn main(arguments: UpArgs) -> ExitCode {
    super::start_logging();
    let result = super::runtime()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(up(&arguments)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because {error}");
                cause = error.source();
            }
            ExitCode::from(FAILED)
        }
    }
}

async fn up(arguments: &UpArgs) -> Result<(), Box<dyn Error>> {
    let interrupt = super::watch_for_interrupt()?;
    match arguments.target.target().scheme() {
        "raft" => up_raft(arguments, interrupt).await,
        _ => up_local(arguments, interrupt).await,
    }
}

/// The reference store, behind the proxies through which scenarios break it.
async fn up_raft(arguments: &UpArgs, mut interrupt: watch::Receiver<bool>) -> Result<(), Box<dyn Error>> {
    let temporary = match &arguments.out {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("whitewater-").tempdir()?),
    };
    let folder = arguments
        .out
        .clone()
        .or(temporary.as_ref().map(|folder| folder.path().to_owned()));
    let spec = ClusterSpec {
        nodes: usize::from(arguments.nodes.unwrap_or(3)),
        folder: folder.unwrap_or_default(),
        command: super::node_command()?,
        node_arguments: Vec::new(),
    };
    let mut cluster = Cluster::start(&spec, FaultProxy::embedded(0)).await?;
    let nodes = cluster.nodes().iter();
    let nodes: Vec<_> = nodes
        .map(|node| (node.name().to_owned(), node.address()))
        .collect();
    tell(arguments, &nodes);
    let _ = interrupt.wait_for(|wanted| *wanted).await;
    cluster.shutdown().await;
    Ok(())
}

/// Any other store, as `loadgen` starts it.
async fn up_local(arguments: &UpArgs, mut interrupt: watch::Receiver<bool>) -> Result<(), Box<dyn Error>> {
    let options = LocalOptions {
        nodes: arguments.nodes.map(usize::from),
        dir: arguments.out.clone(),
        ..LocalOptions::default()
    };
    let start = LocalCluster::start(arguments.target.target().clone(), &options);
    let cluster = tokio::select! {
        cluster = start => cluster?,
        _ = interrupt.wait_for(|wanted| *wanted) => return Ok(()),
    };
    let nodes = cluster.nodes().iter();
    let nodes: Vec<_> = nodes
        .map(|node| (node.name.clone(), node.address.clone()))
        .collect();
    tell(arguments, &nodes);
    let mut look = tokio::time::interval(LOOK_EVERY);
    let ended = loop {
        tokio::select! {
            _ = interrupt.wait_for(|wanted| *wanted) => break Ok(()),
            _ = look.tick() => if let Err(error) = cluster.check().await {
                break Err(error);
            }
        }
    };
    // If a node has ended, stopping the others says so once more.
    let stopped = cluster.stop().await;
    Ok(ended.and(stopped)?)
}

fn tell(arguments: &UpArgs, nodes: &[(String, String)]) {
    let endpoints: Vec<&str> = nodes.iter().map(|(_, address)| address.as_str()).collect();
    if arguments.json {
        println!("{}", serde_json::json!({ "endpoints": endpoints }));
        return;
    }
    for (name, address) in nodes {
        println!("{name}  {address}");
    }
    let endpoints = endpoints.join(",");
    match arguments.target.target().scheme() {
        "raft" => println!("load it:  loadgen run --endpoints {endpoints} --rate 500 --duration 10s"),
        scheme => println!("load it:  loadgen run --target {scheme}://{endpoints} --rate 500 --duration 10s"),
    }
    println!("Ctrl-C ends the cluster");
}
