//! What a run was made on and with: machine, executable, commit.
//!
//! The one module of this crate that looks at a clock, at `/proc`, and runs another program (`git`). Nothing here is
//! called while rendering. Whatever cannot be read is absent, never guessed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::{Machine, Nanos};

/// Writes of the disk probe.
pub const FSYNC_PROBE_WRITES: usize = 50;

const FSYNC_PROBE_BYTES: usize = 4096;

impl Machine {
    /// Looks at the machine, and measures `fdatasync` on the disk under `folder`.
    pub fn probe(folder: &Path) -> Machine {
        let fsync = fsync_latencies(folder).ok();
        let quantile = |q| fsync.as_deref().and_then(|sorted| nearest_rank(sorted, q));
        Machine {
            os: kernel(),
            cpu: read("/proc/cpuinfo").and_then(|text| cpu_model(&text)),
            cores: std::thread::available_parallelism()
                .ok()
                .and_then(|n| u32::try_from(n.get()).ok()),
            memory_bytes: read("/proc/meminfo").and_then(|text| memory_bytes(&text)),
            load_average: read("/proc/loadavg").and_then(|text| text.split_whitespace().next()?.parse().ok()),
            fsync_p50: quantile(0.50),
            fsync_p99: quantile(0.99),
        }
    }
}

/// SHA-256 of a file, in hexadecimal.
pub fn binary_sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Commit of the checkout that `dir` lies in, with `-dirty` where tracked files have changes; absent outside one.
pub fn git_commit(dir: &Path) -> Option<String> {
    let commit = git(dir, &["rev-parse", "HEAD"])?;
    let changes = git(dir, &["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changes.is_empty() {
        commit
    } else {
        format!("{commit}-dirty")
    })
}

fn git(dir: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        // Looking must not take the index lock away from somebody at work.
        .arg("--no-optional-locks")
        .arg("-C")
        .arg(dir)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn fsync_latencies(folder: &Path) -> io::Result<Vec<Nanos>> {
    let path = folder.join(format!(".fsync-probe-{}", std::process::id()));
    let measured = (|| {
        let mut file = File::create(&path)?;
        let block = [0x5a; FSYNC_PROBE_BYTES];
        let mut latencies = Vec::with_capacity(FSYNC_PROBE_WRITES);
        for _ in 0..FSYNC_PROBE_WRITES {
            file.write_all(&block)?;
            let start = Instant::now();
            file.sync_data()?;
            latencies.push(Nanos::try_from(start.elapsed().as_nanos()).unwrap_or(Nanos::MAX));
        }
        Ok(latencies)
    })();
    let _ = fs::remove_file(&path);
    measured.map(|mut latencies| {
        latencies.sort_unstable();
        latencies
    })
}

fn nearest_rank(sorted: &[Nanos], q: f64) -> Option<Nanos> {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

fn kernel() -> Option<String> {
    let name = read("/proc/sys/kernel/ostype")?;
    let release = read("/proc/sys/kernel/osrelease")?;
    Some(format!("{} {}", name.trim(), release.trim()))
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    // x86 says `model name`; many ARM kernels say nothing better than `Model` or `Hardware`.
    ["model name", "Model", "Hardware"].iter().find_map(|wanted| {
        cpuinfo.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == *wanted && !value.trim().is_empty()).then(|| value.trim().to_owned())
        })
    })
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn reads_what_proc_says() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n\nprocessor\t: 1\nmodel name\t: Some CPU @ 3 GHz\n";
        assert_eq!(cpu_model(cpuinfo).unwrap(), "Some CPU @ 3 GHz");
        assert_eq!(cpu_model("processor : 0\nmodel name :\n"), None);
        assert_eq!(
            memory_bytes("MemTotal:       16384 kB\nMemFree: 1 kB\n"),
            Some(16384 * 1024)
        );
        assert_eq!(memory_bytes("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn nearest_rank_stays_inside_the_sample() {
        assert_eq!(nearest_rank(&[], 0.5), None);
        assert_eq!(nearest_rank(&[7], 0.0), Some(7));
        assert_eq!(nearest_rank(&[1, 2, 3, 4], 0.5), Some(2));
        assert_eq!(nearest_rank(&[1, 2, 3, 4], 0.99), Some(4));
    }

    #[test]
    fn the_probe_measures_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::probe(dir.path());
        assert!(machine.fsync_p50.is_some());
        assert!(machine.fsync_p50 <= machine.fsync_p99);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_unwritable_folder_means_no_disk_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::probe(&dir.path().join("absent"));
        assert_eq!((machine.fsync_p50, machine.fsync_p99), (None, None));
    }

    #[test]
    fn hashes_a_known_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        fs::write(&path, "abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(binary_sha256(&path).unwrap(), expected);
    }

    #[test]
    fn outside_a_checkout_there_is_no_commit() {
        // The temporary folder could itself lie in somebody's checkout; a folder that does not exist cannot.
        assert_eq!(git_commit(Path::new("/nonexistent-folder-for-this-test")), None);
    }
}
