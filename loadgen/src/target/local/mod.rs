//! Fresh clusters on this machine, for those who name a store but no nodes of it.
//!
//! The reference store and the echo are this very executable, started as a node (`loadgen node`, `loadgen node-echo`); other
//! stores are what is installed. All listen on 127.0.0.1 only, on ports that the system hands out, with empty data folders.
//!
//! Promises: a cluster is ready when its start returns: every node answers, and all know the same leader. Nothing is left when
//! it is stopped or dropped: no process, no temporary folder. If this process is killed, so are the nodes: ours notice that
//! their standard input is gone, the others are killed by the system (`PR_SET_PDEATHSIG`); only then, the temporary
//! folder stays. Never restarts a node, and never measures anything: see [`crate::run()`].

mod echo_server;
mod error;
mod keeper;
mod launch;
mod ports;
mod ready;

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use super::Target;
use keeper::{Keeper, Start};
use ready::Ready;

#[cfg(test)]
pub(super) use echo_server::EchoMessage;
pub(crate) use echo_server::serve_echo;
pub use error::LocalError;
pub use launch::{Launch, NodeCommand, Plan, Program, Seat};

/// So often a cluster is started on other ports because somebody took one of its own in the meantime.
const STARTS_MAX: u32 = 4;

/// How a local cluster is started. The default is what a target thinks best.
#[derive(Debug, Clone, Default)]
pub struct LocalOptions {
    /// How many nodes; three unless given, and one of those that keep nothing.
    pub nodes: Option<usize>,
    /// Where data and logs are kept, in a folder for each node. It must be new or empty, and stays. Unless given, they are kept
    /// in a temporary folder that goes with the cluster.
    pub dir: Option<PathBuf>,
    /// The executable that acts as a node of our own; this one unless given. For tests, which are other executables.
    pub executable: Option<PathBuf>,
    /// Where other programs are looked for, in the form of `PATH`; that of this process unless given.
    pub search_path: Option<OsString>,
}

/// One node of a local cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalNode {
    /// `n1`, `n2` and so on.
    pub name: String,
    /// Where clients reach it, as host:port.
    pub address: String,
    /// Its process: the store's own, with nothing in between.
    pub pid: u32,
}

/// What a local cluster is, for whoever reads its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Scheme of its target.
    pub scheme: &'static str,
    /// Name and version.
    pub software: String,
    /// How many nodes.
    pub nodes: usize,
    /// The command line of the first node, in words.
    pub flags: Vec<String>,
    /// When a write is on disk.
    pub durability: &'static str,
    /// Kind of file system that the data is on, such as `ext4`.
    pub filesystem: String,
    /// That file system is in memory: syncing costs nothing there, and protects from nothing.
    pub in_memory: bool,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Description {
            software,
            nodes,
            durability,
            filesystem,
            ..
        } = self;
        let plural = if *nodes == 1 { "" } else { "s" };
        write!(
            f,
            "{software}, {nodes} node{plural} on this machine, {durability}; data on {filesystem}"
        )?;
        if self.in_memory {
            f.write_str(", which is in memory: nothing waits for a disk")?;
        }
        Ok(())
    }
}

/// A running cluster. Dropping it kills its processes and waits until they are gone.
#[derive(Debug)]
pub struct LocalCluster {
    target: Arc<dyn Target>,
    nodes: Vec<LocalNode>,
    description: Description,
    folder: PathBuf,
    keeper: Keeper,
}

impl LocalCluster {
    /// Starts a cluster and waits until it is ready. If another process takes one of its ports in the meantime, it is started
    /// again on others, up to four times in all. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the target has no local clusters, a program is missing, a folder cannot be made or is not empty, a node ends, or the
    /// cluster is not ready in half a minute. Nothing is left running then.
    pub async fn start(target: Arc<dyn Target>, options: &LocalOptions) -> Result<LocalCluster, LocalError> {
        let mut starts = 0;
        loop {
            starts += 1;
            match LocalCluster::start_once(&target, options).await {
                Err(error) if error.is_port_taken() && starts < STARTS_MAX => {
                    tracing::debug!(%error, "a port was taken; starting on others");
                    if let Some(folder) = &options.dir {
                        clear(folder)?;
                    }
                }
                ended => return ended,
            }
        }
    }

    async fn start_once(
        target: &Arc<dyn Target>,
        options: &LocalOptions,
    ) -> Result<LocalCluster, LocalError> {
        let scheme = target.scheme();
        let launch = target.launch().ok_or(LocalError::NotLocal { scheme })?;
        let count = count(launch, options.nodes)?;
        let executable = match &options.executable {
            Some(executable) => executable.clone(),
            None => std::env::current_exe().map_err(|source| LocalError::NoExecutable { source })?,
        };
        // Before anything is made: a missing program is the likeliest refusal.
        let installed = Installed {
            executable: &executable,
            search_path: options.search_path.clone().or_else(|| std::env::var_os("PATH")),
        };
        let (folder, temporary) = make_folder(options.dir.as_deref())?;
        let plan = plan(launch, count, &folder)?;
        let commands: Vec<_> = (0..count).map(|node| launch.command(&plan, node)).collect();
        let mut starts = Vec::with_capacity(count);
        for (seat, command) in plan.seats.iter().zip(&commands) {
            starts.push(Start {
                name: seat.name.clone(),
                command: installed.command(command, seat)?,
            });
        }
        let (keeper, pids) = Keeper::start(starts, temporary).await?;
        let presence = Ready::new(target, launch, &plan).wait(&keeper).await?;
        let (filesystem, in_memory) = filesystem(&folder);
        Ok(LocalCluster {
            target: Arc::clone(target),
            nodes: nodes(&plan, &pids),
            description: Description {
                scheme,
                software: launch.software(&presence),
                nodes: count,
                flags: commands
                    .into_iter()
                    .next()
                    .map_or(Vec::new(), |first| first.arguments),
                durability: launch.durability(),
                filesystem,
                in_memory,
            },
            folder,
            keeper,
        })
    }

    /// What kind of store it is.
    pub fn target(&self) -> &Arc<dyn Target> {
        &self.target
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[LocalNode] {
        &self.nodes
    }

    /// Where clients reach its nodes, as host:port.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address.clone()).collect()
    }

    /// Name and process id of each node.
    pub fn pids(&self) -> Vec<(String, u32)> {
        self.nodes
            .iter()
            .map(|node| (node.name.clone(), node.pid))
            .collect()
    }

    /// What it is.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Where the data and the logs of its nodes are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether all of its nodes still run.
    ///
    /// # Errors
    /// Which one does not, and how it ended.
    pub async fn check(&self) -> Result<(), LocalError> {
        match self.keeper.look().await?.into_iter().next() {
            Some(ended) => Err(LocalError::ended(&self.folder, ended)),
            None => Ok(()),
        }
    }

    /// Ends its nodes, as abruptly as a power cut (what they acknowledged is on disk), and removes the temporary folder.
    ///
    /// # Errors
    /// If a node had ended before, or the folder could not be removed. Nothing runs any more all the same.
    pub async fn stop(self) -> Result<(), LocalError> {
        let ended = self.keeper.stop().await?;
        match ended.into_iter().next() {
            Some(ended) => Err(LocalError::ended(&self.folder, ended)),
            None => Ok(()),
        }
    }
}

fn count(launch: &dyn Launch, wanted: Option<usize>) -> Result<usize, LocalError> {
    let (usual, most) = launch.nodes();
    match wanted.unwrap_or(usual) {
        wanted if (1..=most).contains(&wanted) => Ok(wanted),
        wanted => Err(LocalError::Nodes { wanted, most }),
    }
}

fn plan(launch: &dyn Launch, count: usize, folder: &Path) -> Result<Plan, LocalError> {
    let each = launch.ports();
    let ports = ports::free(count * each).map_err(|source| LocalError::NoPort { source })?;
    let seats = ports.chunks(each).enumerate();
    let seats: Vec<_> = seats
        .map(|(number, ports)| {
            let name = format!("n{}", number + 1);
            Seat {
                ports: ports.to_vec(),
                data: folder.join(&name).join("data"),
                log: log_of(folder, &name),
                name,
            }
        })
        .collect();
    for seat in &seats {
        let folder = folder.join(&seat.name);
        fs::create_dir(&folder).map_err(|source| LocalError::Folder {
            path: folder.clone(),
            source,
        })?;
    }
    Ok(Plan {
        token: format!("whitewater-{:016x}", RandomState::new().hash_one(folder)),
        folder: folder.to_owned(),
        seats,
    })
}

/// Log of the node of this name.
fn log_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(name).join("log")
}

fn nodes(plan: &Plan, pids: &[u32]) -> Vec<LocalNode> {
    let seats = plan.seats.iter().zip(pids);
    seats
        .map(|(seat, pid)| LocalNode {
            name: seat.name.clone(),
            address: seat.address(),
            pid: *pid,
        })
        .collect()
}

/// The folder of a cluster, and the same if it is to be removed with it.
fn make_folder(given: Option<&Path>) -> Result<(PathBuf, Option<TempDir>), LocalError> {
    let Some(given) = given else {
        let made = tempfile::Builder::new().prefix("whitewater-").tempdir();
        let made = made.map_err(|source| LocalError::Folder {
            path: std::env::temp_dir(),
            source,
        })?;
        return Ok((made.path().to_owned(), Some(made)));
    };
    let failed = |source| LocalError::Folder {
        path: given.to_owned(),
        source,
    };
    fs::create_dir_all(given).map_err(failed)?;
    if fs::read_dir(given).map_err(failed)?.next().is_some() {
        let path = given.to_owned();
        return Err(LocalError::NotEmpty { path });
    }
    // Nodes may be started in another working directory some day; a path that is absolute means the same everywhere.
    Ok((given.canonicalize().map_err(failed)?, None))
}

/// Removes what a start that failed made in a folder that was empty before.
fn clear(folder: &Path) -> Result<(), LocalError> {
    let failed = |source| LocalError::Folder {
        path: folder.to_owned(),
        source,
    };
    for entry in fs::read_dir(folder).map_err(failed)? {
        fs::remove_dir_all(entry.map_err(failed)?.path()).map_err(failed)?;
    }
    Ok(())
}

/// What can be run.
struct Installed<'a> {
    executable: &'a Path,
    search_path: Option<OsString>,
}

impl Installed<'_> {
    fn command(&self, node: &NodeCommand, seat: &Seat) -> Result<Command, LocalError> {
        let mut command = Command::new(self.executable);
        if let Program::Installed {
            name,
            package,
            withheld,
        } = node.program
        {
            let program = self
                .find(name)
                .ok_or(LocalError::NotInstalled { name, package })?;
            command
                .args(["node-exec", "--parent", &std::process::id().to_string(), "--"])
                .arg(program);
            let variables = std::env::vars_os().map(|(variable, _)| variable);
            for variable in variables.filter(|variable| variable.to_str().is_some_and(withheld)) {
                command.env_remove(variable);
            }
        }
        let log = File::create(&seat.log).map_err(|source| LocalError::Folder {
            path: seat.log.clone(),
            source,
        })?;
        command
            .args(&node.arguments)
            // The other end stays open as long as this process lives.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // A Ctrl-C in the terminal is for this process to handle, not for the nodes.
            .process_group(0);
        Ok(command)
    }

    /// The first executable file of this name on the path.
    fn find(&self, name: &str) -> Option<PathBuf> {
        let folders = std::env::split_paths(self.search_path.as_ref()?);
        let mut files = folders.map(|folder| folder.join(name));
        files.find(|file| {
            fs::metadata(file).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
        })
    }
}

/// Kind of file system that this folder is on, and whether that is in memory.
fn filesystem(folder: &Path) -> (String, bool) {
    use nix::sys::statfs;
    let Ok(about) = statfs::statfs(folder) else {
        return ("an unknown file system".to_owned(), false);
    };
    let kind = about.filesystem_type();
    let known = [
        (statfs::TMPFS_MAGIC, "tmpfs"),
        (statfs::EXT4_SUPER_MAGIC, "ext4"),
        (statfs::XFS_SUPER_MAGIC, "xfs"),
        (statfs::BTRFS_SUPER_MAGIC, "btrfs"),
        (statfs::OVERLAYFS_SUPER_MAGIC, "overlayfs"),
        (statfs::NFS_SUPER_MAGIC, "nfs"),
    ];
    let name = known.iter().find(|(magic, _)| *magic == kind);
    let name = name.map_or_else(
        || format!("file system {:#x}", kind.0),
        |(_, name)| (*name).into(),
    );
    (name, kind == statfs::TMPFS_MAGIC)
}
