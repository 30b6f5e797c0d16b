//! One node process: started, killed, stopped, paused, and started again on the same port and data.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::{ClusterError, ClusterSpec, make_folder};

/// A node says that it listens within this time, recovery of its log included.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// A node that was asked to stop is gone within this time.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// So often a process is looked at while something is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// So much of a log is shown when a node fails.
const TAIL_LINES: usize = 5;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(ExitStatus);

impl Exit {
    /// Whether it ended by itself and without complaint.
    pub fn is_success(self) -> bool {
        self.0.success()
    }

    /// The signal that ended it, if one did.
    pub fn signal(self) -> Option<i32> {
        self.0.signal()
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("an unknown end"),
        }
    }
}

/// A node: what it takes to start it, and its process while there is one.
pub struct NodeProcess {
    name: String,
    port: u16,
    command: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    pid: Option<Pid>,
    paused: bool,
    starts: u32,
}

impl NodeProcess {
    /// A node that is not started yet.
    pub(super) fn prepare(
        spec: &ClusterSpec,
        name: String,
        port: u16,
        peers: &[String],
    ) -> Result<NodeProcess, ClusterError> {
        let folder = spec.folder.join(&name);
        make_folder(&folder)?;
        let mut command = spec.command.clone();
        let data = folder.join("data");
        let flags = [
            "--node-id",
            &name,
            "--port",
            &port.to_string(),
            "--data-dir",
            &data.display().to_string(),
        ];
        command.extend(flags.map(str::to_owned));
        match peers {
            [] => command.push("--single-node".to_owned()),
            _ => command.extend(["--peers".to_owned(), peers.join(",")]),
        }
        command.push("--exit-with-stdin".to_owned());
        command.extend(spec.node_arguments.iter().cloned());
        let log = folder.join("log");
        Ok(NodeProcess {
            name,
            port,
            command,
            log,
            child: None,
            pid: None,
            paused: false,
            starts: 0,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens, past all proxies.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its process, while there is one.
    pub fn pid(&self) -> Option<i32> {
        self.pid.map(Pid::as_raw)
    }

    /// Whether it was paused and not resumed.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.starts
    }

    /// Starts the process; [`NodeProcess::ready`] waits until it listens.
    pub async fn start(&mut self) -> Result<(), ClusterError> {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = self.open_log()?;
        let (program, arguments) = self.command.split_first().expect("a command has a program");
        let child = Command::new(program)
            .args(arguments)
            // The other end stays open as long as this process lives: see `--exit-with-stdin`.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // A Ctrl-C in the terminal is for this process to handle, not for the nodes.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| ClusterError::Spawn {
                node: self.name.clone(),
                program: program.clone(),
                source,
            })?;
        self.pid = child.id().map(|pid| Pid::from_raw(pid as i32));
        self.child = Some(child);
        self.paused = false;
        self.starts += 1;
        Ok(())
    }

    /// Waits until the node says that it listens.
    pub async fn ready(&mut self) -> Result<(), ClusterError> {
        let Some(stdout) = self.child.as_mut().and_then(|child| child.stdout.take()) else {
            return Ok(());
        };
        let mut lines = BufReader::new(stdout).lines();
        let told = timeout(READY_TIMEOUT, async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.starts_with("listening on ") {
                    return true;
                }
            }
            false
        });
        match told.await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let exit = self.wait(STOP_TIMEOUT).await?;
                Err(ClusterError::EndedEarly {
                    node: self.name.clone(),
                    exit,
                    log: self.log.clone(),
                    tail: tail(&self.log),
                })
            }
            Err(_) => Err(ClusterError::NotReady {
                node: self.name.clone(),
                waited: READY_TIMEOUT,
                log: self.log.clone(),
            }),
        }
    }

    /// Ends the process at once, as `kill -9` does, and waits until it is gone. Returns its last process id.
    pub async fn kill(&mut self) -> Result<i32, ClusterError> {
        let pid = self.signal(Signal::SIGKILL)?;
        let exit = self.wait(STOP_TIMEOUT).await?;
        match exit.signal() {
            Some(signal) if signal == Signal::SIGKILL as i32 => Ok(pid),
            _ => Err(self.crashed(format!("was to be killed but had ended by itself with {exit}"))),
        }
    }

    /// Asks the process to stop and waits until it has.
    pub async fn stop(&mut self) -> Result<i32, ClusterError> {
        let pid = self.signal(Signal::SIGTERM)?;
        let exit = self.wait(STOP_TIMEOUT).await?;
        match exit.is_success() {
            true => Ok(pid),
            false => Err(self.crashed(format!("was asked to stop and ended with {exit}"))),
        }
    }

    /// Freezes the process. Confirmed when the system shows it as stopped.
    pub async fn pause(&mut self) -> Result<i32, ClusterError> {
        let pid = self.signal(Signal::SIGSTOP)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while process_state(pid) != Some('T') {
            if Instant::now() > deadline {
                return Err(self.failed(format!("process {pid} does not stop on SIGSTOP")));
            }
            sleep(LOOK_EVERY).await;
        }
        self.paused = true;
        Ok(pid)
    }

    /// Lets a paused process go on.
    pub async fn resume(&mut self) -> Result<i32, ClusterError> {
        let pid = self.signal(Signal::SIGCONT)?;
        self.paused = false;
        Ok(pid)
    }

    /// The end of a process that nobody told to end, once.
    pub fn ended_by_itself(&mut self) -> Option<ClusterError> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        self.pid = None;
        Some(self.crashed(format!("ended by itself with {}", Exit(status))))
    }

    /// Ends the process whatever its state, gracefully if it can. Fails, with the process gone, if it had to be killed
    /// or complained.
    pub(super) async fn end(&mut self) -> Result<(), ClusterError> {
        if self.child.is_none() {
            return Ok(());
        }
        if self.paused {
            let _ = self.resume().await;
        }
        let result = self.stop().await;
        if self.child.is_some() {
            let _ = self.kill().await;
            return Err(self.crashed(format!("did not stop within {STOP_TIMEOUT:?} and was killed")));
        }
        result.map(drop)
    }

    fn signal(&self, signal: Signal) -> Result<i32, ClusterError> {
        let pid = self
            .pid
            .ok_or_else(|| self.failed(format!("cannot get {signal}: it does not run")))?;
        kill(pid, signal).map_err(|error| self.failed(format!("cannot get {signal}: {error}")))?;
        Ok(pid.as_raw())
    }

    async fn wait(&mut self, limit: Duration) -> Result<Exit, ClusterError> {
        let Some(child) = self.child.as_mut() else {
            return Err(self.failed("has no process to wait for".to_owned()));
        };
        match timeout(limit, child.wait()).await {
            Ok(Ok(status)) => {
                self.child = None;
                self.pid = None;
                self.paused = false;
                Ok(Exit(status))
            }
            Ok(Err(error)) => Err(self.failed(format!("cannot be waited for: {error}"))),
            Err(_) => Err(self.failed(format!("is not gone after {limit:?}"))),
        }
    }

    fn open_log(&self) -> Result<File, ClusterError> {
        let open = OpenOptions::new().create(true).append(true).open(&self.log);
        open.map_err(|source| ClusterError::Folder {
            path: self.log.clone(),
            source,
        })
    }

    fn crashed(&self, what: String) -> ClusterError {
        ClusterError::Crashed {
            node: self.name.clone(),
            what,
            log: self.log.clone(),
            tail: tail(&self.log),
        }
    }

    fn failed(&self, what: String) -> ClusterError {
        ClusterError::Process {
            node: self.name.clone(),
            what,
        }
    }
}

/// The one-letter state in `/proc/<pid>/stat`: `T` for a stopped process.
fn process_state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name in parentheses may hold anything, so look behind the last of them.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// The last lines of a log, on one line; from the message of a panic on, if that is how it ended.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let panic = lines.iter().rposition(|line| line.contains("panicked at"));
    let end = panic.map_or(lines.len(), |panic| (panic + TAIL_LINES).min(lines.len()));
    lines[end.saturating_sub(TAIL_LINES)..end].join(" | ")
}
