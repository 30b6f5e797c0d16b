//! Where a case runs: a fault proxy, an upstream that the test drives by hand, and connections between them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chaos::proxy::{Embedded, FaultProxy, Stream, Toxic, ToxicKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The one upper limit: nothing a case does takes nearly as long.
const CASE_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Rig {
    pub(crate) proxy: FaultProxy,
    /// Behind the HTTP API, where there is one of ours.
    host: Option<Embedded>,
    /// A shared server is used by one test at a time: resetting all is resetting everybody's.
    _turn: Option<tokio::sync::MutexGuard<'static, ()>>,
}

impl Rig {
    pub(crate) fn embedded() -> Self {
        Self {
            proxy: FaultProxy::embedded(seed()),
            host: None,
            _turn: None,
        }
    }

    #[cfg(feature = "toxiproxy")]
    pub(crate) async fn over_http() -> Self {
        let host = Embedded::new(seed());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = host.serve_api(listener).unwrap();
        let proxy = FaultProxy::remote(&format!("http://{addr}")).await.unwrap();
        Self {
            proxy,
            host: Some(host),
            _turn: None,
        }
    }

    #[cfg(feature = "toxiproxy")]
    pub(crate) async fn real_server() -> Option<Self> {
        static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let Some(url) = std::env::var("TOXIPROXY_URL").ok().filter(|url| !url.is_empty()) else {
            println!("not run against a real server: TOXIPROXY_URL does not name one");
            return None;
        };
        let turn = TURN.lock().await;
        Some(Self {
            proxy: FaultProxy::remote(&url).await.unwrap(),
            host: None,
            _turn: Some(turn),
        })
    }

    /// A proxy with a name of its own, in front of an upstream that the test drives.
    pub(crate) async fn link(&self) -> Link<'_> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "ww-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = upstream.local_addr().unwrap().to_string();
        let addr = self.proxy.create(&name, &to).await.unwrap();
        Link {
            rig: self,
            name,
            upstream,
            addr,
        }
    }
}

/// `WHITEWATER_SEED` repeats a run; toxicity in these cases is 1, so only jitter and slicing depend on it.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("WHITEWATER_SEED")
        .ok()
        .map_or(42, |text| text.parse().unwrap());
    println!("WHITEWATER_SEED={seed}");
    seed
}

/// Runs a case and cleans up after it, also when it fails.
pub(crate) async fn run(rig: Rig, case: impl AsyncFnOnce(&Rig)) {
    let result = catch(tokio::time::timeout(CASE_MAX, case(&rig))).await;
    rig.proxy.shutdown().await;
    if let Some(host) = &rig.host {
        host.shutdown().await;
    }
    match result {
        Ok(Ok(())) => {}
        Ok(Err(_)) => panic!("the case did not end within {CASE_MAX:?}"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Awaits a future and hands a panic in it back as an error.
async fn catch<T>(future: impl Future<Output = T>) -> std::thread::Result<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(
        |cx| match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => std::task::Poll::Ready(Err(panic)),
        },
    )
    .await
}

pub(crate) struct Link<'a> {
    rig: &'a Rig,
    pub(crate) name: String,
    pub(crate) upstream: TcpListener,
    pub(crate) addr: SocketAddr,
}

impl Link<'_> {
    /// A connection through the proxy: the client's end and the server's.
    pub(crate) async fn pair(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.addr).await.unwrap();
        let (server, _) = self.upstream.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        (client, server)
    }

    pub(crate) async fn add(&self, stream: Stream, kind: ToxicKind) {
        self.rig
            .proxy
            .add_toxic(&self.name, Toxic::new(stream, kind))
            .await
            .unwrap();
    }

    pub(crate) async fn remove(&self, stream: Stream, kind: ToxicKind) {
        self.rig
            .proxy
            .remove_toxic(&self.name, &Toxic::new(stream, kind).name)
            .await
            .unwrap();
    }

    /// Answers every connection with what it says, until the returned set is dropped.
    pub(crate) fn echo(self) -> (SocketAddr, JoinSet<()>) {
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = self.upstream.accept().await {
                connections.spawn(async move {
                    let (mut read, mut write) = stream.split();
                    // The other side may cut it at any moment.
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        (self.addr, tasks)
    }
}

pub(crate) async fn say(from: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).await.unwrap();
}

pub(crate) async fn hear(at: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    at.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// Sends through and checks that just that arrives.
pub(crate) async fn passes(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    say(from, bytes).await;
    assert_eq!(hear(to, bytes.len()).await, bytes);
}

/// Reads until the connection ends, in whichever way; returns what came before.
pub(crate) async fn rest(at: &mut TcpStream) -> (Vec<u8>, Option<io::ErrorKind>) {
    let mut bytes = Vec::new();
    let error = at.read_to_end(&mut bytes).await.err().map(|error| error.kind());
    (bytes, error)
}

pub(crate) async fn is_refused(addr: SocketAddr) -> bool {
    match TcpStream::connect(addr).await {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            true
        }
    }
}
