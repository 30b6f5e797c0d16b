//! The connections that a node takes: only so many, and none that says nothing.
//!
//! Promises: clients, however many connect, never use up the files that the log and the peers need. A connection beyond
//! the limit is closed at once; one on which nothing has arrived in time is closed as well. Never looks at what is said.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::cork::Corked;

/// Whoever connects must say something within this time.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The wait after the system could not give a connection, for it will not be able to at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Files that are not for clients: log, snapshots, peers, metrics, and what the runtime needs.
const FILES_KEPT: u64 = 64;
/// The warning that connections are refused is given so often at most.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Raises the number of files that this process may open as far as it goes, and returns how many connections fit: what
/// was asked for, or fewer.
pub(super) fn connections_max(asked: usize) -> usize {
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, hard)| {
        match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            Err(_) => soft,
        }
    });
    let fit = usize::try_from(files.saturating_sub(FILES_KEPT)).unwrap_or(usize::MAX);
    if fit < asked {
        tracing::warn!(
            "--max-connections {asked} does not fit into the {files} files that this process may open (`ulimit -n`): \
             {fit} are taken"
        );
    }
    asked.min(fit).max(1)
}

/// The connections that come in, as long as there are not too many.
pub(super) fn incoming(
    listener: TcpListener,
    connections_max: usize,
) -> impl Stream<Item = io::Result<Connection>> {
    let room = Arc::new(Semaphore::new(connections_max));
    let state = (listener, room, None::<Instant>);
    futures_util::stream::unfold(state, move |(listener, room, mut warned)| async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    if is_time_to(&mut warned) {
                        tracing::warn!("cannot take a connection: {error}");
                    }
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                if is_time_to(&mut warned) {
                    tracing::warn!(
                        "closed a new connection: {connections_max} are open, the limit (--max-connections)"
                    );
                }
                continue;
            };
            let connection = stream.set_nodelay(true).map(|()| Connection::new(stream, permit));
            // It is gone already.
            let Ok(connection) = connection else { continue };
            return Some((Ok(connection), (listener, room, warned)));
        }
    })
}

fn is_time_to(last: &mut Option<Instant>) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= WARN_EVERY);
    if due {
        *last = Some(Instant::now());
    }
    due
}

/// A connection that makes room when it ends.
pub(super) struct Connection {
    stream: Corked<TcpStream>,
    /// Until something has arrived.
    silence: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, permit: OwnedSemaphorePermit) -> Connection {
        Connection {
            stream: Corked::new(stream),
            silence: Some(Box::pin(sleep_until(Instant::now() + SILENCE_MAX))),
            _permit: permit,
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.get_ref().connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(read) => {
                self.silence = None;
                Poll::Ready(read)
            }
            Poll::Pending => match &mut self.silence {
                None => Poll::Pending,
                Some(silence) => {
                    ready!(silence.as_mut().poll(cx));
                    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                }
            },
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::AsyncReadExt as _;
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn beyond_the_limit_connections_are_closed_and_room_is_made_when_one_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = Box::pin(incoming(listener, 2));
        let mut clients = Vec::new();
        let mut taken = Vec::new();
        for _ in 0..2 {
            clients.push(TcpStream::connect(address).await.unwrap());
            taken.push(incoming.next().await.unwrap().unwrap());
        }
        let mut third = TcpStream::connect(address).await.unwrap();
        let refused = async { third.read(&mut [0; 1]).await.map_or(0, |bytes| bytes) };
        tokio::select! {
            _ = incoming.next() => panic!("there is no room"),
            bytes = refused => assert_eq!(bytes, 0),
        }
        taken.pop();
        let _fourth = TcpStream::connect(address).await.unwrap();
        assert!(incoming.next().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn who_says_nothing_is_closed_in_time_and_who_has_spoken_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = Box::pin(incoming(listener, 2));
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut first = incoming.next().await.unwrap().unwrap();
        let mut talker = TcpStream::connect(address).await.unwrap();
        let mut second = incoming.next().await.unwrap().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut talker, b"x")
            .await
            .unwrap();
        let mut byte = [0; 1];
        second.read_exact(&mut byte).await.unwrap();
        // Time passes as soon as nobody has anything else to do.
        tokio::time::pause();
        let error = first.read(&mut byte).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(second.silence.is_none(), "nothing limits its silence any more");
    }
}
