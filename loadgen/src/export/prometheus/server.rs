//! A responder for `GET /metrics`, and for nothing else.
//!
//! Promises: at most [`CONNECTIONS_MAX`] connections, each with one request of at most [`HEAD_BYTES_MAX`] bytes within
//! [`REQUEST_TIME_MAX`]; whoever is slower, larger or one too many waits or is sent away, and the load does not notice.
//! When the future is dropped, so are its connections. Never reads a body, keeps no connection alive, has no TLS.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections at once; further ones wait in the system's queue.
pub const CONNECTIONS_MAX: usize = 16;
/// Bytes of a request, at most; a longer one is answered with 431.
pub const HEAD_BYTES_MAX: usize = 8192;
/// How long a whole exchange may take; then the connection is closed.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);

/// Where to listen: `9100` and `:9100` mean this machine only (127.0.0.1); anything wider has to be said, as in
/// `0.0.0.0:9100`. Port 0 is any free one.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse::<u16>() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse().map_err(|_| {
        format!(
            "`{text}` is not a place to listen: give a port such as :9100, or an address such as 0.0.0.0:9100"
        )
    })
}

/// Answers requests with what `page` says then, until the listener fails. Must run on a Tokio runtime; `page` is called
/// on it, once a request, and should return at once.
pub async fn serve(
    listener: TcpListener,
    page: impl Fn() -> String + Send + Sync + 'static,
) -> io::Result<()> {
    let page = Arc::new(page);
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            // How one of them ended concerns nobody else.
            let _ = connections.join_next().await;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let page = Arc::clone(&page);
                connections.spawn(async move {
                    // A peer that went away or was too slow has no use for an error.
                    let _ = timeout(REQUEST_TIME_MAX, exchange(stream, &*page)).await;
                });
            }
            Err(error) if is_the_peers_fault(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_the_peers_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

async fn exchange(mut stream: TcpStream, page: &(impl Fn() -> String + Sync)) -> io::Result<()> {
    let head = read_head(&mut stream).await?;
    let answer = answer(head.as_deref(), page);
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// The request up to its empty line; nothing if it is too long.
async fn read_head(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let bytes = stream.read(&mut buffer).await?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&buffer[..bytes]);
        if head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n") {
            return Ok(Some(head));
        }
        if head.len() >= HEAD_BYTES_MAX {
            return Ok(None);
        }
    }
}

fn answer(head: Option<&[u8]>, page: &impl Fn() -> String) -> String {
    let Some(head) = head else {
        return response(
            "431 Request Header Fields Too Large",
            "",
            "the request is too long\n",
            true,
        );
    };
    let line =
        String::from_utf8_lossy(head.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
    let mut words = line.split_whitespace();
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return response("400 Bad Request", "", "this is not HTTP\n", true);
    };
    if !version.starts_with("HTTP/1.") {
        return response("505 HTTP Version Not Supported", "", "use HTTP/1.1\n", true);
    }
    let with_body = method != "HEAD";
    let path = target.split('?').next().unwrap_or_default();
    match (method, path) {
        ("GET" | "HEAD", "/metrics") => response("200 OK", "", &page(), with_body),
        ("GET" | "HEAD", _) => response("404 Not Found", "", "the page is /metrics\n", with_body),
        _ => response(
            "405 Method Not Allowed",
            "Allow: GET, HEAD\r\n",
            "only GET and HEAD\n",
            true,
        ),
    }
}

fn response(status: &str, more: &str, body: &str, with_body: bool) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n{more}\r\n{}",
        body.len(),
        if with_body { body } else { "" }
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn the_page_is_served_and_nothing_else() {
        let listener = TcpListener::bind(listen_address("0").unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(address.ip().is_loopback());
        let client = async {
            let ok = ask(address, b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert!(ok.starts_with("HTTP/1.1 200 OK\r\n"), "{ok}");
            assert!(
                ok.contains("Content-Length: 4\r\n") && ok.ends_with("\r\n\r\na 1\n"),
                "{ok}"
            );
            let head = ask(address, b"HEAD /metrics HTTP/1.0\n\n").await;
            assert!(
                head.contains("Content-Length: 4\r\n") && head.ends_with("\r\n\r\n"),
                "{head}"
            );
            for (request, status) in [
                (&b"GET / HTTP/1.1\r\n\r\n"[..], "404"),
                (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
                (b"GET /metrics HTTP/2\r\n\r\n", "505"),
                (b"hello\r\n\r\n", "400"),
                (b"\xff\xfe\r\n\r\n", "400"),
                (&[b'x'; HEAD_BYTES_MAX], "431"),
            ] {
                let answer = ask(address, request).await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            }
        };
        tokio::select! {
            ended = serve(listener, || "a 1\n".into()) => panic!("{ended:?}"),
            () = client => {}
        }
    }

    #[tokio::test]
    async fn silent_peers_up_to_the_limit_do_not_keep_others_out_for_good() {
        let listener = TcpListener::bind(listen_address(":0").unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = async {
            let mut silent = Vec::new();
            for _ in 0..CONNECTIONS_MAX {
                silent.push(TcpStream::connect(address).await.unwrap());
            }
            let waiting = ask(address, b"GET /metrics HTTP/1.1\r\n\r\n");
            // One that leaves makes room for the one that waits.
            silent.pop();
            assert!(waiting.await.contains("200 OK"));
        };
        tokio::select! {
            ended = serve(listener, String::new) => panic!("{ended:?}"),
            () = client => {}
        }
    }

    #[test]
    fn an_address_without_a_host_is_this_machine() {
        let of = |text: &str| listen_address(text).map(|address| address.to_string());
        assert_eq!(of(":9100").as_deref(), Ok("127.0.0.1:9100"));
        assert_eq!(of("9100").as_deref(), Ok("127.0.0.1:9100"));
        assert_eq!(of("0.0.0.0:9100").as_deref(), Ok("0.0.0.0:9100"));
        assert!(of("somewhere").is_err_and(|error| error.contains(":9100")));
        assert!(of("70000").is_err());
    }
}
