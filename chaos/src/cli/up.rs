//! `chaos up`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::FAILED;
use crate::cluster::{Cluster, ClusterSpec};
use crate::proxy::FaultProxy;

#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,

    /// Where the nodes keep their data and logs [default: a temporary folder, removed at the end].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Print the endpoints as one JSON document.
    #[arg(long)]
    json: bool,
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
            ExitCode::from(FAILED)
        }
    }
}

async fn up(arguments: &UpArgs) -> Result<(), Box<dyn std::error::Error>> {
    let mut interrupt = super::watch_for_interrupt()?;
    let temporary = match &arguments.out {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("whitewater-").tempdir()?),
    };
    let folder = arguments
        .out
        .clone()
        .or(temporary.as_ref().map(|folder| folder.path().to_owned()));
    let spec = ClusterSpec {
        nodes: usize::from(arguments.nodes),
        folder: folder.unwrap_or_default(),
        command: super::node_command()?,
        node_arguments: Vec::new(),
    };
    let mut cluster = Cluster::start(&spec, FaultProxy::embedded(0)).await?;
    let endpoints: Vec<String> = cluster.nodes().iter().map(|node| node.address()).collect();
    if arguments.json {
        println!("{}", serde_json::json!({ "endpoints": endpoints }));
    } else {
        for (node, endpoint) in cluster.nodes().iter().zip(&endpoints) {
            println!("{}  {endpoint}", node.name());
        }
        println!(
            "load it:  loadgen run --endpoints {} --rate 500 --duration 10s",
            endpoints.join(",")
        );
        println!("Ctrl-C ends the cluster");
    }
    let _ = interrupt.wait_for(|wanted| *wanted).await;
    cluster.shutdown().await;
    Ok(())
}
