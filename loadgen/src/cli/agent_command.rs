//! `loadgen agent`: makes load when a coordinator says so; and the arguments of a run that several agents share.
//!
//! Promises that the arguments mean the same here as in `loadgen run`, because the same parser reads them; what is about output
//! is refused by name, because the record is the coordinator's.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use clap::parser::ValueSource;
use clap::{Args, FromArgMatches};
use tokio::net::TcpListener;

use super::CommandError;
use super::args::{OutputArgs, RunArgs};
use super::interrupt::stop_signal;
use super::probing::block_on;
use super::run_command::config_of;
use super::session::Session;
use crate::agents;
use crate::client::Client;
use crate::clock::RunClock;
use crate::run::{self, LoadConfig, Share, told};

/// Be one of several load generators that `loadgen coordinate` commands.
#[derive(Debug, Args)]
pub(super) struct AgentArgs {
    /// Where orders are taken, as IP:PORT; port 0 takes a free one. The first line on standard output tells which.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "IP:PORT")]
    listen: SocketAddr,
    /// Listen on an address that other machines reach. Whoever reaches it can make this machine send load to anywhere: use it
    /// in a network of your own only.
    #[arg(long)]
    allow_remote: bool,
}

pub(super) fn run(args: &AgentArgs) -> Result<u8, CommandError> {
    if !is_local(args.listen.ip()) && !args.allow_remote {
        return Err(CommandError::usage(format!(
            "{} can be reached by other machines, and whoever reaches an agent can make it send load; \
             pass --allow-remote if the network is yours",
            args.listen
        )));
    }
    block_on(async {
        let listener = TcpListener::bind(args.listen).await.map_err(|error| {
            CommandError::environment(format!(
                "cannot listen on {}: {error}; choose another --listen",
                args.listen
            ))
        })?;
        let address = listener.local_addr().map_err(CommandError::environment)?;
        let mut out = io::stdout();
        writeln!(out, "agent on {address}")
            .and_then(|()| out.flush())
            .map_err(CommandError::environment)?;
        let stop = stop_signal()?;
        tokio::select! {
            served = agents::serve(listener, RunClock::start()) => served.map_err(CommandError::environment)?,
            () = told(stop) => {}
        }
        Ok(0)
    })
}

fn is_local(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// The arguments of a run that several agents share.
pub(super) fn shared_arguments(arguments: &[String]) -> Result<RunArgs, String> {
    let command = RunArgs::augment_args(clap::Command::new("run").no_binary_name(true));
    let parsed = command.try_get_matches_from(arguments);
    let matches = parsed.map_err(|error| error.to_string().trim_end().to_owned())?;
    let output = OutputArgs::augment_args(clap::Command::new("output"));
    for argument in output.get_arguments() {
        let id = argument.get_id().as_str();
        if matches.value_source(id) == Some(ValueSource::CommandLine) {
            let name = argument.get_long().unwrap_or(id);
            return Err(format!(
                "--{name} is not for agents, which write no record: give it to `coordinate`, before the `--`"
            ));
        }
    }
    RunArgs::from_arg_matches(&matches).map_err(|error| error.to_string())
}

/// A run as an agent understands it.
#[derive(Debug)]
pub(crate) struct SharedRun {
    args: RunArgs,
    /// What it does.
    pub(crate) config: LoadConfig,
}

impl SharedRun {
    /// From what follows `loadgen run` on the command line. Everybody who uses the same name and seed gets the same run.
    pub(crate) fn parse(arguments: &[String], name: &str, seed: u64) -> Result<SharedRun, String> {
        let args = shared_arguments(arguments)?;
        let config = config_of(&args, name, seed).map_err(|error| error.to_string())?;
        Ok(SharedRun { args, config })
    }

    /// Makes it one part of the run: of the plan or the clients, and of the operations in flight.
    pub(crate) fn take_share(&mut self, share: Share) -> Result<(), String> {
        self.config.share = Some(share);
        // First, because shares below it are counted.
        run::check(&self.config).map_err(|error| error.to_string())?;
        self.config.max_in_flight = share.part_of(self.config.max_in_flight);
        if self.config.max_in_flight == 0 {
            return Err(format!(
                "--max-in-flight is less than the number of agents, {}: each needs one",
                share.of
            ));
        }
        Ok(())
    }

    /// Connects to the store, and makes sure that somebody is there.
    pub(crate) async fn connect(&self) -> Result<Client, String> {
        let endpoints = self.args.target.endpoints().map_err(|error| error.to_string())?;
        if endpoints.wants_local_cluster() {
            return Err(format!(
                "agents share one store: name its nodes, as in {endpoints}HOST:PORT"
            ));
        }
        let session = Session::open(&self.args.target, self.args.load.timeout).await;
        Ok(session.map_err(|error| error.to_string())?.client.clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn arguments_about_output_are_refused_by_name() {
        let run = "--endpoints 127.0.0.1:1 --rate 50";
        assert!(shared_arguments(&words(run)).is_ok());
        for (wrong, name) in [
            ("--out x", "--out"),
            ("-o x", "--out"),
            ("--json", "--json"),
            ("--name n", "--name"),
            ("--no-history", "--no-history"),
            ("--no-report", "--no-report"),
            ("-q", "--quiet"),
            ("--fail-on noisy", "--fail-on"),
        ] {
            let error = shared_arguments(&words(&format!("{run} {wrong}"))).unwrap_err();
            assert!(
                error.contains(name) && error.contains("coordinate"),
                "{wrong}: {error}"
            );
        }
        let error = shared_arguments(&words("--endpoints 127.0.0.1:1 --speed 5")).unwrap_err();
        assert!(error.contains("--speed"), "{error}");
    }

    #[test]
    fn everybody_gets_the_same_run_and_a_part_of_it() {
        let arguments = words("--endpoints 127.0.0.1:1 --closed --clients 5 --max-in-flight 7");
        let parse = || SharedRun::parse(&arguments, "abc", 7).unwrap();
        assert_eq!(format!("{:?}", parse().config), format!("{:?}", parse().config));
        let parts: usize = (0..3)
            .map(|index| {
                let mut run = parse();
                run.take_share(Share { index, of: 3 }).unwrap();
                run.config.max_in_flight
            })
            .sum();
        assert_eq!(parts, 7);
        for (of, word) in [(6, "clients"), (5, "")] {
            let result = parse().take_share(Share { index: of - 1, of });
            assert_eq!(result.is_err(), !word.is_empty());
            assert!(result.err().unwrap_or_default().contains(word));
        }
        let mut inserts = SharedRun::parse(
            &words("--endpoints 127.0.0.1:1 --rate 5 --mix insert=1,get=1"),
            "abc",
            7,
        )
        .unwrap();
        let error = inserts.take_share(Share { index: 0, of: 2 }).unwrap_err();
        assert!(error.contains("insert"), "{error}");
        assert!(inserts.take_share(Share { index: 0, of: 1 }).is_ok());
    }

    #[test]
    fn only_the_loopback_is_local() {
        for (address, local) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", false),
            ("10.0.0.1", false),
            ("::", false),
        ] {
            assert_eq!(is_local(address.parse().unwrap()), local, "{address}");
        }
    }
}
