//! One connection through a proxy: two directions, each a chain of toxics between a read and a write.
//!
//! A connection owns both sockets and nothing else; dropping its future closes them. Without toxics a direction is a
//! plain copy: read into one buffer, write from it, no queue and no allocation.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::Stream;
use super::chain::{Chain, Ready};
use super::counters::Tally;
use super::stage::{Ending, Origin, Placed, What};

/// Toxics see pieces of at most this size; Toxiproxy's number.
const CHUNK_BYTES_MAX: usize = 32 * 1024;

/// The toxics of a proxy at one moment.
///
/// Whoever works by a setup holds it, and with it a sender that is never used: when the last holder lets go, the
/// receiving end is told, and the change that replaced it is known to be in force everywhere.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) toxics: Vec<Arc<Placed>>,
    #[expect(dead_code, reason = "being held is all it does")]
    pub(super) in_use: mpsc::Sender<Infallible>,
}

/// What all connections of a proxy share.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) seed: u64,
    /// The hash of the proxy's name: two proxies of one run draw different numbers.
    pub(super) proxy: u64,
    pub(super) upstream: String,
    pub(super) tally: Arc<Tally>,
    pub(super) setup: watch::Receiver<Arc<Setup>>,
}

/// Why a connection ended before both sides were done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// One of the two sides broke.
    Broken,
    Close,
    Reset,
}

/// Counts a connection as closed however its future ends, and as cut unless it is told otherwise.
struct Closing<'a> {
    tally: &'a Tally,
    cut: bool,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        if self.cut {
            self.tally.cut.fetch_add(1, Relaxed);
        }
        self.tally.closed.fetch_add(1, Relaxed);
    }
}

/// Carries one accepted connection until it ends. `number` counts the connections of this proxy.
pub(super) async fn serve(mut client: TcpStream, link: Arc<Link>, number: u64) {
    let mut closing = Closing {
        tally: &link.tally,
        cut: true,
    };
    // The client has been accepted before anybody knows whether there is an upstream: that is how Toxiproxy does it.
    let mut server = match TcpStream::connect(&link.upstream).await {
        Ok(server) => server,
        Err(error) => {
            tracing::debug!(upstream = %link.upstream, %error, "upstream cannot be reached, closing the client");
            link.tally.refused.fetch_add(1, Relaxed);
            closing.cut = false;
            return;
        }
    };
    // Without this the proxy would add delays of its own; where it fails the socket is dead and reading will tell.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let ended = {
        let (client_in, client_out) = client.split();
        let (server_in, server_out) = server.split();
        let up = Pump::new(&link, Stream::Upstream, number).run(client_in, server_out);
        let down = Pump::new(&link, Stream::Downstream, number).run(server_in, client_out);
        tokio::try_join!(up, down)
    };
    match ended {
        Ok(_) | Err(Cut::Broken) => closing.cut = false,
        Err(Cut::Close) => {}
        Err(Cut::Reset) => {
            // With a linger time of zero, closing sends a reset instead of an orderly end.
            let _ = client.set_zero_linger();
            let _ = server.set_zero_linger();
        }
    }
    // The sockets go first, so that whoever sees the counter move finds them closed.
    drop((client, server));
    drop(closing);
}

/// One direction.
struct Pump {
    stream: Stream,
    chain: Chain,
    changes: watch::Receiver<Arc<Setup>>,
    /// Held for as long as it is worked by.
    setup: Option<Arc<Setup>>,
    tally: Arc<Tally>,
    reported_held: u64,
    reported_dropped: u64,
}

impl Pump {
    fn new(link: &Link, stream: Stream, number: u64) -> Self {
        let origin = Origin {
            seed: link.seed,
            proxy: link.proxy,
            connection: number,
        };
        let mut pump = Self {
            stream,
            chain: Chain::new(origin),
            changes: link.setup.clone(),
            setup: None,
            tally: Arc::clone(&link.tally),
            reported_held: 0,
            reported_dropped: 0,
        };
        pump.adopt();
        pump
    }

    async fn run(mut self, mut source: ReadHalf<'_>, mut dest: WriteHalf<'_>) -> Result<(), Cut> {
        let mut buffer = vec![0; CHUNK_BYTES_MAX].into_boxed_slice();
        let mut reading = true;
        loop {
            let wake = self.chain.step(Instant::now());
            self.report();
            let writing = match self.chain.ready() {
                Some(Ready::Bytes(_)) => true,
                Some(Ready::End(ending)) => return finish(ending, &mut dest).await,
                None => false,
            };
            tokio::select! {
                // In this order: a change that has been announced is in force before another byte moves.
                biased;
                changed = self.changes.changed() => {
                    if changed.is_err() {
                        return Err(Cut::Close);
                    }
                    self.adopt();
                }
                written = write_ready(&mut dest, &self.chain), if writing => match written {
                    Ok(len) => self.written(len),
                    // The receiver is gone. The other direction may still have something from it, and then ends.
                    Err(_) => return Ok(()),
                },
                read = source.read(&mut buffer), if reading && self.chain.has_room() => match read {
                    Ok(0) => {
                        reading = false;
                        self.chain.push(What::End(Ending::Eof), Instant::now());
                    }
                    Err(_) => {
                        reading = false;
                        self.chain.push(What::End(Ending::Broken), Instant::now());
                    }
                    Ok(len) => {
                        if self.take(&buffer[..len], &mut dest).await.is_err() {
                            return Ok(());
                        }
                    }
                },
                () = until(wake) => {}
            }
        }
    }

    /// Takes in what was read. With nothing in the way it goes straight out again.
    async fn take(&mut self, bytes: &[u8], dest: &mut WriteHalf<'_>) -> io::Result<()> {
        let mut sent = 0;
        let mut result = Ok(());
        if self.chain.is_plain() {
            match write_now(dest, bytes).await {
                Ok(len) => sent = len,
                Err(error) => result = Err(error),
            }
            self.tally
                .stream(self.stream)
                .forwarded
                .fetch_add(sent as u64, Relaxed);
        }
        if sent < bytes.len() {
            self.chain
                .push(What::Data(bytes[sent..].to_vec()), Instant::now());
        }
        result
    }

    fn written(&mut self, len: usize) {
        self.chain.written(len);
        self.tally
            .stream(self.stream)
            .forwarded
            .fetch_add(len as u64, Relaxed);
    }

    fn adopt(&mut self) {
        let setup = Arc::clone(&self.changes.borrow_and_update());
        let toxics = setup
            .toxics
            .iter()
            .filter(|placed| placed.toxic.stream == self.stream);
        let now = Instant::now();
        self.chain.apply(toxics, now);
        self.chain.step(now);
        self.report();
        self.setup = Some(setup);
    }

    fn report(&mut self) {
        let (held, dropped) = (self.chain.held_bytes(), self.chain.dropped_bytes());
        if (held, dropped) != (self.reported_held, self.reported_dropped) {
            self.report_as(held, dropped);
        }
    }

    fn report_as(&mut self, held: u64, dropped: u64) {
        let tally = self.tally.stream(self.stream);
        tally.dropped.fetch_add(dropped - self.reported_dropped, Relaxed);
        // Wrapping addition of a difference: right whatever its sign.
        tally
            .held
            .fetch_add(held.wrapping_sub(self.reported_held), Relaxed);
        (self.reported_held, self.reported_dropped) = (held, dropped);
    }
}

impl Drop for Pump {
    /// What was held when the connection ended reaches nobody any more.
    fn drop(&mut self) {
        self.report_as(0, self.chain.dropped_bytes() + self.chain.held_bytes());
    }
}

async fn finish(ending: Ending, dest: &mut WriteHalf<'_>) -> Result<(), Cut> {
    match ending {
        Ending::Eof => {
            // Only this direction: a client that has said everything still gets its answer.
            let _ = dest.shutdown().await;
            Ok(())
        }
        Ending::Broken => Err(Cut::Broken),
        Ending::Close => Err(Cut::Close),
        Ending::Reset => Err(Cut::Reset),
    }
}

async fn write_ready(dest: &mut WriteHalf<'_>, chain: &Chain) -> io::Result<usize> {
    match chain.ready() {
        Some(Ready::Bytes(bytes)) => dest.write(bytes).await,
        _ => pending().await,
    }
}

/// Writes what the socket takes at this moment, without waiting for more room.
async fn write_now(dest: &mut WriteHalf<'_>, bytes: &[u8]) -> io::Result<usize> {
    poll_fn(|cx| match Pin::new(&mut *dest).poll_write(cx, bytes) {
        Poll::Pending => Poll::Ready(Ok(0)),
        ready => ready,
    })
    .await
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
