//! Which process listens where: from `/proc/net/tcp` to the socket, from the socket to the process that has it open.
//!
//! Promises: an address of another machine is never looked for here; a process that is known to pass traffic on is told
//! apart from a store. Never opens a connection.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::proc::Reader;

/// Programs that listen in place of a store; what they use says nothing about it.
const PROXIES: [&str; 6] = [
    "docker-proxy",
    // As long as the kernel keeps a name, 15 bytes.
    "toxiproxy-serve",
    "haproxy",
    "envoy",
    "socat",
    "kubectl",
];

/// State of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// Whether `address` belongs to this machine: only then can a socket be bound to it.
pub(super) fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified() || UdpSocket::bind((address, 0)).is_ok()
}

/// Whether a program of this name passes traffic on.
pub(super) fn is_proxy(name: &str) -> bool {
    PROXIES.contains(&name)
}

/// The process that listens at `address`; nothing where nobody does, or where it belongs to somebody whose processes are
/// hidden from us.
pub(super) fn listening_process(reader: &mut Reader, address: SocketAddr) -> Option<u32> {
    let mut best = None;
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        if let Ok(text) = reader.read(format_args!("{table}")) {
            best = best.max(listening_socket(text, address));
        }
    }
    let (_, inode) = best?;
    owner(inode)
}

/// How well a listener fits (an exact address is better than all addresses), and the number of its socket.
fn listening_socket(table: &str, wanted: SocketAddr) -> Option<(bool, u64)> {
    let fits = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let local = parse_address(fields.nth(1)?)?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?.parse().ok()?;
        let exact = local.ip().to_canonical() == wanted.ip().to_canonical();
        let listens = state == LISTENING && local.port() == wanted.port();
        (listens && (exact || local.ip().is_unspecified())).then_some((exact, inode))
    };
    table.lines().skip(1).filter_map(fits).max()
}

/// `0100007F:C383`: the address as words in the machine's byte order, the port as a number.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = address.get(index * 8..index * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for (index, four) in octets.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(index)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The first process that has the socket open.
fn owner(inode: u64) -> Option<u32> {
    let wanted = format!("socket:[{inode}]");
    let has_it = |pid: u32| -> io::Result<bool> {
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            // A file may be closed while we look.
            if fs::read_link(entry?.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str()) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let mut pids: Vec<u32> = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.into_iter().find(|pid| has_it(*pid).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpListener;

    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn addresses_are_read_word_by_word() {
        assert_eq!(
            parse_address("0100007F:C383"),
            Some("127.0.0.1:50051".parse().unwrap())
        );
        assert_eq!(
            parse_address("00000000000000000000000001000000:0050"),
            Some("[::1]:80".parse().unwrap())
        );
        assert_eq!(
            parse_address("0000000000000000FFFF00000100007F:0050").map(|it| it.ip().to_canonical()),
            Some("127.0.0.1".parse().unwrap())
        );
        for wrong in [
            "",
            ":",
            "0100007F",
            "0100007F:",
            "0100007G:0001",
            "01:0001",
            "0100007F:10000",
        ] {
            assert_eq!(parse_address(wrong), None, "{wrong:?}");
        }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn the_listener_at_the_exact_address_is_preferred() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 900 1\n\
             1: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1\n\
             2: 0100007F:0051 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 300 1\n\
             3: torn\n";
        let at = |text: &str| listening_socket(table, text.parse().unwrap());
        assert_eq!(at("127.0.0.1:80"), Some((true, 100)));
        assert_eq!(at("127.0.0.2:80"), Some((false, 900)));
        assert_eq!(at("127.0.0.1:81"), None, "that one is a connection");
        assert_eq!(at("127.0.0.1:82"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_listener_of_this_process_is_found() {
        let mut reader = Reader::default();
        for bind in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listener = TcpListener::bind(bind).unwrap();
            let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
            assert_eq!(listening_process(&mut reader, address), Some(std::process::id()));
            drop(listener);
        }
    }

    #[test]
    fn other_machines_are_not_here() {
        assert!(is_local("127.0.0.1".parse().unwrap()) && is_local("::1".parse().unwrap()));
        // Reserved for documentation: nobody has it.
        assert!(!is_local("192.0.2.1".parse().unwrap()));
        assert!(is_proxy("docker-proxy") && !is_proxy("server"));
    }
}
