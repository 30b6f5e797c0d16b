#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use reports::record::{LoopKind, Operation, OutcomeKind};

use super::*;
use crate::export::hlog::Entry;
use crate::recorder::{Class, Ended, Recorder};
use crate::scribe::IntervalHistograms;

const MS: Nanos = 1_000_000;
const S: Nanos = 1000 * MS;
const BEGINS: Nanos = 2 * S;
const END: Nanos = 7 * S;

/// One operation: when it was planned, how long it waited and took, what it was and how it ended.
type Made = (Nanos, Nanos, Nanos, usize, usize);

fn made() -> impl Strategy<Value = Made> {
    (
        0..4 * S,
        0..300 * MS,
        1..600 * MS,
        0..Operation::ALL.len(),
        0..4_usize,
    )
}

fn ended((planned, wait, took, operation, how): Made) -> Ended {
    let (class, outcome) = [
        (Class::Ok, OutcomeKind::Ok),
        (Class::Failed, OutcomeKind::Unavailable),
        (Class::Unknown, OutcomeKind::TimeoutClient),
        (Class::Unsent, OutcomeKind::Shed),
    ][how];
    let (planned, first) = (BEGINS + planned, BEGINS + planned + wait);
    let operation = Operation::ALL[operation];
    Ended {
        operation,
        planned,
        first,
        done: first + took,
        class,
        outcome,
        error: (class == Class::Failed).then(|| format!("error {}", took % 3)),
        acknowledged_write: class == Class::Ok,
        term: Some(took % 2),
        redirects: u32::from(took % 5 == 0),
        retries: u32::from(took % 7 == 0),
        answered_after: (class == Class::Ok).then_some(took),
        refused: Vec::new(),
        parts: (operation == Operation::Rmw).then_some([took / 3, took - took / 3]),
    }
}

/// What an agent that made these operations would send.
fn part(operations: &[Made]) -> AgentResult {
    let mut recorder = Recorder::new(true, BEGINS, S);
    for made in operations {
        let ended = ended(*made);
        recorder.planned(ended.planned, made.1 / 2);
        recorder.queued(made.1 - made.1 / 2);
    }
    let mut by_end: Vec<Ended> = operations.iter().map(|made| ended(*made)).collect();
    by_end.sort_by_key(|ended| ended.done);
    by_end.iter().for_each(|ended| recorder.ended(ended));
    let totals = recorder.finish(END, END);
    let mut log = IntervalLog::empty(std::time::UNIX_EPOCH);
    for IntervalHistograms {
        start,
        length,
        all,
        tagged,
    } in &totals.histograms
    {
        let (start, length) = (*start as i64, *length as i64);
        log.entries.push(Entry::new(None, start, length, all));
        for (tag, histogram) in tagged {
            let tag = tag.to_string();
            log.entries.push(Entry::new(Some(&tag), start, length, histogram));
        }
    }
    let load = Load {
        kind: LoopKind::Poisson,
        planned: totals.planned,
        counts: totals.counts,
        operations: totals.summary.operations,
        total: Some(totals.summary.total),
        lag: Some(totals.lag),
        intervals: totals.intervals,
        terms: totals.terms,
        redirects: totals.redirects,
        retries: totals.retries,
        longest_write_gap: Some(totals.longest_write_gap),
        write_gaps: totals.write_gaps,
        ..Load::default()
    };
    // As it comes out of the wire: by names, from packed histograms.
    let series: Vec<(String, Latencies)> = totals
        .ledger
        .series()
        .into_iter()
        .map(|(name, latencies)| {
            let (histogram, min, max, sum) = latencies.parts();
            let histogram = hlog::unpack(&hlog::pack(histogram)).unwrap();
            (name, Latencies::from_parts(histogram, min, max, sum).unwrap())
        })
        .collect();
    AgentResult {
        ledger: Ledger::rebuild(&load, 1.0, &series).unwrap(),
        load,
        log,
        history: Vec::new(),
        warmup: Counts::default(),
        queued: 0,
        ended: END,
        stopped: false,
        aborted: None,
    }
}

/// Without what says how sure percentiles are, which parts cannot know.
fn bare(mut load: Load) -> Load {
    let operations = load.operations.values_mut().chain(load.total.as_mut());
    for operation in operations {
        let all = [
            &mut operation.response,
            &mut operation.service,
            &mut operation.attempt,
            &mut operation.scheduled,
        ];
        for percentiles in all.into_iter().flatten() {
            percentiles.confidence = None;
        }
    }
    load
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// Parts of a run that are merged say what the whole would have said: counts, every percentile, minimum, maximum and mean,
    /// every slice, every term, and the log histogram for histogram.
    #[test]
    fn parts_that_are_merged_are_the_whole(
        operations in proptest::collection::vec(made(), 1..150),
        of in 1_usize..5,
    ) {
        let whole = part(&operations);
        let parts: Vec<(String, AgentResult)> = (0..of)
            .map(|index| {
                let own: Vec<Made> = operations.iter().skip(index).step_by(of).copied().collect();
                (format!("a{index}"), part(&own))
            })
            .collect();
        let merged = Merged::of(parts, S, Duration::MAX).unwrap();
        let load = Load {
            verdict: whole.load.verdict.clone(),
            longest_write_gap: whole.load.longest_write_gap,
            write_gap_at_most: None,
            write_gaps: whole.load.write_gaps.clone(),
            ..bare(merged.load.clone())
        };
        prop_assert_eq!(load, bare(whole.load.clone()));
        prop_assert_eq!(merged.log.tags(), whole.log.tags());
        let parts_of = |log: &IntervalLog| -> BTreeMap<(i64, Option<String>), hdrhistogram::Histogram<u64>> {
            log.entries
                .iter()
                .filter(|entry| !entry.histogram().is_empty())
                .map(|entry| ((entry.start, entry.tag.clone()), entry.histogram()))
                .collect()
        };
        prop_assert_eq!(parts_of(&merged.log), parts_of(&whole.log));
    }

    /// A stretch without writes of all agents is one that lies in a gap of each of them.
    #[test]
    fn gaps_of_the_whole_are_gaps_of_every_part(
        writes in proptest::collection::vec((0..5000_u64, any::<bool>()), 1..60),
    ) {
        let gaps = |of: &dyn Fn(&(u64, bool)) -> bool| -> Vec<(Nanos, Nanos)> {
            let mut times: Vec<Nanos> = writes.iter().filter(|write| of(write)).map(|(at, _)| at * MS).collect();
            times.extend([0, 5000 * MS]);
            times.sort_unstable();
            let pairs = times.windows(2).map(|pair| (pair[0], pair[1] - pair[0]));
            pairs.filter(|(_, length)| *length >= GAP_MIN).collect()
        };
        let (left, right) = (gaps(&|write| write.1), gaps(&|write| !write.1));
        prop_assert_eq!(common_gaps(&left, &right), gaps(&|_| true));
    }
}

#[test]
fn the_worst_agent_decides_and_is_named() {
    let enough: Vec<Made> = (0..200).map(|n| (n * MS, 0, MS, 0, 0)).collect();
    let merge = |verdicts: [LoadVerdict; 2], operations: &[Made]| {
        let parts = ["a", "b"].into_iter().zip(verdicts);
        let parts = parts
            .map(|(agent, verdict)| {
                let mut part = part(operations);
                part.load.verdict = verdict;
                (agent.to_owned(), part)
            })
            .collect();
        Merged::of(parts, S, Duration::MAX).unwrap().load.verdict
    };
    let bound = LoadVerdict::GeneratorBound("busy".into());
    let noisy = LoadVerdict::Noisy("steal".into());
    assert_eq!(
        merge([noisy.clone(), bound.clone()], &enough),
        LoadVerdict::GeneratorBound("agent b: busy".into())
    );
    assert_eq!(
        merge([LoadVerdict::Valid, noisy], &enough),
        LoadVerdict::Noisy("agent b: steal".into())
    );
    let thin = LoadVerdict::TooThin("few".into());
    assert_eq!(
        merge([thin.clone(), LoadVerdict::Valid], &enough),
        LoadVerdict::Valid,
        "together they are enough"
    );
    assert!(matches!(
        merge([thin, bound], &enough[..20]),
        LoadVerdict::TooThin(reason) if reason.starts_with("40 operations")
    ));
}

#[test]
fn percentiles_are_as_sure_as_those_of_one_agent_at_most() {
    let many: Vec<Made> = (0..2000).map(|n| (n * 2 * MS, 0, MS + n * 1000, 0, 0)).collect();
    let effective = |parts: usize| {
        let parts = (0..parts).map(|n| (format!("a{n}"), part(&many))).collect();
        let merged = Merged::of(parts, S, Duration::MAX).unwrap();
        merged.latency.confidence.unwrap().effective_count
    };
    assert!((effective(1) - effective(4)).abs() < 1e-6);
}

#[test]
fn nothing_comes_from_nothing() {
    assert!(Merged::of(Vec::new(), S, Duration::MAX).is_none());
}

#[test]
fn gaps_that_are_too_short_to_be_told_are_at_least_bounded() {
    let merged = |made: [&[Made]; 2]| {
        let parts = made.iter().enumerate();
        let parts = parts.map(|(n, made)| (format!("a{n}"), part(made))).collect();
        Merged::of(parts, S, Duration::MAX).unwrap().load
    };
    let writes = |from: u64| -> Vec<Made> {
        (0..85)
            .map(|n| (from + n * 60 * MS, 0, MS, Operation::Put as usize, 0))
            .collect()
    };
    let often = merged([&writes(0), &writes(30 * MS)]);
    assert_eq!((often.longest_write_gap, often.write_gaps.len()), (None, 0));
    assert!(often.write_gap_at_most.is_some_and(|at_most| at_most < GAP_MIN));
    // Where there is a gap of both, its length is known.
    let rarely = merged([&writes(0)[..40], &writes(30 * MS)[..40]]);
    assert!(rarely.longest_write_gap.is_some() && rarely.write_gap_at_most.is_none());
    // Where the writes of one are not known, nothing is.
    let mut parts = vec![("a".into(), part(&writes(0))), ("b".into(), part(&writes(0)))];
    parts[1].1.load.longest_write_gap = None;
    let unknown = Merged::of(parts, S, Duration::MAX).unwrap().load;
    assert_eq!(
        (unknown.longest_write_gap, unknown.write_gap_at_most),
        (None, None)
    );
}
