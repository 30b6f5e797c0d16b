//! `server ctl`: looks at a running cluster and changes it. Follows the leader by itself.
//!
//! Exit codes: 0 done, 1 the cluster refused or did not do it in time, or `status` shows that it has no leader, 2 bad flags,
//! 5 nobody could be reached.

mod client;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use proto::raft::{
    AddMemberRequest, DumpStateRequest, GetMembershipRequest, PromoteMemberRequest, RemoveMemberRequest,
    TakeSnapshotRequest, TransferLeadershipRequest,
};
use serde_json::json;

use crate::config::PeerAddress;
use crate::tls;
use crate::token::Token;
use client::{Client, CtlError, Purpose};

/// Look at a running cluster, or change it.
#[derive(Debug, Args)]
pub(crate) struct CtlArgs {
    /// Nodes to ask, separated by commas; those that they know are found from there.
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "localhost:50051"
    )]
    endpoint: Vec<PeerAddress>,

    /// The token of the cluster, for nodes that were started with --admin-token-file.
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// The authority (PEM) that signed the nodes' certificates, for clusters with TLS.
    #[arg(long, global = true, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// A certificate (PEM) to show, for nodes that demand one.
    #[arg(long, global = true, value_name = "FILE", requires_all = ["tls_key", "tls_ca"])]
    tls_cert: Option<PathBuf>,

    /// Its private key (PEM).
    #[arg(long, global = true, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// How long to keep trying.
    #[arg(long, global = true, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// Print JSON, for programs.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show every node: role, term, how far it has come, and what is wrong with it.
    Status,
    /// Show or change who belongs to the cluster.
    #[command(subcommand)]
    Member(Member),
    /// Hand leadership over to a node, or to the one that has come furthest.
    Transfer {
        /// Its name.
        node: Option<String>,
    },
    /// Take a snapshot on the first node of --endpoint, and shorten its log.
    Snapshot,
    /// Print everything that the first node of --endpoint knows of its log and its state, as JSON.
    Dump {
        /// Also the digest of the state as of this index, if it is not too long ago.
        #[arg(long, value_name = "INDEX", default_value_t = 0)]
        digest_at: u64,
    },
}

#[derive(Debug, Subcommand)]
enum Member {
    /// Show the configuration in the leader's log.
    List,
    /// Add a node, started with --join, as a learner: it receives everything and does not vote.
    Add {
        /// Its name.
        node: String,
        /// Where the other nodes and clients reach it.
        address: PeerAddress,
        #[command(flatten)]
        only: OnlyIf,
    },
    /// Give a learner that has caught up a vote.
    Promote {
        /// Its name.
        node: String,
        #[command(flatten)]
        only: OnlyIf,
    },
    /// Remove a node, be it the leader. Its name cannot be used again.
    Remove {
        /// Its name.
        node: String,
        #[command(flatten)]
        only: OnlyIf,
    },
}

/// On what condition the cluster is changed.
#[derive(Debug, Args)]
struct OnlyIf {
    /// Only if nobody has changed the cluster since `member list` showed the configuration at this index.
    #[arg(long = "if-index", value_name = "INDEX")]
    index: Option<u64>,
}

/// Does what was asked and says how it went.
pub(crate) fn run(args: CtlArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::from(5);
        }
    };
    let json = args.json;
    match runtime.block_on(act(args)) {
        Ok(done) => {
            // A closed pipe is the reader's business.
            use std::io::Write as _;
            let _ = writeln!(std::io::stdout(), "{}", done.text.trim_end());
            done.exit_code
        }
        Err(error) if json => {
            eprintln!("{}", json!({"error": error.to_string(), "kind": error.kind()}));
            ExitCode::from(error.exit_code())
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// What to print, and how to end.
struct Done {
    text: String,
    exit_code: ExitCode,
}

impl From<String> for Done {
    fn from(text: String) -> Done {
        Done {
            text,
            exit_code: ExitCode::SUCCESS,
        }
    }
}

async fn act(args: CtlArgs) -> Result<Done, CtlError> {
    let token = args.token_file.as_deref().map(Token::read).transpose();
    let token = token.map_err(CtlError::Usage)?;
    let endpoints = args
        .endpoint
        .iter()
        .map(|endpoint| endpoint.address.clone())
        .collect();
    let tls = tls::client(
        args.tls_ca.as_deref(),
        args.tls_cert.as_deref(),
        args.tls_key.as_deref(),
    );
    let mut client = Client::new(endpoints, token, tls.map_err(CtlError::Usage)?, args.timeout);
    let json = args.json;
    match args.command {
        Command::Status => {
            let nodes = client.status_of_all().await?;
            let text = match json {
                true => show::status_json(&nodes),
                false => show::status(&nodes),
            };
            let exit_code = ExitCode::from(u8::from(show::leader(&nodes).is_none()));
            Ok(Done { text, exit_code })
        }
        Command::Dump { digest_at } => {
            let request = DumpStateRequest {
                digest_index: digest_at,
            };
            let dump = client.dump(request).await?;
            Ok(show::dump_json(&dump).into())
        }
        Command::Snapshot => {
            let taken = client.take_snapshot(TakeSnapshotRequest {}).await?;
            let node = taken.header.unwrap_or_default().node_id;
            let (index, bytes) = (taken.last_index, taken.bytes);
            let text = match json {
                true => json!({"node_id": node, "last_index": index, "last_term": taken.last_term, "bytes": bytes})
                    .to_string(),
                false => format!("{node} has a snapshot up to index {index}, {bytes} bytes"),
            };
            Ok(text.into())
        }
        Command::Transfer { node } => {
            let node_id = node.unwrap_or_default();
            let request = TransferLeadershipRequest { node_id };
            let done = client.on_leader(Purpose::Transfer, &request, |mut admin, request| async move {
                admin.transfer_leadership(request).await
            });
            let done = done.await?;
            let (leader, term) = (done.leader_id, done.header.unwrap_or_default().term);
            let text = match json {
                true => json!({"leader_id": leader, "term": term}).to_string(),
                false => format!("{leader} leads now, in term {term}"),
            };
            Ok(text.into())
        }
        Command::Member(member) => Ok(change_member(&mut client, member, json).await?.into()),
    }
}

async fn change_member(client: &mut Client, member: Member, json: bool) -> Result<String, CtlError> {
    let (changed, what) = match member {
        Member::List => {
            let request = GetMembershipRequest {};
            let found = client.on_leader(Purpose::Look, &request, |mut admin, request| async move {
                admin.get_membership(request).await
            });
            let found = found.await?;
            return Ok(if json {
                show::members_json(&found)
            } else {
                show::members(&found)
            });
        }
        Member::Add { node, address, only } => {
            let missing = match client.answers(&address.address).await {
                Ok(()) => String::new(),
                Err(why) => format!(
                    "; nobody answers at {} yet ({why}): start it there with --join",
                    address.address
                ),
            };
            let what = format!("{node} is a learner now; promote it when it has caught up{missing}");
            let request = AddMemberRequest {
                node_id: node,
                address: address.address,
                expected_index: only.index,
            };
            let done = client.on_leader(Purpose::Change, &request, |mut admin, request| async move {
                admin.add_member(request).await
            });
            (done.await?, what)
        }
        Member::Promote { node, only } => {
            let what = format!("{node} votes now");
            let request = PromoteMemberRequest {
                node_id: node,
                expected_index: only.index,
            };
            let done = client.on_leader(Purpose::Change, &request, |mut admin, request| async move {
                admin.promote_member(request).await
            });
            (done.await?, what)
        }
        Member::Remove { node, only } => {
            let what = format!("{node} is removed; stop it");
            let request = RemoveMemberRequest {
                node_id: node,
                expected_index: only.index,
            };
            let done = client.on_leader(Purpose::Change, &request, |mut admin, request| async move {
                admin.remove_member(request).await
            });
            (done.await?, what)
        }
    };
    Ok(match json {
        true => json!({"index": changed.index}).to_string(),
        false => format!("{what} (configuration at index {})", changed.index),
    })
}
