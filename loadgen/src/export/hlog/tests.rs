#![allow(clippy::unwrap_used)]

use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2Serializer};
use proptest::prelude::*;

use super::*;

fn histogram(digits: u8, values: &[u64]) -> Histogram<u64> {
    let mut histogram = Histogram::new(digits).unwrap();
    for value in values {
        histogram.record(*value).unwrap();
    }
    histogram
}

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_441_812_279_474)
}

fn read(text: &str) -> IntervalLog {
    IntervalLog::read(text.as_bytes()).unwrap()
}

/// Line number and message, causes included.
fn refused(text: &str) -> (u64, String) {
    let error = IntervalLog::read(text.as_bytes()).unwrap_err();
    (error.line, format!("{error}: {}", error.problem))
}

fn base64_of(histogram: &Histogram<u64>) -> String {
    Payload::pack(histogram).to_base64()
}

#[test]
fn the_text_is_what_java_writes() {
    let mut writer = LogWriter::begin(Vec::new(), start(), &["[Logged by\na test]".to_owned()]).unwrap();
    let values = histogram(3, &[1_000_000, 2_500_000]);
    writer.interval(None, 0, 1_000_000_000, &values).unwrap();
    writer.comment("[Fault 1.200 kill leader]").unwrap();
    writer
        .interval(Some("put.ok.response"), 1_000_000_000, 500_400_000, &values)
        .unwrap();
    let text = String::from_utf8(writer.finish().unwrap()).unwrap();
    let payload = base64_of(&values);
    assert!(payload.starts_with("HISTFAAA"), "{payload}");
    // The largest value of the step that 2 500 000 falls into: three digits of it are 2 500 607.
    let expected = format!(
        "\
#[Histogram log format version 1.3]
#[Logged by a test]
#[StartTime: 1441812279.474 (seconds since epoch), Wed Sep 09 15:24:39 UTC 2015]
#[BaseTime: 1441812279.474 (seconds since epoch)]
#[MaxValueDivisor: 1000000.000]
\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"
0.000,1.000,2.501,{payload}
#[Fault 1.200 kill leader]
Tag=put.ok.response,1.000,0.500,2.501,{payload}
"
    );
    assert_eq!(text, expected);
    let log = read(&text);
    assert_eq!(log.start, start());
    assert_eq!(log.comments, ["[Logged by a test]", "[Fault 1.200 kill leader]"]);
    assert_eq!(log.total(None), Some(values.clone()));
    assert_eq!(
        (log.entries[1].start, log.entries[1].length),
        (1_000_000_000, 500_000_000)
    );
    assert_eq!(log.entries[1].histogram(), values);
    assert_eq!(log.total(Some("get.ok.response")), None);
}

#[test]
fn tags_that_would_break_a_line_are_not_written() {
    let mut writer = LogWriter::begin(Vec::new(), start(), &[]).unwrap();
    for tag in ["", "a,b", "a b", "a\nb", "a\rb"] {
        let error = writer.interval(Some(tag), 0, 1, &histogram(3, &[])).unwrap_err();
        assert!(error.to_string().contains("tag"), "{error}");
    }
    assert!(is_valid_tag("put.ok.response"));
}

#[test]
fn times_follow_the_rules_of_java() {
    let payload = base64_of(&histogram(3, &[7]));
    let stamps = |header: &str, stamps: [&str; 2]| {
        let lines = stamps.map(|stamp| format!("{stamp},1.000,0.000,{payload}\n"));
        let log = read(&format!("{header}{}", lines.concat()));
        let since = log.start.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let starts: Vec<i64> = log.entries.iter().map(|entry| entry.start / 1_000_000).collect();
        (since.as_millis(), starts)
    };
    let start = "#[StartTime: 1441812279.474 (seconds since epoch), Wed Sep 09 15:24:39 UTC 2015]\n";
    let base = "#[BaseTime: 1441812279.000 (seconds since epoch)]\n";
    // Both: stamps count from the base.
    assert_eq!(
        stamps(&format!("{start}{base}"), ["1.474", "2.000"]),
        (1_441_812_279_474, vec![1000, 1526])
    );
    // The start alone: stamps far below it count from it, others are absolute. The first decides for all.
    assert_eq!(
        stamps(start, ["0.127", "1.127"]),
        (1_441_812_279_474, vec![127, 1127])
    );
    assert_eq!(
        stamps(start, ["1441812280.474", "1441812281.474"]),
        (1_441_812_279_474, vec![1000, 2000])
    );
    // The base alone: it is the start, where Java would take an offset for one.
    assert_eq!(
        stamps(base, ["0.127", "1.127"]),
        (1_441_812_279_000, vec![127, 1127])
    );
    // Neither: absolute, from the first interval.
    assert_eq!(
        stamps("", ["1441812280.000", "1441812281.500"]),
        (1_441_812_280_000, vec![0, 1500])
    );
    assert_eq!(read(""), IntervalLog::empty(SystemTime::UNIX_EPOCH));
}

#[test]
fn plain_and_compressed_payloads_with_and_without_padding_are_read() {
    let values = histogram(2, &[5, 900, 70_000]);
    let mut plain = Vec::new();
    V2Serializer::new().serialize(&values, &mut plain).unwrap();
    use base64::Engine;
    let standard = base64::engine::general_purpose::STANDARD.encode(&plain);
    let bare = base64::engine::general_purpose::STANDARD_NO_PAD.encode(&plain);
    let packed = base64_of(&values);
    for payload in [&standard, &bare, &packed, packed.trim_end_matches('=')] {
        let log = read(&format!("1.000,1.000,0.070,{payload}\r\n"));
        assert_eq!(log.total(None), Some(values.clone()), "{payload}");
    }
}

#[test]
fn damaged_lines_are_refused_by_number() {
    let good = format!("0.000,1.000,0.000,{}\n", base64_of(&histogram(3, &[1, 2, 3])));
    let mut broken = good.clone();
    // One letter in the middle of the compressed bytes: the checksum tells.
    let middle = good.len() - 30;
    let other = if good.as_bytes()[middle] == b'A' { "B" } else { "A" };
    broken.replace_range(middle..=middle, other);
    let cases = [
        (broken.as_str(), ""),
        ("0.000,1.000,0.000\n", "3 fields"),
        ("0.000,1.000,0.000,HISTFAAA,5\n", "5 fields"),
        ("soon,1.000,0.000,HISTFAAA\n", "start `soon`"),
        ("0.000,-1.000,0.000,HISTFAAA\n", "length `-1.000`"),
        ("0.000,1.000,big,HISTFAAA\n", "largest value `big`"),
        ("0.000,1.000,0.000,????\n", "not base64"),
        ("0.000,1.000,0.000,HIST\n", "cut short"),
        (
            "0.000,1.000,0.000,HISTCAAAAAAAAAAA\n",
            "not V2 (it begins with 0x1c849308)",
        ),
        ("Tag=,0.000,1.000,0.000,HISTFAAA\n", "tag is empty"),
        ("Tag=a\n", "0 fields"),
        (
            "#[StartTime: yesterday]\n",
            "`yesterday` is not a number of seconds",
        ),
        ("#[Histogram log format version 2.0]\n", "version 2.0"),
    ];
    for (line, reason) in cases {
        let (number, text) = refused(&format!("#a comment\n\n{good}{line}{good}"));
        assert_eq!(number, 4, "{line}: {text}");
        assert!(text.contains(reason), "{line}: {text}");
    }
    let error = IntervalLog::read(&b"#ok\n\xff\xfe\n"[..]).unwrap_err();
    assert!(matches!((error.line, error.problem), (2, HlogProblem::NotText)));
}

#[test]
fn a_header_that_announces_more_than_there_is_allocates_nothing() {
    use base64::Engine;
    let mut plain = Vec::new();
    V2Serializer::new()
        .serialize(&histogram(3, &[1]), &mut plain)
        .unwrap();
    plain[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    let payload = base64::engine::general_purpose::STANDARD.encode(&plain);
    let (line, text) = refused(&format!("0.000,1.000,0.000,{payload}\n"));
    assert_eq!(line, 1);
    assert!(text.contains("cut short"), "{text}");
}

#[test]
fn a_log_that_ends_inside_a_line_keeps_what_is_whole() {
    let values = histogram(3, &[1, 2, 3]);
    let line = format!("0.000,1.000,0.000,{}\n", base64_of(&values));
    for cut in [1, 10, 20, line.len() - 10] {
        let log = read(&format!("{line}{}", &line[..cut]));
        assert_eq!((log.entries.len(), log.torn), (1, Some(2)), "{cut}");
    }
    let whole = read(line.trim_end());
    assert_eq!((whole.entries.len(), whole.torn), (1, None));
}

#[test]
fn a_range_takes_the_intervals_that_begin_in_it() {
    let mut log = IntervalLog::empty(start());
    for second in 0..5 {
        let values = histogram(3, &[second as u64 + 1]);
        log.entries.push(Entry::new(
            Some("a"),
            second * 1_000_000_000,
            1_000_000_000,
            &values,
        ));
    }
    let between = |from: i64, to: i64| {
        let found = log.between(Some("a"), from, to).unwrap();
        (found.len(), found.min(), found.max())
    };
    assert_eq!(between(1_000_000_000, 3_000_000_000), (2, 2, 3));
    assert_eq!(between(1, i64::MAX), (4, 2, 5));
    assert_eq!(between(9_000_000_000, 10_000_000_000).0, 0);
    assert_eq!(log.between(None, 0, i64::MAX), None);
}

#[test]
fn merging_keeps_digits_comments_and_lone_intervals() {
    let coarse = histogram(2, &[1_234_567]);
    let fine = histogram(3, &[1_234_567, 7]);
    let mut one = IntervalLog::empty(start() + Duration::from_millis(3));
    one.comments = vec!["a".into(), "both".into()];
    one.entries = vec![
        Entry::new(Some("t"), 0, 10, &coarse),
        Entry::new(None, 10, 10, &coarse),
    ];
    let mut other = IntervalLog::empty(start());
    other.comments = vec!["both".into(), "b".into()];
    other.entries = vec![
        Entry::new(Some("t"), 0, 10, &fine),
        Entry::new(Some("t"), 0, 9, &fine),
    ];
    let merged = merge(&[one, other]);
    assert_eq!(merged.start, start());
    assert_eq!(merged.comments, ["a", "both", "b"]);
    let shape: Vec<_> = merged
        .entries
        .iter()
        .map(|entry| {
            (
                entry.start,
                entry.length,
                entry.tag.as_deref(),
                entry.histogram().len(),
            )
        })
        .collect();
    assert_eq!(
        shape,
        [(0, 9, Some("t"), 2), (0, 10, Some("t"), 3), (10, 10, None, 1)]
    );
    assert_eq!(merged.entries[1].histogram().sigfig(), 3);
    assert_eq!(merged.entries[1].histogram().min(), 7);
    assert_eq!(merge(&[]).entries, []);
}

fn values() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec((0_u32..40).prop_flat_map(|bits| 0..=(1_u64 << bits)), 0..60)
}

fn entries() -> impl Strategy<Value = Vec<(Option<String>, i64, Vec<u64>)>> {
    let tag = prop::option::of("[a-z_.]{1,12}");
    prop::collection::vec((tag, 0_i64..100_000, values()), 0..8)
}

fn log_of(entries: &[(Option<String>, i64, Vec<u64>)]) -> IntervalLog {
    let mut log = IntervalLog::empty(start());
    for (tag, start_ms, values) in entries {
        let packed = histogram(3, values);
        log.entries.push(Entry::new(
            tag.as_deref(),
            start_ms * 1_000_000,
            1_000_000_000,
            &packed,
        ));
    }
    log
}

/// `WHITEWATER_SEED` repeats a run whose seed was printed.
fn seeded(check: impl Fn(&mut proptest::test_runner::TestRunner)) {
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let given = std::env::var("WHITEWATER_SEED")
        .ok()
        .and_then(|seed| seed.parse::<u64>().ok());
    let seed = given.unwrap_or_else(rand_seed);
    println!("WHITEWATER_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: 64,
        failure_persistence: None,
        ..Config::default()
    };
    check(&mut TestRunner::new_with_rng(
        config,
        TestRng::from_seed(RngAlgorithm::ChaCha, &bytes),
    ));
}

fn rand_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one("seed")
}

#[test]
fn any_log_reads_back_as_it_was() {
    seeded(|runner| {
        let check = |entries: Vec<(Option<String>, i64, Vec<u64>)>| {
            let log = log_of(&entries);
            let mut text = Vec::new();
            log.write(&mut text).unwrap();
            let read = IntervalLog::read(text.as_slice()).unwrap();
            prop_assert_eq!(&read, &log);
            for (entry, (_, _, values)) in read.entries.iter().zip(&entries) {
                prop_assert_eq!(entry.histogram(), histogram(3, values));
            }
            Ok(())
        };
        runner.run(&entries(), check).unwrap();
    });
}

#[test]
fn merging_loses_and_invents_nothing() {
    seeded(|runner| {
        let check = |(one, other): (Vec<_>, Vec<_>)| {
            let merged = merge(&[log_of(&one), log_of(&other)]);
            let mut all = one;
            all.extend(other);
            let tags: BTreeSet<Option<String>> = all.iter().map(|(tag, _, _)| tag.clone()).collect();
            prop_assert_eq!(
                merged.tags(),
                tags.iter().map(Option::as_deref).collect::<BTreeSet<_>>()
            );
            for tag in &tags {
                let expected: Vec<u64> = all
                    .iter()
                    .filter(|(other, _, _)| other == tag)
                    .flat_map(|(_, _, values)| values.clone())
                    .collect();
                prop_assert_eq!(merged.total(tag.as_deref()), Some(histogram(3, &expected)));
            }
            Ok(())
        };
        runner.run(&(entries(), entries()), check).unwrap();
    });
}

#[test]
fn no_damage_within_a_payload_is_more_than_an_error() {
    use base64::Engine;
    let mut plain = Vec::new();
    let values = histogram(3, &[0, 1, 900, 70_000, 1 << 40]);
    V2Serializer::new().serialize(&values, &mut plain).unwrap();
    seeded(|runner| {
        let change = (0..plain.len(), any::<u8>());
        let check = |changes: Vec<(usize, u8)>| {
            let mut bytes = plain.clone();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            let payload = base64::engine::general_purpose::STANDARD.encode(&bytes);
            let text = format!("0.000,1.000,0.000,{payload}\n");
            if let Ok(log) = IntervalLog::read(text.as_bytes()) {
                let twice = merge(&[log.clone(), log]);
                let total = twice.total(None).unwrap();
                crate::export::hgrm::render(&total, 5, 1e6);
                twice.write(std::io::sink()).unwrap();
            }
            Ok(())
        };
        runner.run(&prop::collection::vec(change, 1..5), check).unwrap();
    });
}
