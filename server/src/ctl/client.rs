//! Finding the nodes, and among them the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use proto::metadata;
use proto::raft::admin_service_client::AdminServiceClient;
use proto::raft::key_value_service_client::KeyValueServiceClient;
use proto::raft::state_service_client::StateServiceClient;
use proto::raft::{
    DumpStateRequest, DumpStateResponse, GetClusterStatusRequest, GetClusterStatusResponse,
    TakeSnapshotRequest, TakeSnapshotResponse,
};
use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, ClientTlsConfig};
use tonic::{Code, Request, Response, Status};

use crate::tls;
use crate::token::Token;

/// One node may take so long to answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The wait before asking again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum CtlError {
    #[error("{0}")]
    Usage(String),
    #[error("{}{}{hint}", status.message(), unknown(status, *purpose))]
    Refused {
        status: Box<Status>,
        hint: &'static str,
        purpose: Purpose,
    },
    #[error("none of the nodes can be reached: {0}")]
    Unreachable(String),
}

/// What a call is for: only what changes the cluster can have happened although it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Look,
    /// A snapshot on one node: taking it again does no harm.
    Snapshot,
    Change,
    Transfer,
}

/// The addition for a change that may have happened all the same.
fn unknown(status: &Status, purpose: Purpose) -> &'static str {
    match (outcome(status), purpose) {
        (Some(metadata::NOT_EXECUTED), _) | (_, Purpose::Look | Purpose::Snapshot) => "",
        (_, Purpose::Change) => " (it may have happened all the same: look with `server ctl member list`)",
        (_, Purpose::Transfer) => " (it may have happened all the same: look with `server ctl status`)",
    }
}

fn outcome(status: &Status) -> Option<&str> {
    status.metadata().get(metadata::OUTCOME)?.to_str().ok()
}

impl CtlError {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            CtlError::Usage(_) => 2,
            CtlError::Refused { .. } => 1,
            CtlError::Unreachable(_) => 5,
        }
    }

    /// The same for programs, in a word.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            CtlError::Usage(_) => "usage",
            CtlError::Refused { .. } => "refused",
            CtlError::Unreachable(_) => "unreachable",
        }
    }
}

/// A cluster, known by some of its nodes.
pub(super) struct Client {
    endpoints: Vec<String>,
    token: Option<Token>,
    tls: Option<ClientTlsConfig>,
    timeout: Duration,
}

impl Client {
    pub(super) fn new(
        endpoints: Vec<String>,
        token: Option<Token>,
        tls: Option<ClientTlsConfig>,
        timeout: Duration,
    ) -> Client {
        Client {
            endpoints,
            token,
            tls,
            timeout,
        }
    }

    /// What every node that can be found says of itself, by address; or why it says nothing.
    pub(super) async fn status_of_all(
        &self,
    ) -> Result<BTreeMap<String, Result<GetClusterStatusResponse, String>>, CtlError> {
        let mut found: BTreeMap<String, Result<GetClusterStatusResponse, String>> = BTreeMap::new();
        let mut names = BTreeSet::new();
        let mut to_ask = self.endpoints.clone();
        while let Some(address) = to_ask.pop() {
            if found.contains_key(&address) {
                continue;
            }
            let status = self.status(&address).await;
            if let Ok(status) = &status {
                let name = status.header.clone().unwrap_or_default().node_id;
                // The same node by another of its addresses.
                if !names.insert(name) {
                    continue;
                }
                let peers = status.peers.iter().filter(|peer| !names.contains(&peer.node_id));
                to_ask.extend(peers.map(|peer| peer.address.clone()));
            }
            found.insert(address, status);
        }
        match found.values().any(Result::is_ok) {
            true => Ok(found),
            false => {
                let why = found
                    .into_iter()
                    .filter_map(|(address, found)| Some(format!("{address}: {}", found.err()?)));
                Err(CtlError::Unreachable(why.collect::<Vec<_>>().join("; ")))
            }
        }
    }

    /// Everything that the first node knows.
    pub(super) async fn dump(&self, request: DumpStateRequest) -> Result<DumpStateResponse, CtlError> {
        let channel = self.first().await?;
        let mut request = Request::new(request);
        request.set_timeout(self.timeout);
        let answer = StateServiceClient::new(channel).dump_state(request).await;
        answer
            .map(Response::into_inner)
            .map_err(|status| self.refused(status, Purpose::Look))
    }

    /// A snapshot on the first node.
    pub(super) async fn take_snapshot(
        &self,
        request: TakeSnapshotRequest,
    ) -> Result<TakeSnapshotResponse, CtlError> {
        let channel = self.first().await?;
        let mut request = self.authorised(request);
        request.set_timeout(self.timeout);
        let answer = AdminServiceClient::new(channel).take_snapshot(request).await;
        answer
            .map(Response::into_inner)
            .map_err(|status| self.refused(status, Purpose::Snapshot))
    }

    async fn first(&self) -> Result<Channel, CtlError> {
        let address = &self.endpoints[0];
        self.connect(address)
            .await
            .map_err(|why| CtlError::Unreachable(format!("{address}: {why}")))
    }

    /// Does something on the leader: asks around, follows hints, and tries again as long as nothing has happened and there
    /// is time.
    pub(super) async fn on_leader<Q, A, F>(
        &self,
        purpose: Purpose,
        request: &Q,
        call: impl Fn(AdminServiceClient<Channel>, Request<Q>) -> F,
    ) -> Result<A, CtlError>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let until = Instant::now() + self.timeout;
        let mut around = self.endpoints.iter().cycle();
        let mut hint: Option<String> = None;
        let mut why_not = BTreeMap::new();
        let mut refusal = None;
        while Instant::now() < until {
            let hinted = hint.is_some();
            let next = around.next().expect("clap demands an endpoint");
            let address = hint.take().unwrap_or_else(|| next.clone());
            let channel = match self.connect(&address).await {
                Ok(channel) => channel,
                Err(why) => {
                    why_not.insert(address, why);
                    sleep(RETRY_AFTER).await;
                    continue;
                }
            };
            let mut asked = self.authorised(request.clone());
            asked.set_timeout(until.saturating_duration_since(Instant::now()));
            let status = match call(AdminServiceClient::new(channel), asked).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            let leader = status.metadata().get(metadata::LEADER_ADDRESS);
            hint = leader.and_then(|leader| leader.to_str().ok()).map(str::to_owned);
            let nothing_happened = outcome(&status) == Some(metadata::NOT_EXECUTED);
            let passes = hint.is_some() || status.metadata().contains_key(metadata::LEADER_ID);
            if !nothing_happened || !(passes || status.code() == Code::Unavailable) {
                return Err(self.refused(status, purpose));
            }
            refusal = Some(status);
            if hint.is_none() || hinted {
                sleep(RETRY_AFTER).await;
            }
        }
        match refusal {
            Some(status) => Err(self.refused(status, purpose)),
            None => {
                let why = why_not
                    .into_iter()
                    .map(|(address, why)| format!("{address}: {why}"));
                Err(CtlError::Unreachable(why.collect::<Vec<_>>().join("; ")))
            }
        }
    }

    async fn connect(&self, address: &str) -> Result<Channel, String> {
        let said = |error: tonic::transport::Error| {
            let causes = crate::run::causes(&error);
            format!("{error}{causes}")
        };
        let endpoint = tls::endpoint(address, self.tls.as_ref()).map_err(said)?;
        endpoint
            .connect_timeout(self.answer_timeout())
            .connect()
            .await
            .map_err(said)
    }

    /// How long one node may take.
    fn answer_timeout(&self) -> Duration {
        self.timeout.min(CONNECT_TIMEOUT)
    }

    /// Whether somebody listens at an address; or why it is not known.
    pub(super) async fn answers(&self, address: &str) -> Result<(), String> {
        self.status(address).await.map(drop)
    }

    async fn status(&self, address: &str) -> Result<GetClusterStatusResponse, String> {
        let channel = self.connect(address).await?;
        let mut request = Request::new(GetClusterStatusRequest {});
        request.set_timeout(self.answer_timeout());
        let answer = KeyValueServiceClient::new(channel)
            .get_cluster_status(request)
            .await;
        answer
            .map(Response::into_inner)
            .map_err(|status| self.explained(&status))
    }

    /// What a node said, or what cut it off.
    fn explained(&self, status: &Status) -> String {
        format!("{}{}", status.message(), self.hint(status))
    }

    /// What may be behind a connection that breaks instead of bringing an answer.
    fn hint(&self, status: &Status) -> &'static str {
        let breaks = matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal);
        match self.tls.is_none() && breaks && outcome(status).is_none() {
            true => "; if the node was started with --tls-cert, name its authority with --tls-ca",
            false => "",
        }
    }

    fn refused(&self, status: Status, purpose: Purpose) -> CtlError {
        CtlError::Refused {
            hint: self.hint(&status),
            status: Box::new(status),
            purpose,
        }
    }

    fn authorised<Q>(&self, request: Q) -> Request<Q> {
        let mut request = Request::new(request);
        if let Some(token) = &self.token {
            token.attach(request.metadata_mut());
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: Status, purpose: Purpose) -> String {
        let hint = "";
        let status = Box::new(status);
        CtlError::Refused {
            status,
            hint,
            purpose,
        }
        .to_string()
    }

    #[test]
    fn only_what_changes_the_cluster_may_have_happened_all_the_same() {
        let cut = || Status::cancelled("cut off");
        for purpose in [Purpose::Look, Purpose::Snapshot] {
            assert_eq!(said(cut(), purpose), "cut off", "{purpose:?}");
        }
        for purpose in [Purpose::Change, Purpose::Transfer] {
            assert!(said(cut(), purpose).contains("may have happened"), "{purpose:?}");
            let mut refused = Status::unavailable("no");
            let outcome = metadata::NOT_EXECUTED.parse().expect("plain ASCII");
            refused.metadata_mut().insert(metadata::OUTCOME, outcome);
            assert_eq!(said(refused, purpose), "no", "{purpose:?}");
        }
    }
}
