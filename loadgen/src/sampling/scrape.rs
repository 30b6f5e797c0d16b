//! What servers say of their disks: a plain HTTP request to their Prometheus page, and the few numbers of it that count.
//!
//! Knows Whitewater's own names and etcd's. Promises to be done within [`SCRAPE_TIMEOUT`] and a little, whatever the other
//! side does. Never speaks TLS and never follows a redirect.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long one request may take, from connecting to the last byte.
pub(super) const SCRAPE_TIMEOUT: Duration = Duration::from_millis(500);

/// Longest page that is read. etcd's has about 100 kB.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Most edges of a histogram that are kept; a page with more is taken to be without one.
const BUCKETS_MAX: usize = 256;

/// The histograms of fsyncs: our own and etcd's.
const HISTOGRAMS: [&str; 2] = [
    "wal_fsync_duration_seconds",
    "etcd_disk_wal_fsync_duration_seconds",
];

/// How far a store's counters of fsyncs have come.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fsyncs {
    pub(super) count: u64,
    /// Nanoseconds.
    pub(super) total: u64,
    /// Longest, nanoseconds, where the store says so.
    pub(super) max: Option<u64>,
    /// Upper edge in nanoseconds and how many took at most that, in rising order; empty where the store has no histogram.
    /// The last edge is infinite (`u64::MAX`).
    pub(super) buckets: Vec<(u64, u64)>,
}

/// Asks the page at `address` for its fsyncs.
pub(super) fn scrape(address: SocketAddr) -> io::Result<Fsyncs> {
    let page = fetch(address, Instant::now() + SCRAPE_TIMEOUT)?;
    fsyncs(&page).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the page has neither wal_fsync_duration_seconds nor etcd_disk_wal_fsync_duration_seconds",
        )
    })
}

fn fetch(address: SocketAddr, deadline: Instant) -> io::Result<String> {
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        // Zero would mean without limit.
        (!left.is_zero())
            .then_some(left)
            .ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "the page did not arrive in time"))
    };
    let mut stream = TcpStream::connect_timeout(&address, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    // HTTP/1.0: the answer comes in one piece and ends with the connection.
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut chunk)? {
            0 => break,
            read => bytes.extend_from_slice(&chunk[..read]),
        }
        if bytes.len() > PAGE_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the page is longer than 4 MiB",
            ));
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))?;
    let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    if !head.starts_with("HTTP/1.") || status != "200" {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "the answer is {:?} instead of 200",
                head.lines().next().unwrap_or_default()
            ),
        ));
    }
    Ok(body.to_owned())
}

/// The counters of fsyncs on a page in Prometheus' text format; nothing if it has none that we know.
fn fsyncs(page: &str) -> Option<Fsyncs> {
    let (mut count, mut total, mut max, mut buckets) = (None, None, None, Vec::new());
    for line in page.lines() {
        let Some((name, value)) = sample(line) else {
            continue;
        };
        let of_histogram = HISTOGRAMS.iter().find_map(|family| name.strip_prefix(family));
        match (name, of_histogram) {
            ("wal_fsync_seconds_max", _) => max = nanoseconds(value),
            (_, Some("_count")) => count = whole(value),
            (_, Some("_sum")) => total = nanoseconds(value),
            (_, Some(rest)) => buckets.extend(bucket(rest, value)),
            (_, None) => {}
        }
    }
    buckets.sort_unstable();
    let whole_histogram =
        buckets.len() <= BUCKETS_MAX && buckets.last().is_some_and(|last| last.0 == u64::MAX);
    if !whole_histogram || buckets.windows(2).any(|pair| pair[0].1 > pair[1].1) {
        buckets.clear();
    }
    Some(Fsyncs {
        count: count?,
        total: total?,
        max,
        buckets,
    })
}

/// Name with labels, and value; the time that may follow is left out.
fn sample(line: &str) -> Option<(&str, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let end = match line.find('}') {
        Some(brace) => brace + 1,
        None => line.find(' ')?,
    };
    let (name, rest) = line.split_at_checked(end)?;
    Some((name, rest.split_ascii_whitespace().next()?.parse().ok()?))
}

fn bucket(labels: &str, value: f64) -> Option<(u64, u64)> {
    let edge = labels.strip_prefix("_bucket{le=\"")?.strip_suffix("\"}")?;
    let edge = match edge {
        "+Inf" => u64::MAX,
        edge => nanoseconds(edge.parse().ok()?)?,
    };
    Some((edge, whole(value)?))
}

fn whole(value: f64) -> Option<u64> {
    (value.is_finite() && value >= 0.0).then_some(value as u64)
}

fn nanoseconds(seconds: f64) -> Option<u64> {
    whole((seconds * 1e9).round())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const OURS: &str = "# HELP wal_fsync_duration_seconds What it took to make group commits durable.\n\
        # TYPE wal_fsync_duration_seconds histogram\n\
        wal_fsync_duration_seconds_bucket{le=\"0.0016\"} 30\n\
        wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 40\n\
        wal_fsync_duration_seconds_sum 0.0625\n\
        wal_fsync_duration_seconds_count 40\n\
        wal_fsync_seconds_max 0.005\nraft_role{role=\"leader\"} 1\n";

    const ETCD: &str = "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 5\n\
        etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"} 18\n\
        etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 20\n\
        etcd_disk_wal_fsync_duration_seconds_sum 0.25\n\
        etcd_disk_wal_fsync_duration_seconds_count 20\n";

    /// Answers one request with these bytes.
    fn answering(bytes: Vec<u8>) -> (SocketAddr, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            // The other side may have hung up on a page that is too long.
            let _ = stream.write_all(&bytes);
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        (address, thread)
    }

    #[test]
    fn the_pages_of_both_stores_are_understood() {
        let ours = fsyncs(OURS).unwrap();
        assert_eq!(
            (ours.count, ours.total, ours.max),
            (40, 62_500_000, Some(5_000_000))
        );
        assert_eq!(ours.buckets, [(1_600_000, 30), (u64::MAX, 40)]);
        let etcd = fsyncs(ETCD).unwrap();
        assert_eq!((etcd.count, etcd.total, etcd.max), (20, 250_000_000, None));
        assert_eq!(etcd.buckets, [(1_000_000, 5), (2_000_000, 18), (u64::MAX, 20)]);
    }

    #[test]
    fn pages_without_these_numbers_have_none_and_broken_histograms_are_dropped() {
        assert_eq!(fsyncs(""), None);
        let [count, sum] = ["count", "sum"].map(|part| format!("wal_fsync_duration_seconds_{part}"));
        assert_eq!(fsyncs(&format!("{count} 40\n")), None);
        assert_eq!(fsyncs(&format!("{count} NaN\n{sum} -1\n")), None);
        let falling = ETCD.replace("\"} 5\n", "\"} 19\n");
        assert!(fsyncs(&falling).unwrap().buckets.is_empty());
        let endless = ETCD.replace("+Inf", "0.004");
        assert!(fsyncs(&endless).unwrap().buckets.is_empty());
    }

    #[test]
    fn a_page_is_fetched() {
        let (address, server) = answering(format!("HTTP/1.0 200 OK\r\nX: y\r\n\r\n{OURS}").into_bytes());
        assert_eq!(scrape(address).unwrap().count, 40);
        assert!(server.join().unwrap().starts_with("GET /metrics HTTP/1.0\r\n"));
    }

    #[test]
    fn whatever_else_answers_is_an_error_that_says_what_it_was() {
        let long = [
            b"HTTP/1.0 200 OK\r\n\r\n".to_vec(),
            vec![b'x'; PAGE_BYTES_MAX + 1],
        ]
        .concat();
        for (answer, words) in [
            (b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec(), "404"),
            (b"\x00\x00\x12\x04\x00".to_vec(), "not HTTP"),
            (b"SSH-2.0-x\r\n\r\n".to_vec(), "SSH-2.0-x"),
            (b"HTTP/1.0 200 OK\r\n\r\nup 1\n".to_vec(), "neither"),
            (long, "longer than"),
        ] {
            let (address, server) = answering(answer);
            let error = scrape(address).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            server.join().unwrap();
        }
    }

    #[test]
    fn somebody_who_says_nothing_is_not_waited_for() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let soon = Instant::now() + Duration::from_millis(20);
        let error = fetch(silent.local_addr().unwrap(), soon).unwrap_err();
        assert!(
            matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
            "{error}"
        );
    }
}
