//! `chaos up` with stores that are not ours.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn chaos(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
    command.args(args);
    command
}

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

/// A cluster that ends when the test does.
struct Up(Child);

impl Up {
    fn start(args: &[&str]) -> (Up, Vec<String>) {
        let mut child = chaos(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let up = Up(child);
        let told: serde_json::Value = serde_json::from_str(&line).unwrap();
        let endpoints = told["endpoints"].as_array().unwrap().iter();
        let endpoints = endpoints.map(|endpoint| endpoint.as_str().unwrap().to_owned());
        (up, endpoints.collect())
    }

    fn interrupt(mut self) -> Option<i32> {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGINT).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until nobody listens any more: the connection ends when the process does.
fn stays_until_interrupted(args: &[&str], nodes: usize) {
    let (up, endpoints) = Up::start(args);
    assert_eq!(endpoints.len(), nodes);
    let connections = endpoints
        .iter()
        .map(|endpoint| TcpStream::connect(endpoint).unwrap());
    let connections: Vec<TcpStream> = connections.collect();
    assert_eq!(up.interrupt(), Some(0));
    for mut connection in connections {
        let mut rest = Vec::new();
        // Ended or reset, which is the same to us.
        let _ = connection.read_to_end(&mut rest);
    }
    for endpoint in endpoints {
        assert!(TcpStream::connect(&endpoint).is_err(), "{endpoint} still answers");
    }
}

#[test]
fn an_echo_stays_until_it_is_interrupted() {
    stays_until_interrupted(&["up", "--target", "echo", "--json"], 1);
}

#[test]
fn real_etcd_nodes_stay_until_they_are_interrupted() {
    if output(Command::new("sh").args(["-c", "command -v etcd"]))
        .stdout
        .is_empty()
    {
        println!("skipped: etcd is not installed (Debian: etcd-server)");
        return;
    }
    stays_until_interrupted(&["up", "--target", "etcd", "--json"], 3);
}

#[test]
fn a_store_that_is_not_installed_is_named_with_its_package() {
    let missing = output(chaos(&["up", "--target", "etcd"]).env("PATH", "/nowhere"));
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(missing.status.code(), Some(5), "{said}");
    assert!(said.contains("etcd-server"), "{said}");
}

#[test]
fn what_cannot_be_started_is_refused() {
    for target in ["null", "etcd://127.0.0.1:1", "redis"] {
        let refused = output(&mut chaos(&["up", "--target", target]));
        assert_eq!(refused.status.code(), Some(2), "{target}");
    }
}
