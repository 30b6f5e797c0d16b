//! The listening side of a proxy: open, it accepts and owns connections; shut, it keeps its port but refuses.
//!
//! While shut, the address stays bound to a socket that does not listen. Connection attempts are refused all the
//! same, but the system does not hand the port out to others, nor as the source port of an attempt to reach it, which
//! on one machine would connect that attempt to itself. Only who asks for just this port can still take it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, lookup_host};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::connection::{Link, serve};

/// Attempts that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// When the system is out of descriptors, accepting is tried again after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) enum Gate {
    /// Accepting.
    Open {
        /// Dropping it closes the listener and all connections.
        stop: oneshot::Sender<()>,
        task: JoinHandle<()>,
    },
    /// Refusing. Without a socket when the port could not be kept; opening then tries to get it back.
    Shut { reserved: Option<TcpSocket> },
}

/// Binds without listening. Says which port it became.
pub(super) async fn reserve(listen: &str) -> io::Result<(TcpSocket, SocketAddr)> {
    let addr = resolve(listen).await?;
    let socket = bind(addr)?;
    let addr = socket.local_addr()?;
    Ok((socket, addr))
}

/// The first address a listen string stands for. An empty one means some port of the loopback.
pub(super) async fn resolve(listen: &str) -> io::Result<SocketAddr> {
    let listen = match listen {
        "" => "127.0.0.1:0".to_owned(),
        port if port.starts_with(':') => format!("0.0.0.0{port}"),
        listen => listen.to_owned(),
    };
    lookup_host(&listen)
        .await?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("`{listen}` has no address")))
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Connections that were cut a moment ago may still be winding down on this port.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

impl Gate {
    /// Starts to accept, if it does not already.
    pub(super) fn open(&mut self, addr: SocketAddr, link: Arc<Link>) -> io::Result<()> {
        let Self::Shut { reserved } = self else {
            return Ok(());
        };
        let socket = match reserved.take() {
            Some(socket) => socket,
            None => bind(addr)?,
        };
        let listener = socket.listen(BACKLOG)?;
        let (stop, stopped) = oneshot::channel();
        *self = Self::Open {
            stop,
            task: tokio::spawn(accept(listener, link, stopped)),
        };
        Ok(())
    }

    /// Closes the listener and every connection; when this returns they are closed.
    pub(super) async fn shut(&mut self, addr: SocketAddr) {
        if let Self::Open { stop, task } = std::mem::replace(self, Self::Shut { reserved: None }) {
            drop(stop);
            if let Err(error) = task.await {
                tracing::warn!(%addr, %error, "a proxy's accept loop did not end by itself");
            }
            *self = Self::Shut {
                reserved: bind(addr).ok(),
            };
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }
}

async fn accept(listener: TcpListener, link: Arc<Link>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let number = link.tally.accepted.fetch_add(1, Relaxed);
                    connections.spawn(serve(client, Arc::clone(&link), number));
                }
                Err(error) => {
                    tracing::warn!(%error, "a proxy could not accept a connection, trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    connections.shutdown().await;
}
