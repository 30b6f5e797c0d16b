//! The decision: was what stands where frame *k* should be torn by a power cut, or has it been damaged?
//!
//! Cutting off what had been acknowledged loses data in silence, so a cut needs a reason, and everything without one
//! is damage.
//!
//! | what is there | what stands behind it | verdict |
//! |---|---|---|
//! | anything but a good frame, where the log begins | earlier segments were removed | damaged: that is done once it is synced |
//! | anything but a good frame | any frame in a later segment | damaged: a segment is left only when it is synced |
//! | anything but a good frame | a frame that says *k* was synced before it | damaged |
//! | anything but a good frame | frame *k* itself, somewhere else | damaged: written to the wrong place |
//! | a few single bytes | nothing | stray: cut |
//! | an empty first sector | nothing, or frames that do not vouch for *k* | torn: cut |
//! | an intact header, sectors missing | nothing, or frames that do not vouch for *k* | torn: cut |
//! | an intact header, no sector missing, wrong checksum | – | damaged: it was complete once |
//! | a first sector neither empty nor a header | – | damaged: a sector is never half written |
//! | an intact header that does not belong here | – | damaged |
//!
//! Frames that do not vouch for *k* happen when several were written before one sync and the disk wrote them back out
//! of order. This writer syncs after every frame; the rule is there for logs of other writers of the same format.

use super::frame::{FrameHeader, Lsn};
use crate::raft::Index;

/// What stands where frame *k* should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// The first sector is empty, but something stands behind it.
    NoHeader,
    /// A few bytes up to the end of the segment, far too few for a frame: a header has more, and a copy.
    Stray,
    /// The first sector is not empty and holds no header.
    BadHeader,
    /// Its header, but some sectors of its payload never arrived.
    Torn(FrameHeader),
    /// Its header and all sectors of its payload, which is wrong.
    Rotten(FrameHeader),
    /// The header of some other frame.
    Foreign(FrameHeader),
}

/// What intact headers behind the place tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Later {
    /// The log begins here because earlier segments were removed.
    pub(super) took_over: bool,
    /// A later segment has frames.
    pub(super) segment_has_frames: bool,
    /// The most that any later frame says had been synced before it.
    pub(super) durable_lsn: Lsn,
    /// Frame *k* itself stands further behind.
    pub(super) has_this_frame: bool,
    /// The highest index that any later frame speaks of.
    pub(super) index_last: Index,
}

impl Later {
    /// Takes note of an intact header behind the place where frame `lsn` should be.
    pub(super) fn note(&mut self, lsn: Lsn, header: &FrameHeader, later_segment: bool) {
        // Older frames cannot stand behind newer ones: nothing is ever reused. What looks like one is a payload.
        if header.lsn < lsn {
            return;
        }
        self.segment_has_frames |= later_segment;
        self.durable_lsn = self.durable_lsn.max(header.durable_lsn);
        self.has_this_frame |= header.lsn == lsn;
        self.index_last = self.index_last.max(header.end.index);
    }
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Never acknowledged: forget it, for this reason.
    Cut(&'static str),
    /// Acknowledged, or possibly so: refuse to start, for this reason.
    Damaged(&'static str),
}

/// Decides over `finding` where frame `lsn` should be.
pub(super) fn judge(lsn: Lsn, finding: Finding, later: Later) -> Verdict {
    if later.took_over {
        return Verdict::Damaged(
            "no good frame stands where the log begins, but earlier segments were removed, so there was one",
        );
    }
    if later.segment_has_frames {
        return Verdict::Damaged(
            "no good frame stands here, but a later segment has frames, so this one was complete",
        );
    }
    if later.durable_lsn >= lsn {
        return Verdict::Damaged(
            "no good frame stands here, but a later frame says that this one had been synced",
        );
    }
    if later.has_this_frame {
        return Verdict::Damaged("the frame stands further behind, not where it belongs");
    }
    match finding {
        Finding::NoHeader => {
            Verdict::Cut("the first sector of the frame was never written, so it was never synced")
        }
        Finding::Stray => Verdict::Cut("a few bytes were altered where no frame had been written"),
        Finding::Torn(_) => Verdict::Cut("sectors of the frame were never written, so it was never synced"),
        Finding::Rotten(_) => {
            Verdict::Damaged("the frame's checksum is wrong although every sector of it was written")
        }
        Finding::BadHeader => Verdict::Damaged(
            "the frame's header does not match its checksum; a torn write leaves whole sectors, so this was altered later",
        ),
        Finding::Foreign(_) => Verdict::Damaged("another frame stands where this one belongs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Position;

    const K: Lsn = 7;

    fn header(lsn: Lsn, durable_lsn: Lsn) -> FrameHeader {
        FrameHeader {
            segment: 1,
            lsn,
            durable_lsn,
            prev_crc: 0,
            payload_len: 1000,
            payload_crc: 0,
            records: 1,
            zero_sectors: 0,
            first_index: 5,
            end: Position { term: 1, index: 5 },
            hard_state: Default::default(),
            suspect: None,
            crc: 0,
        }
    }

    fn every_finding() -> [Finding; 6] {
        let own = header(K, K - 1);
        [
            Finding::NoHeader,
            Finding::Stray,
            Finding::BadHeader,
            Finding::Torn(own),
            Finding::Rotten(own),
            Finding::Foreign(header(K + 1, K)),
        ]
    }

    fn cut(finding: Finding, later: Later) -> bool {
        matches!(judge(K, finding, later), Verdict::Cut(_))
    }

    #[test]
    fn only_missing_sectors_are_a_reason_to_cut() {
        let cuts = every_finding().map(|finding| cut(finding, Later::default()));
        assert_eq!(cuts, [true, true, false, true, false, false]);
    }

    #[test]
    fn frames_that_do_not_vouch_for_this_one_change_nothing() {
        let mut later = Later::default();
        later.note(K, &header(K + 1, K - 1), false);
        later.note(K, &header(K + 2, K - 1), false);
        let cuts = every_finding().map(|finding| cut(finding, later));
        assert_eq!(cuts, [true, true, false, true, false, false]);
    }

    #[test]
    fn a_frame_that_vouches_for_this_one_or_a_later_segment_or_the_frame_elsewhere_is_damage() {
        for (lsn, durable, later_segment) in [(K + 1, K, false), (K + 1, K - 1, true), (K, K - 1, false)] {
            let mut later = Later::default();
            later.note(K, &header(lsn, durable), later_segment);
            for finding in every_finding() {
                assert!(!cut(finding, later), "{finding:?} with {later:?}");
            }
        }
    }

    #[test]
    fn the_first_frame_of_a_log_without_its_beginning_is_never_torn() {
        let later = Later {
            took_over: true,
            ..Later::default()
        };
        for finding in every_finding() {
            assert!(!cut(finding, later), "{finding:?}");
        }
    }

    #[test]
    fn an_old_frame_inside_a_payload_is_no_evidence() {
        let mut later = Later::default();
        later.note(K, &header(K - 1, K - 2), true);
        assert_eq!(later, Later::default());
    }
}
