//! A disk in memory that can lose power and fail on demand, and a model of what a log should hold.
#![allow(dead_code, reason = "each test file uses its own part")]

mod logs;

// Tests of snapshots need the disk only.
#[allow(unused_imports)]
pub(crate) use logs::*;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use server::disk::{Disk, DiskFile, DiskLock, LockError};

pub(crate) const SECTOR: usize = 512;

/// A small generator, enough for choosing cases: SplitMix64.
pub(crate) struct Rng(u64);

impl Rng {
    /// From `WHITEWATER_SEED` or the given default; prints what it took, so that a failure can be repeated.
    pub(crate) fn from_env(default: u64) -> Rng {
        let seed = std::env::var("WHITEWATER_SEED")
            .map_or(default, |text| text.parse().expect("WHITEWATER_SEED is a number"));
        println!("WHITEWATER_SEED={seed}");
        Rng(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// One file: what survives a power cut for certain, what programs see, and the writes between the two.
#[derive(Clone, Default)]
struct FileState {
    durable: Vec<u8>,
    live: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone)]
enum DirOp {
    Link(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// All of the disk. Cloning it is taking an image.
#[derive(Clone, Default)]
pub(crate) struct DiskState {
    files: Vec<FileState>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    unsynced_names: Vec<DirOp>,
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, op: &DirOp) {
    match op {
        DirOp::Link(path, file) => {
            names.insert(path.clone(), *file);
        }
        DirOp::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        DirOp::Remove(path) => {
            names.remove(path);
        }
    }
}

fn write(into: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if into.len() < at + bytes.len() {
        into.resize(at + bytes.len(), 0);
    }
    into[at..at + bytes.len()].copy_from_slice(bytes);
}

impl DiskState {
    /// How many unsynced sectors differ from what is durable: the bits of a power cut.
    pub(crate) fn sectors_at_risk(&self) -> usize {
        self.files.iter().map(|file| at_risk(file).len()).sum()
    }

    /// The disk after a power cut. `survives` is asked for every sector at risk, in order; the names lose a random
    /// part of their latest changes, latest first, as journals do.
    pub(crate) fn power_cut(&self, rng: &mut Rng, mut survives: impl FnMut(&mut Rng) -> bool) -> DiskState {
        let survivor = |file: &FileState| {
            let mut after = file.durable.clone();
            // The length is metadata of its own: either the old one or the new one.
            if file.live.len() > after.len() && rng.chance(50) {
                after.resize(file.live.len(), 0);
            }
            for (at, sector) in at_risk(file) {
                if survives(rng) {
                    write(&mut after, at, &sector);
                }
            }
            FileState {
                live: after.clone(),
                durable: after,
                unsynced: Vec::new(),
            }
        };
        let files = self.files.iter().map(survivor).collect();
        let mut names = self.durable_names.clone();
        let kept = rng.below(self.unsynced_names.len() as u64 + 1) as usize;
        for op in &self.unsynced_names[..kept] {
            apply(&mut names, op);
        }
        DiskState {
            files,
            durable_names: names.clone(),
            names,
            unsynced_names: Vec::new(),
        }
    }

    /// Names and contents as programs see them, without the lock file.
    pub(crate) fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.names
            .iter()
            .map(|(path, file)| (path.clone(), self.files[*file].live.clone()))
            .collect()
    }

    /// Changes the content of a file behind everybody's back.
    pub(crate) fn damage(&mut self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let file = &mut self.files[self.names[path]];
        change(&mut file.live);
        file.durable = file.live.clone();
        file.unsynced.clear();
    }

    /// Takes a file away.
    pub(crate) fn lose(&mut self, path: &Path) {
        self.names.remove(path);
        self.durable_names.remove(path);
    }
}

/// The sectors of a file whose unsynced content differs from the durable one, in the order in which they were written.
fn at_risk(file: &FileState) -> Vec<(usize, Vec<u8>)> {
    let mut sectors = Vec::new();
    let mut seen = file.durable.clone();
    for (at, bytes) in &file.unsynced {
        let mut done = 0;
        while done < bytes.len() {
            let start = at + done;
            let len = (SECTOR - start % SECTOR).min(bytes.len() - done);
            let piece = &bytes[done..done + len];
            let old = seen.get(start..start + len);
            if old != Some(piece) && !(old.is_none() && piece.iter().all(|byte| *byte == 0)) {
                sectors.push((start, piece.to_vec()));
                write(&mut seen, start, piece);
            }
            done += len;
        }
    }
    sectors
}

/// What should fail, counted in calls from now on; 0 is the next one.
#[derive(Default)]
pub(crate) struct Faults {
    pub(crate) sync_in: Option<u64>,
    pub(crate) write_in: Option<(u64, i32)>,
    pub(crate) allocate_in: Option<(u64, i32)>,
}

/// Told the path under which the file was created or opened; says whether this sync is to fail.
type Hook = Box<dyn FnMut(&str) -> bool + Send>;

#[derive(Default)]
struct Inner {
    state: DiskState,
    faults: Faults,
    locked: BTreeMap<PathBuf, ()>,
    /// An image after every change, if wanted.
    images: Option<Vec<DiskState>>,
    syncs: u64,
}

/// The disk.
#[derive(Clone, Default)]
pub(crate) struct MemDisk {
    inner: Arc<Mutex<Inner>>,
    /// Called at the start of every sync, outside the lock of the disk.
    before_sync: Arc<Mutex<Option<Hook>>>,
}

impl MemDisk {
    pub(crate) fn of(state: DiskState) -> MemDisk {
        let disk = MemDisk::default();
        disk.lock_inner().state = state;
        disk
    }

    fn lock_inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics while it holds the disk")
    }

    pub(crate) fn state(&self) -> DiskState {
        self.lock_inner().state.clone()
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.lock_inner().faults = faults;
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.lock_inner().syncs
    }

    pub(crate) fn record_images(&self) {
        self.lock_inner().images = Some(Vec::new());
    }

    pub(crate) fn images_so_far(&self) -> usize {
        self.lock_inner().images.as_ref().map_or(0, Vec::len)
    }

    pub(crate) fn take_images(&self) -> Vec<DiskState> {
        self.lock_inner().images.take().unwrap_or_default()
    }

    pub(crate) fn before_sync(&self, hook: impl FnMut(&str) -> bool + Send + 'static) {
        *self.before_sync.lock().expect("not poisoned") = Some(Box::new(hook));
    }

    fn change<T>(&self, change: impl FnOnce(&mut DiskState) -> T) -> T {
        let mut inner = self.lock_inner();
        let outcome = change(&mut inner.state);
        let image = inner.state.clone();
        if let Some(images) = &mut inner.images {
            images.push(image);
        }
        outcome
    }

    fn file(&self, file: usize, path: &Path) -> Box<dyn DiskFile> {
        Box::new(MemFile {
            disk: self.clone(),
            file,
            path: path.to_owned(),
        })
    }
}

fn not_found() -> io::Error {
    io::Error::from_raw_os_error(2)
}

/// Counts a fault down and says whether it is due.
fn due(fault: &mut Option<u64>) -> bool {
    match fault {
        Some(0) => {
            *fault = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

fn due_with(fault: &mut Option<(u64, i32)>) -> Option<io::Error> {
    let (left, errno) = (*fault)?;
    if left > 0 {
        *fault = Some((left - 1, errno));
        return None;
    }
    // A full disk stays full.
    Some(io::Error::from_raw_os_error(errno))
}

impl Disk for MemDisk {
    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.lock_inner();
        let inside = inner.state.names.keys().filter(|p| p.parent() == Some(dir));
        let names = inside.filter_map(|path| path.file_name()?.to_str());
        Ok(names.map(str::to_owned).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.lock_inner().state.names.get(path).copied();
        Ok(self.file(file.ok_or_else(not_found)?, path))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.change(|state| {
            state.files.push(FileState::default());
            let file = state.files.len() - 1;
            let op = DirOp::Link(path.to_owned(), file);
            apply(&mut state.names, &op);
            state.unsynced_names.push(op);
            file
        });
        Ok(self.file(file, path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|state| {
            if !state.names.contains_key(from) {
                return Err(not_found());
            }
            let op = DirOp::Rename(from.to_owned(), to.to_owned());
            apply(&mut state.names, &op);
            state.unsynced_names.push(op);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            let op = DirOp::Remove(path.to_owned());
            apply(&mut state.names, &op);
            state.unsynced_names.push(op);
            Ok(())
        })
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        self.change(|state| {
            state.durable_names = state.names.clone();
            state.unsynced_names.clear();
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        let mut inner = self.lock_inner();
        if inner.locked.insert(path.to_owned(), ()).is_some() {
            return Err(LockError::Held {
                holder: "a test".to_owned(),
            });
        }
        Ok(Box::new(MemLock {
            disk: self.clone(),
            path: path.to_owned(),
        }))
    }
}

struct MemLock {
    disk: MemDisk,
    path: PathBuf,
}

impl DiskLock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.disk.lock_inner().locked.remove(&self.path);
    }
}

struct MemFile {
    disk: MemDisk,
    file: usize,
    path: PathBuf,
}

impl DiskFile for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let inner = self.disk.lock_inner();
        let live = &inner.state.files[self.file].live;
        let from = live.get(offset as usize..).unwrap_or_default();
        let count = from.len().min(buf.len());
        buf[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let fault = due_with(&mut self.disk.lock_inner().faults.write_in);
        // A write that fails has written something.
        let written = if fault.is_some() {
            &buf[..buf.len() / 2]
        } else {
            buf
        };
        self.disk.change(|state| {
            let file = &mut state.files[self.file];
            write(&mut file.live, offset as usize, written);
            file.unsynced.push((offset as usize, written.to_vec()));
        });
        fault.map_or(Ok(()), Err)
    }

    fn sync_data(&self) -> io::Result<()> {
        let path = self.path.to_str().unwrap_or_default();
        let hooked = match &mut *self.disk.before_sync.lock().expect("not poisoned") {
            Some(hook) => hook(path),
            None => false,
        };
        let fails = {
            let mut inner = self.disk.lock_inner();
            inner.syncs += 1;
            due(&mut inner.faults.sync_in) || hooked
        };
        self.disk.change(|state| {
            let file = &mut state.files[self.file];
            if fails {
                // As Linux does it: the pages are clean now, programs still see them, the disk never gets them.
                file.unsynced.clear();
                return Err(io::Error::from_raw_os_error(5));
            }
            for (at, bytes) in std::mem::take(&mut file.unsynced) {
                write(&mut file.durable, at, &bytes);
            }
            let len = file.live.len();
            file.durable.resize(len, 0);
            Ok(())
        })
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.disk.lock_inner().state.files[self.file].live.len() as u64)
    }

    fn allocate(&self, len_bytes: u64) -> io::Result<()> {
        if let Some(error) = due_with(&mut self.disk.lock_inner().faults.allocate_in) {
            return Err(error);
        }
        self.disk.change(|state| {
            state.files[self.file].live.resize(len_bytes as usize, 0);
        });
        Ok(())
    }

    fn forget_cache(&self) -> io::Result<()> {
        self.disk.change(|state| {
            let file = &mut state.files[self.file];
            let mut truth = file.durable.clone();
            for (at, bytes) in &file.unsynced {
                write(&mut truth, *at, bytes);
            }
            truth.resize(file.live.len().max(truth.len()), 0);
            file.live = truth;
        });
        Ok(())
    }
}

// --- logs and their model ---
