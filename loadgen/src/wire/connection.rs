//! A connection: the machine of [`super::core`] on a socket, kept by a task.
//!
//! The task writes what has gathered in one go and reads until there is nothing more, so the price of a system call is
//! shared by many calls. It ends with its connection; the next call after that opens a new one.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep_until, timeout};

use super::core::{Cancelled, Core, StreamId};
use super::silence::{Look, Silence};
use super::{Answer, CallError, Completion, Completions, Method, Options};

/// Bytes read at a time.
const READ_BYTES: usize = 128 << 10;

/// One connection, opened when first used, and again after it broke. Clones are the same connection.
#[derive(Debug, Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    address: String,
    options: Options,
    current: Mutex<Option<Arc<Link>>>,
}

/// One life of a connection.
struct Link {
    state: Mutex<State>,
    wake: Notify,
}

struct State {
    core: Core<Reply>,
    /// It has been told that there is something to write.
    woken: bool,
    /// Nobody will use it any more.
    closing: bool,
}

enum Reply {
    Queue(u64, Arc<Completions>),
    One(oneshot::Sender<Result<Answer, CallError>>),
}

/// A call that is out.
pub struct CallId {
    link: Option<Arc<Link>>,
    stream: StreamId,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallId")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// To `address` (host:port); does not connect yet.
    pub fn new(address: &str, options: Options) -> Connection {
        Connection {
            shared: Arc::new(Shared {
                address: address.to_owned(),
                options,
                current: Mutex::new(None),
            }),
        }
    }

    /// Whether there is a connection, perhaps still being made, that the next call will use.
    pub fn is_open(&self) -> bool {
        let current = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().is_some_and(|link| !link.state().core.is_spent())
    }

    /// Begins a call whose completion arrives in `completions` under `token`. `encode` appends the request message. Must be
    /// called within a tokio runtime.
    pub fn submit(
        &self,
        method: Method,
        timeout: Option<Duration>,
        encode: impl FnOnce(&mut Vec<u8>),
        token: u64,
        completions: &Arc<Completions>,
    ) -> CallId {
        self.begin(
            method,
            timeout,
            encode,
            Reply::Queue(token, Arc::clone(completions)),
        )
    }

    /// Makes a call and waits for its answer. Dropping the future gives up on the call.
    pub async fn call(
        &self,
        method: Method,
        timeout: Option<Duration>,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Answer, CallError> {
        let (reply, answer) = oneshot::channel();
        let _out = GiveUp(self.begin(method, timeout, encode, Reply::One(reply)));
        let ended = answer.await;
        ended.unwrap_or_else(|_| Err(CallError::lost("the connection's task ended")))
    }

    fn begin(
        &self,
        method: Method,
        timeout: Option<Duration>,
        encode: impl FnOnce(&mut Vec<u8>),
        reply: Reply,
    ) -> CallId {
        loop {
            let link = self.link();
            let mut state = link.state();
            if state.closing || state.core.is_spent() {
                // It ended between being looked up and being locked; now there is another one.
                continue;
            }
            if state.core.is_full() {
                let full = CallError::not_sent("too many calls wait on the connection");
                reply.send(Err(full), Instant::now());
                return CallId {
                    link: None,
                    stream: 0,
                };
            }
            let stream = state.core.submit(method, timeout, encode, reply);
            state.wake(&link);
            drop(state);
            return CallId {
                link: Some(link),
                stream,
            };
        }
    }

    /// The link to use, which may have to be made.
    fn link(&self) -> Arc<Link> {
        let mut current = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = &*current
            && !link.state().core.is_spent()
        {
            return Arc::clone(link);
        }
        let shared = &self.shared;
        let link = Arc::new(Link {
            state: Mutex::new(State {
                core: Core::new(&shared.address, shared.options.waiting_max),
                woken: false,
                closing: false,
            }),
            wake: Notify::new(),
        });
        if let Some(previous) = current.replace(Arc::clone(&link)) {
            previous.retire();
        }
        tokio::spawn(keep(
            CloseWhenDropped(Arc::clone(&link)),
            shared.address.clone(),
            shared.options.clone(),
        ));
        link
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(link) = self
            .current
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            link.retire();
        }
    }
}

/// Gives up on a call when dropped; one that has ended does not mind.
struct GiveUp(CallId);

impl Drop for GiveUp {
    fn drop(&mut self) {
        let _ = self.0.cancel();
    }
}

impl CallId {
    /// Gives up on the call: its completion never arrives, unless it has ended already. Tells whether the far side may
    /// have seen it.
    pub fn cancel(&self) -> Cancelled {
        let Some(link) = &self.link else {
            return Cancelled::AlreadyDone;
        };
        let mut state = link.state();
        let cancelled = state.core.cancel(self.stream);
        state.wake(link);
        cancelled
    }
}

impl Link {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody will begin another call on it: it ends when it is idle.
    fn retire(&self) {
        self.state().closing = true;
        self.wake.notify_one();
    }

    fn close(&self, reason: &str) {
        let at = Instant::now();
        let mut ended = |reply: Reply, result| reply.send(result, at);
        self.state().core.close(reason, &mut ended);
    }
}

impl State {
    fn wake(&mut self, link: &Link) {
        if !std::mem::replace(&mut self.woken, true) {
            link.wake.notify_one();
        }
    }
}

impl Reply {
    fn send(self, result: Result<Answer, CallError>, at: Instant) {
        match self {
            Reply::Queue(token, completions) => completions.push(Completion { token, at, result }),
            // Whoever asked has given up.
            Reply::One(reply) => drop(reply.send(result)),
        }
    }
}

/// Closes a link whose task ends, also when its runtime is shut down before the task ever ran.
struct CloseWhenDropped(Arc<Link>);

impl Drop for CloseWhenDropped {
    fn drop(&mut self) {
        self.0.close("the task of the connection was stopped");
    }
}

/// The life of a link.
async fn keep(link: CloseWhenDropped, address: String, options: Options) {
    let link = &link.0;
    let connected = timeout(options.connect_timeout, TcpStream::connect(&address)).await;
    let mut stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return link.close(&format!("cannot connect to {address}: {error}")),
        Err(_) => {
            let limit = options.connect_timeout;
            return link.close(&format!(
                "cannot connect to {address}: no answer within {limit:?}"
            ));
        }
    };
    // A hint only: where the system does not take it, calls are merely slower.
    let _ = stream.set_nodelay(true);
    if let Err(error) = converse(link, &mut stream, options.keep_alive).await {
        link.close(&error.to_string());
    }
}

/// Writes and reads until the connection ends, or nobody needs it any more.
async fn converse(link: &Link, stream: &mut TcpStream, keep_alive: Duration) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let mut silence = Silence::new(keep_alive, Instant::now());
    let alarm = sleep_until(silence.due().into());
    tokio::pin!(alarm);
    loop {
        let blocked = match flush(link, stream) {
            Ok(blocked) => blocked,
            Err(error) => {
                hear_out(link, stream, &mut buffer)?;
                return Err(error);
            }
        };
        {
            let state = link.state();
            let idle = state.core.is_idle();
            if state.closing && idle && state.core.outgoing().is_empty() {
                return Ok(());
            }
            silence.expects(!idle, Instant::now);
        }
        tokio::select! {
            biased;
            bytes = poll_fn(|context| poll(stream, blocked, &mut buffer, context)) => {
                if let Some(bytes) = bytes? {
                    let now = Instant::now();
                    silence.broken(now);
                    receive(link, &buffer[..bytes], now)?;
                }
            }
            () = link.wake.notified() => {}
            () = &mut alarm => {
                match silence.look(Instant::now()) {
                    Look::Wait => {}
                    Look::Ask => link.state().core.ping(),
                    Look::GiveUp => {
                        let silent = format!("nothing was heard for {:?}", keep_alive * 2);
                        return Err(io::Error::new(io::ErrorKind::TimedOut, silent));
                    }
                }
                alarm.as_mut().reset(silence.due().into());
            }
        }
    }
}

/// Hands over what has gathered; whether some of it must wait.
fn flush(link: &Link, stream: &TcpStream) -> io::Result<bool> {
    let mut state = link.state();
    state.woken = false;
    while !state.core.outgoing().is_empty() {
        match stream.try_write(state.core.outgoing()) {
            Ok(written) => state.core.handed_over(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Waits until bytes have been read, or, where some must be written, until there is room for them (nothing).
fn poll(
    stream: &mut TcpStream,
    blocked: bool,
    buffer: &mut [u8],
    context: &mut Context<'_>,
) -> Poll<io::Result<Option<usize>>> {
    let mut buffer = ReadBuf::new(buffer);
    if let Poll::Ready(read) = Pin::new(&mut *stream).poll_read(context, &mut buffer) {
        return Poll::Ready(read.map(|()| Some(buffer.filled().len())));
    }
    if blocked && let Poll::Ready(ready) = stream.poll_write_ready(context) {
        return Poll::Ready(ready.map(|()| None));
    }
    Poll::Pending
}

/// Reads what had arrived before writing failed: answers, and perhaps why the far side broke off.
fn hear_out(link: &Link, stream: &TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    while let Ok(bytes @ 1..) = stream.try_read(buffer) {
        receive(link, &buffer[..bytes], Instant::now())?;
    }
    Ok(())
}

/// Takes bytes that were read at this instant.
fn receive(link: &Link, bytes: &[u8], at: Instant) -> io::Result<()> {
    if bytes.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the far side closed it",
        ));
    }
    let mut ended = |reply: Reply, result| reply.send(result, at);
    let received = link.state().core.receive(bytes, &mut ended);
    received.map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, reason))
}
