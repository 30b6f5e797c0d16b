//! Few system calls for many answers.
//!
//! The HTTP/2 library passes every frame of 256 bytes or more to the system by itself, so a node with 100 answers in hand
//! would write 100 times. Here they wait for each other, no longer than other work that is ready to be done now: whoever
//! flushes is woken again behind everything that is due, and only then is all of it written, at once. On an idle node that
//! is at once, too.
//!
//! Promises: bytes leave in the order in which they came, and before the task that wrote them sleeps; what is not written
//! yet is bounded. Requires that one task both reads and writes, and that it reads whenever it is woken, as HTTP/2
//! connections do. Never delays by time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much waits at most; whoever writes more waits for the system.
const WAITING_BYTES_MAX: usize = 64 << 10;
/// Writes of this size are worth a system call of their own.
const LARGE_BYTES: usize = 16 << 10;

/// A stream whose writes are gathered.
pub(super) struct Corked<S> {
    stream: S,
    waiting: Vec<u8>,
    /// So many bytes of what waits are written already.
    written: usize,
    /// Whether the task was woken for what waits.
    woken: bool,
}

impl<S> Corked<S> {
    pub(super) fn new(stream: S) -> Corked<S> {
        Corked {
            stream,
            waiting: Vec::new(),
            written: 0,
            woken: false,
        }
    }

    pub(super) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncWrite + Unpin> Corked<S> {
    /// Writes what waits.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.waiting.len() {
            let rest = &self.waiting[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.written += bytes,
            }
        }
        self.written = 0;
        self.waiting.clear();
        Poll::Ready(Ok(()))
    }

    /// Makes room for another write.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.waiting.len() < WAITING_BYTES_MAX {
            true => Poll::Ready(Ok(())),
            false => self.poll_drain(cx),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Corked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.woken = false;
        if let Poll::Ready(Err(error)) = self.poll_drain(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.as_mut().poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes: usize = bufs.iter().map(|buf| buf.len()).sum();
        if bytes >= LARGE_BYTES {
            ready!(self.poll_drain(cx))?;
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        }
        ready!(self.poll_room(cx))?;
        bufs.iter().for_each(|buf| self.waiting.extend_from_slice(buf));
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.is_empty() {
            return Pin::new(&mut self.stream).poll_flush(cx);
        }
        if !std::mem::replace(&mut self.woken, true) {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// Counts what the system would be asked.
    struct Counted {
        stream: DuplexStream,
        writes: usize,
    }

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.writes += 1;
            Pin::new(&mut self.stream).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }

    fn corked(room_bytes: usize) -> (Corked<Counted>, DuplexStream) {
        let (stream, peer) = duplex(room_bytes);
        (Corked::new(Counted { stream, writes: 0 }), peer)
    }

    /// Reads from the corked end as a connection does, which never ends by itself.
    async fn read(stream: &mut Corked<Counted>) {
        let mut byte = [0];
        let _ = stream.read(&mut byte).await;
    }

    #[tokio::test]
    async fn what_is_flushed_in_one_turn_is_written_at_once_in_the_next() {
        let (mut stream, mut peer) = corked(1 << 20);
        for _ in 0..100 {
            stream.write_all(&[7; 300]).await.unwrap();
            stream.flush().await.unwrap();
        }
        assert_eq!(stream.stream.writes, 0);
        let mut received = vec![0; 100 * 300];
        tokio::select! {
            biased;
            () = read(&mut stream) => panic!("nobody sends"),
            bytes = peer.read_exact(&mut received) => assert_eq!(bytes.unwrap(), received.len()),
        }
        assert_eq!(stream.stream.writes, 1);
        assert!(received.iter().all(|byte| *byte == 7));
    }

    #[tokio::test]
    async fn whoever_flushes_is_woken_once_a_turn() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};
        use std::task::{Wake, Waker};

        #[derive(Default)]
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (mut stream, _peer) = corked(1 << 20);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut stream).poll_flush(&mut cx).is_ready());
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "nothing waits");
        for turn in 1..=3 {
            for _ in 0..5 {
                assert!(Pin::new(&mut stream).poll_write(&mut cx, b"frame").is_ready());
                assert!(Pin::new(&mut stream).poll_flush(&mut cx).is_ready());
            }
            assert_eq!(count.0.load(Ordering::Relaxed), turn);
            let mut byte = [0];
            let mut buf = ReadBuf::new(&mut byte);
            assert!(Pin::new(&mut stream).poll_read(&mut cx, &mut buf).is_pending());
            assert_eq!(stream.stream.writes, turn);
        }
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_the_writer_waits_for_room() {
        let (mut stream, mut peer) = corked(10);
        let endless = async {
            loop {
                stream.write_all(&[1; 1000]).await.unwrap();
                stream.flush().await.unwrap();
            }
        };
        let nobody_reads = tokio::select! {
            biased;
            () = endless => false,
            () = std::future::ready(()) => true,
        };
        assert!(nobody_reads);
        let waiting = stream.waiting.len();
        assert!(
            (WAITING_BYTES_MAX..WAITING_BYTES_MAX + LARGE_BYTES).contains(&waiting),
            "{waiting}"
        );
        let mut received = vec![0; waiting];
        tokio::select! {
            biased;
            () = read(&mut stream) => panic!("nobody sends"),
            bytes = peer.read_exact(&mut received) => assert_eq!(bytes.unwrap(), waiting),
        }
    }

    #[tokio::test]
    async fn what_waits_is_written_before_the_end() {
        let (mut stream, mut peer) = corked(1 << 20);
        stream.write_all(b"goodbye").await.unwrap();
        stream.flush().await.unwrap();
        stream.shutdown().await.unwrap();
        let mut received = Vec::new();
        peer.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"goodbye");
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_an_error_and_not_a_loop() {
        let (mut stream, peer) = corked(10);
        drop(peer);
        stream.write_all(b"hello").await.unwrap();
        let mut byte = [0];
        let error = stream.read(&mut byte).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    proptest! {
        #[test]
        fn bytes_leave_in_the_order_in_which_they_came(
            room_bytes in 1_usize..50_000,
            writes in prop::collection::vec((1_usize..40_000, any::<bool>()), 1..30),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let sent: Vec<u8> = (0..writes.iter().map(|(bytes, _)| bytes).sum::<usize>()).map(|n| (n % 251) as u8).collect();
            let received = runtime.block_on(async {
                let (mut stream, mut peer) = corked(room_bytes);
                let receiving = tokio::spawn(async move {
                    let mut received = Vec::new();
                    peer.read_to_end(&mut received).await.unwrap();
                    received
                });
                let mut rest = &sent[..];
                for (bytes, flush) in &writes {
                    let (now, later) = rest.split_at(*bytes);
                    rest = later;
                    stream.write_all(now).await.unwrap();
                    if *flush {
                        stream.flush().await.unwrap();
                        // The turn ends, and the next begins with a read.
                        poll_fn(|cx| {
                            let mut byte = [0];
                            let mut buf = ReadBuf::new(&mut byte);
                            let _ = Pin::new(&mut stream).poll_read(cx, &mut buf);
                            Poll::Ready(())
                        })
                        .await;
                    }
                }
                stream.shutdown().await.unwrap();
                drop(stream);
                receiving.await.unwrap()
            });
            prop_assert!(received == sent);
        }
    }
}
