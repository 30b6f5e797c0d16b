//! Going on with the good beginning of a damaged log, when it is known how much was promised behind it.
//!
//! The damaged files are copied aside first; they are evidence, and perhaps somebody's last copy. Then the segment with the
//! damage gets a twin that holds its good frames and one more: a checkpoint, numbered behind the newest frame of the old
//! log, that says what is missing. Giving the twin the segment's name is the one step that counts. What is left of the
//! old log in later segments has lower numbers than the checkpoint and is removed, now or, after a crash, by the next
//! open.

use std::path::Path;

use super::error::WalError;
use super::frame::{FrameBuffer, Place};
use super::log::{Held, WalOptions};
use super::recover::{Rebuild, Scan, read_whole};
use super::segment;
use crate::disk::Disk;

pub(super) fn rebuild(
    scan: &mut Scan,
    plan: &Rebuild,
    disk: &dyn Disk,
    dir: &Path,
    options: &WalOptions,
) -> Result<(), WalError> {
    for path in &plan.damaged {
        keep_aside(disk, dir, path, plan.bounds.lsn)?;
    }
    disk.sync_dir(dir)
        .map_err(|source| WalError::io("sync the directory", dir, source))?;

    let shape = &mut scan.shape;
    shape
        .set_hard_state(plan.bounds.hard_state)
        .map_err(|source| WalError::Misuse { seq: 0, source })?;
    shape.distrust(plan.bounds.end);
    scan.recovered.hard_state = plan.bounds.hard_state;

    let at = scan
        .open
        .iter()
        .position(|segment| segment.number == plan.number)
        .expect("the segment with the damage was read last or is behind the end");
    scan.open.truncate(at + 1);
    let damaged = scan.open.pop().expect("it was just found");
    scan.open.clear();
    let lsn = plan.bounds.lsn + 1;
    let mut frame = FrameBuffer::default();
    frame.open_with(lsn - 1, &scan.shape);
    let (header, bytes) = frame.seal(Place {
        segment: damaged.number,
        lsn,
        durable_lsn: lsn - 1,
        prev_crc: scan.prev_crc,
        end: scan.shape.end(),
        hard_state: scan.shape.hard_state(),
        suspect: scan.shape.suspect(),
        align_bytes: damaged.align_bytes,
    });
    let data = read_whole(&*damaged.file).map_err(|source| WalError::io("read", &damaged.path, source))?;
    let unfinished = dir.join(segment::unfinished_name(damaged.number));
    let twin = damaged.rebuild(disk, &unfinished, &data[..plan.keep_bytes], bytes, options)?;
    twin.put_in_place(disk, dir, &unfinished)?;

    // The newest first, so that those that are left after a crash follow the twin without a gap.
    let behind = plan.damaged.iter().filter(|path| **path != twin.path);
    scan.useless.extend(behind.rev().cloned());
    scan.offset = (plan.keep_bytes + bytes.len()) as u64;
    (scan.lsn_next, scan.prev_crc) = (lsn + 1, header.crc);
    scan.held.retain(|held| held.number < twin.number);
    let index_max = scan.shape.end().index;
    scan.held.push_back(Held {
        number: twin.number,
        index_max,
    });
    scan.open.push(twin);
    Ok(())
}

/// Copies a damaged file to a name of its own.
fn keep_aside(disk: &dyn Disk, dir: &Path, path: &Path, lsn: u64) -> Result<(), WalError> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("segment");
    let aside = dir.join(format!("damaged-{lsn}-{name}"));
    let copy = || -> std::io::Result<()> {
        let data = read_whole(&*disk.open(path)?)?;
        let file = disk.create(&aside)?;
        file.write_all_at(&data, 0)?;
        file.sync_data()
    };
    copy().map_err(|source| WalError::io("keep the damaged file as", &aside, source))
}
