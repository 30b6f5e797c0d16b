//! TLS: between nodes always both ways, towards clients as the flags say.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::calls::hello;
use common::{Cluster, Node, eventually, ports, timed};
use proto::peer::peer_service_client::PeerServiceClient;
use proto::peer::{Frame, SnapshotFrame, SnapshotOffer, snapshot_frame};
use proto::raft::key_value_service_client::KeyValueServiceClient;
use proto::raft::{GetClusterStatusRequest, PutRequest};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

/// An authority and the certificates that it signs, as files.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
}

impl Authority {
    fn new(dir: &Path) -> Authority {
        fs::create_dir_all(dir).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        fs::write(dir.join("ca.pem"), own.pem()).unwrap();
        Authority {
            issuer: Issuer::new(params, key),
            dir: dir.to_owned(),
        }
    }

    fn sign(&self, name: &str) -> String {
        self.sign_for(name, &["localhost", "127.0.0.1"])
    }

    /// A certificate for these names and addresses.
    fn sign_for(&self, name: &str, subjects: &[&str]) -> String {
        let subjects: Vec<String> = subjects.iter().map(|subject| (*subject).to_owned()).collect();
        let params = CertificateParams::new(subjects).unwrap();
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.file(&format!("{name}.pem")), signed.pem()).unwrap();
        fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
        let file = |end: &str| self.file(&format!("{name}.{end}")).display().to_string();
        format!(
            "--tls-cert {} --tls-key {} --tls-ca {}",
            file("pem"),
            file("key"),
            self.file("ca.pem").display()
        )
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A client that trusts this authority, with a certificate or without.
    fn client(&self, identity: Option<&str>) -> ClientTlsConfig {
        let read = |name: &str| fs::read(self.file(name)).unwrap();
        let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("ca.pem")));
        match identity {
            None => config,
            Some(name) => config.identity(Identity::from_pem(
                read(&format!("{name}.pem")),
                read(&format!("{name}.key")),
            )),
        }
    }
}

fn channel(port: u16, tls: Option<ClientTlsConfig>) -> Channel {
    let endpoint = match tls {
        None => Endpoint::from_shared(format!("http://localhost:{port}")).unwrap(),
        Some(tls) => Endpoint::from_shared(format!("https://localhost:{port}"))
            .unwrap()
            .tls_config(tls)
            .unwrap(),
    };
    endpoint.connect_timeout(Duration::from_secs(5)).connect_lazy()
}

async fn put(port: u16, tls: Option<ClientTlsConfig>) -> Result<(), Status> {
    let channel = channel(port, tls);
    let request = PutRequest {
        key: "k".into(),
        value: "v".into(),
        ..Default::default()
    };
    KeyValueServiceClient::new(channel)
        .put(timed(request))
        .await
        .map(drop)
}

async fn put_somewhere(cluster: &Cluster, tls: &ClientTlsConfig) {
    eventually("a write over TLS", async || {
        let mut last = Err(Status::unknown("nobody was asked"));
        for port in &cluster.ports {
            last = put(*port, Some(tls.clone())).await;
            if last.is_ok() {
                return Ok(());
            }
        }
        last
    })
    .await;
}

#[tokio::test]
async fn nodes_replicate_over_tls_and_take_nothing_that_does_not_come_over_it() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new(&dir.path().join("ours"));
    let theirs = Authority::new(&dir.path().join("theirs"));
    let flags = ours.sign("node");
    let cluster = Cluster::start_with(3, &flags.split(' ').collect::<Vec<_>>()).await;
    put_somewhere(&cluster, &ours.client(None)).await;
    for port in &cluster.ports {
        assert!(put(*port, None).await.is_err(), "plain text is refused");
        assert!(
            put(*port, Some(theirs.client(None))).await.is_err(),
            "the client does not know this authority"
        );
    }
    // The program that manages a cluster.
    let ctl = |tls: &[&str]| {
        let address = cluster.address(0);
        let output = Command::new(env!("CARGO_BIN_EXE_server"))
            .args(["ctl", "--endpoint", &address, "status"])
            .args(tls)
            .output();
        let output = output.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let ca = ours.file("ca.pem").display().to_string();
    let (code, table) = ctl(&["--tls-ca", &ca]);
    assert_eq!((code, table.matches("voter").count()), (Some(0), 3), "{table}");
    let (code, said) = ctl(&[]);
    assert_eq!(code, Some(5));
    assert!(said.contains("name its authority with --tls-ca"), "{said}");
}

#[tokio::test]
async fn with_client_auth_a_client_shows_a_certificate_of_the_authority() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new(&dir.path().join("ours"));
    let theirs = Authority::new(&dir.path().join("theirs"));
    let flags = format!("{} --tls-client-auth", ours.sign("node"));
    ours.sign("client");
    theirs.sign("client");
    let cluster = Cluster::start_with(3, &flags.split(' ').collect::<Vec<_>>()).await;
    put_somewhere(&cluster, &ours.client(Some("client"))).await;
    assert!(put(cluster.ports[0], Some(ours.client(None))).await.is_err());
    let read = |name: &str| fs::read(theirs.file(name)).unwrap();
    let stranger = ours
        .client(None)
        .identity(Identity::from_pem(read("client.pem"), read("client.key")));
    assert!(put(cluster.ports[0], Some(stranger)).await.is_err());
}

#[tokio::test]
async fn a_node_without_a_certificate_of_the_authority_is_no_peer() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new(&dir.path().join("ours"));
    let theirs = Authority::new(&dir.path().join("theirs"));
    let ports = ports::take(2);
    let start = |at: usize, tls: &str| {
        let name = format!("node{}", at + 1);
        let line = format!("--port {} --peers localhost:{} {tls}", ports[at], ports[1 - at]);
        let flags: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Node::start(&name, &dir.path().join(&name), &flags)
    };
    let mut first = start(0, &ours.sign("node1"));
    let mut second = start(1, &theirs.sign("node2"));
    first.log_contains("no link to this peer").await;
    second.log_contains("no link to this peer").await;
    second.kill();
    // Without any TLS at all.
    let mut second = start(1, "");
    second.log_contains("no link to this peer").await;
    assert!(!first.log().contains("link up") && !second.log().contains("link up"));
    let status = KeyValueServiceClient::new(
        Endpoint::from_shared(format!("https://localhost:{}", ports[0]))
            .unwrap()
            .tls_config(ours.client(None))
            .unwrap()
            .connect_lazy(),
    )
    .get_cluster_status(timed(GetClusterStatusRequest {}))
    .await;
    assert_eq!(status.unwrap().into_inner().leader_id, "");
}

#[tokio::test]
async fn files_that_make_no_tls_are_refused_before_anything_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new(&dir.path().join("ours"));
    let good = ours.sign("node");
    ours.sign("other");
    let mixed = good.replace("node.key", "other.key");
    let nothing = good.replace("node.pem", "nothing.pem");
    let swapped = good.replace("ca.pem", "node.key");
    for (flags, told) in [
        (mixed.as_str(), "make no TLS"),
        (nothing.as_str(), "cannot read"),
        (swapped.as_str(), "holds no CERTIFICATE"),
        ("--tls-client-auth", "--tls-cert"),
    ] {
        let line = format!("--port 0 --single-node {flags}");
        let flags: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let data = dir.path().join("data");
        let said = Node::start("node1", &data, &flags).refuses_with(2).await;
        assert!(said.contains(told), "{flags:?}: {said}");
        assert!(!data.exists());
    }
}

/// What a node says to somebody who calls it as `name`: to a stream and to a snapshot.
async fn claims(port: u16, tls: ClientTlsConfig, name: &str, store_id: u64) -> [Result<(), Status>; 2] {
    let hello = hello(name, store_id);
    let mut client = PeerServiceClient::new(channel(port, Some(tls)));
    let frame = Frame {
        hello: Some(hello.clone()),
        ..Default::default()
    };
    let exchanged = client.exchange(timed(tokio_stream::iter([frame]))).await;
    let offer = SnapshotOffer {
        hello: Some(hello),
        // Of a term that no node is in any more: whoever gets so far is told that.
        term: 0,
        last_term: 0,
        last_index: 1,
        snapshot_id: 1,
        total_bytes: 1,
    };
    let frame = SnapshotFrame {
        kind: Some(snapshot_frame::Kind::Offer(offer)),
    };
    let offered = client.send_snapshot(timed(tokio_stream::iter([frame]))).await;
    [exchanged.map(drop), offered.map(drop)]
}

fn codes(answers: [Result<(), Status>; 2]) -> [Code; 2] {
    answers.map(|answer| answer.map_or_else(|status| status.code(), |()| Code::Ok))
}

#[tokio::test]
async fn a_peer_shows_a_certificate_for_the_node_that_it_claims_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new(&dir.path().join("ours"));
    let flags = ours.sign("node");
    for name in ["node2", "node3", "elsewhere"] {
        ours.sign_for(name, &[name]);
    }
    let mut cluster = Cluster::start_with(3, &flags.split(' ').collect::<Vec<_>>()).await;
    put_somewhere(&cluster, &ours.client(None)).await;
    for at in 0..3 {
        cluster.node(at).log_contains("link up").await;
    }
    let port = cluster.ports[0];
    let text = fs::read_to_string(cluster.data_dir(1).join("identity")).unwrap();
    let store_id = u64::from_str_radix(text.split(' ').next().unwrap(), 16).unwrap();
    let claim = async |identity: Option<&str>| claims(port, ours.client(identity), "node2", store_id).await;

    // A certificate of the authority is needed, and one for that node: by its name, or by the host where it is.
    let none = claim(None).await;
    assert_eq!(codes(none), [Code::Unauthenticated; 2]);
    for other in ["node3", "elsewhere"] {
        let refused = eventually("node1 to have found node2", async || {
            let answers = claim(Some(other)).await;
            match answers
                .clone()
                .map(|answer| answer.is_err_and(|status| status.code() == Code::PermissionDenied))
            {
                [true, true] => Ok(answers),
                _ => Err(answers),
            }
        })
        .await;
        for status in refused.map(Result::unwrap_err) {
            assert!(
                status
                    .message()
                    .contains("valid neither for node2 nor for localhost"),
                "{status}"
            );
        }
    }
    cluster
        .node(0)
        .log_contains("says it is node2, but its certificate")
        .await;
    for own in ["node2", "node"] {
        assert_eq!(codes(claim(Some(own)).await), [Code::Ok, Code::Aborted], "{own}");
    }
}
