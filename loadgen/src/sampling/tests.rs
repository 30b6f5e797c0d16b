//! Processes that listen, die and come back, watched from outside.

#![allow(clippy::unwrap_used)]

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::books::Books;
use super::sampler::Pages;
use super::watched::Watched;

const S: u64 = 1_000_000_000;

/// Tells the test below that it is the child.
const LISTEN: &str = "WHITEWATER_TEST_LISTEN";

/// Not a test of its own: the process that the others watch. It listens, works a little, and ends when its input does.
#[test]
fn child_that_listens() {
    let Ok(address) = env::var(LISTEN) else { return };
    let listener = TcpListener::bind(address).unwrap();
    // Until the kernel has counted something; it counts in ticks of 10 ms.
    while crate::cpu::process_cpu().unwrap() < 30_000_000 {
        std::hint::black_box((0..1_000_000_u64).sum::<u64>());
    }
    let mut output = std::io::stdout();
    writeln!(output, "\nlistens at {}", listener.local_addr().unwrap()).unwrap();
    output.flush().unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(address: &str) -> Server {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "sampling::tests::child_that_listens", "--nocapture"])
            .env(LISTEN, address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .map(Result::unwrap)
            .find_map(|line| Some(line.strip_prefix("listens at ")?.parse().unwrap()));
        Server {
            child,
            address: address.unwrap(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open(watched: Vec<Watched>) -> Books {
    let pages = Arc::new(Pages::new(watched.len()));
    Books::open(watched, pages)
}

#[test]
fn a_server_is_found_by_its_port_and_again_after_it_was_killed() {
    let one = Server::start("127.0.0.1:0");
    let address = one.address.to_string();
    let first_pid = one.child.id();
    let mut books = open(vec![Watched::this_process(), Watched::server("node1", &address)]);
    books.sample(0);
    books.sample(S);
    drop(one);
    books.sample(2 * S);
    // Nobody is there, and the next search is made a second later, by the time of the samples.
    books.sample(2 * S + S / 4);
    let two = Server::start(&address);
    books.sample(3 * S);
    books.sample(4 * S);
    books.sample(5 * S);
    let second_pid = two.child.id();
    let resources = books.close(S, 10);
    let node = &resources.processes[1];
    assert_eq!(node.pids, [first_pid, second_pid]);
    let pid = |index: usize| {
        let process = resources.samples[index].processes[1].as_ref();
        process.map(|process| process.pid)
    };
    assert_eq!(
        (0..7).map(pid).collect::<Vec<_>>(),
        [
            Some(first_pid),
            Some(first_pid),
            None,
            None,
            None,
            Some(second_pid),
            Some(second_pid)
        ]
    );
    // The first was there before the sampling began: what it had used then does not count. Of the second all does.
    assert!(node.cpu >= Some(30_000_000), "{node:?}");
    let so_far: Vec<u64> = resources
        .samples
        .iter()
        .filter_map(|sample| sample.processes[1].as_ref())
        .map(|process| process.cpu_user + process.cpu_system)
        .collect();
    assert!(so_far.is_sorted(), "{so_far:?}");
    assert_eq!(resources.notes, Vec::<String>::new());
}

#[test]
fn one_that_comes_late_is_watched_from_then_on() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    drop(socket);
    let mut books = open(vec![Watched::server("node1", &address)]);
    books.sample(0);
    let server = Server::start(&address);
    books.sample(S);
    let resources = books.close(S, 0);
    assert_eq!(resources.processes[0].pids, [server.child.id()]);
    assert!(resources.processes[0].cpu >= Some(30_000_000));
}

#[test]
fn a_process_given_by_its_number_alone_is_not_looked_for_again() {
    let one = Server::start("127.0.0.1:0");
    let watched = Watched {
        name: "node1".into(),
        pid: Some(one.child.id()),
        listens: None,
        ..Watched::server("", "")
    };
    let mut books = open(vec![watched]);
    books.sample(0);
    drop(one);
    (1..5).for_each(|second| books.sample(second * S));
    let resources = books.close(S, 0);
    assert_eq!(resources.processes[0].pids.len(), 1);
    assert!(
        resources.samples[1..]
            .iter()
            .all(|sample| sample.processes == [None])
    );
    assert_eq!(resources.notes, Vec::<String>::new());
}

/// The promise of a tenth of a percent of a core, with room for a machine that is busy and a build that is not optimised:
/// CPU time is counted, not time on the clock.
#[test]
fn a_sample_costs_little() {
    const SAMPLES: u64 = 200;
    let server = Server::start("127.0.0.1:0");
    let watched = vec![
        Watched::this_process(),
        Watched::server("node1", &server.address.to_string()),
    ];
    let mut books = open(watched);
    (0..SAMPLES).for_each(|second| books.sample(second * S));
    let resources = books.close(S, 0);
    let cost = resources.sampling_cpu.unwrap() / SAMPLES;
    println!("{cost} ns of CPU for each sample");
    assert!(cost < 20_000_000, "{cost} ns of CPU for each sample");
}
