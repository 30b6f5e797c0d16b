//! What a run leaves behind, in the formats of other tools.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::records::{HOSTILE, latency_log, load, manifest, values};
use common::runs::*;
use common::*;
use loadgen::export::hlog::IntervalLog;
use loadgen::export::prometheus::{self, Labels, Series};
use loadgen::export::schema::{Document, schema};
use loadgen::export::{bmf, csv, hgrm, ndjson};
use loadgen::{HistoryTarget, Outputs, RunClock};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use reports::record::{Load, LoadVerdict, Measure, Percentiles};
use serde_json::{Value, json};

fn log() -> IntervalLog {
    IntervalLog::read(latency_log().as_slice()).unwrap()
}

fn labels(name: &str) -> Labels {
    Labels::new([("run", name)]).unwrap()
}

fn stream(load: &Load) -> String {
    let mut text = ndjson::start(&manifest("by-hand"));
    for (number, interval) in load.intervals.iter().enumerate() {
        text += &ndjson::line(interval, number as u64, Measure::Response);
    }
    text + &ndjson::end(load)
}

#[test]
fn formats_look_as_they_did() {
    let load = load();
    let total = log().total(None).unwrap();
    for (name, text) in [
        ("totals.csv", csv::totals(&load)),
        ("intervals.csv", csv::intervals(&load.intervals)),
        ("stream.ndjson", stream(&load)),
        ("bmf.json", bmf::render("by-hand", &load)),
        (
            "metrics.prom",
            prometheus::render(&load, &labels("by-hand"), &Series::of(&log())),
        ),
        ("headline.hgrm", hgrm::render(&total, 5, 1e6)),
        ("load.schema.json", format!("{:#}\n", schema(Document::Load))),
        (
            "manifest.schema.json",
            format!("{:#}\n", schema(Document::Manifest)),
        ),
        ("stream.schema.json", format!("{:#}\n", schema(Document::Stream))),
    ] {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden")
            .join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap();
        let changed = text.lines().zip(golden.lines()).position(|(is, was)| is != was);
        assert!(
            text == golden,
            "{name} changed, first in line {:?} (or in length); if that is meant, run with UPDATE_GOLDEN=1",
            changed.map(|line| line + 1)
        );
    }
}

/// Collects what is written.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_of_a_run_reads_back_as_what_was_recorded() {
    let stub = Stub::start(1).await;
    let written = Shared::default();
    let outputs = Outputs {
        history: HistoryTarget::Discard,
        latency_log: Some(Box::new(written.clone())),
        intervals: None,
    };
    let mut config = config(constant(300), 1000);
    config.interval = Duration::from_millis(200);
    let outcome = loadgen::run(
        config,
        stub.client(),
        RunClock::start(),
        outputs,
        |_| {},
        pending(),
    )
    .await
    .unwrap();
    let load = outcome.load;
    let text = written.0.lock().unwrap().clone();
    let log = IntervalLog::read(text.as_slice()).unwrap();
    assert_eq!(log.torn, None);
    let total = log.total(None).unwrap();
    assert_eq!(total.len(), load.counts.ok);
    // The record joins a short last interval to the one before, the log does not.
    let headline: Vec<_> = log.tagged(None).collect();
    assert!(load.intervals.len() >= 4 && headline.len() >= load.intervals.len());
    for (interval, entry) in load.intervals.iter().zip(&headline).rev().skip(1) {
        let histogram = entry.histogram();
        // The log has milliseconds.
        assert!(entry.start.abs_diff(interval.start as i64) <= 1_000_000);
        assert_eq!(histogram.len(), interval.latency.count);
        let (exact, step) = (interval.latency.max.unwrap(), histogram.max());
        assert!(histogram.equivalent(exact, step), "{exact} {step}");
        let (exact, step) = (interval.latency.min.unwrap(), histogram.min());
        assert!(histogram.equivalent(exact, step), "{exact} {step}");
    }
    let of_measure = |measure: &str| -> u64 {
        let tags = log.tags().into_iter().flatten();
        let tags = tags.filter(|tag| tag.split('.').any(|part| part == measure));
        tags.map(|tag| log.total(Some(tag)).unwrap().len()).sum()
    };
    assert_eq!(
        (of_measure("response"), of_measure("service")),
        (load.counts.ok, load.counts.ok)
    );
    // Written by us and read again, nothing has changed but the header.
    let mut again = Vec::new();
    log.write(&mut again).unwrap();
    assert_eq!(IntervalLog::read(again.as_slice()).unwrap(), log);
}

#[test]
fn documents_match_their_published_schema() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../reports/tests/fixtures");
    for (document, file) in [
        (Document::Load, "load.json"),
        (Document::Manifest, "manifest.json"),
    ] {
        let schema = schema(document);
        jsonschema::meta::validate(&schema).unwrap();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let mut found = 0;
        for folder in fs::read_dir(&fixtures).unwrap() {
            let path = folder.unwrap().path().join(file);
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            found += 1;
            let mut value: Value = serde_json::from_str(&text).unwrap();
            if let Err(error) = validator.validate(&value) {
                panic!("{}: {error} at {}", path.display(), error.instance_path());
            }
            // What a newer tool adds is ignored, also by the schema; what is missing is not.
            value["added_later"] = json!([1]);
            assert!(validator.is_valid(&value));
            let required = if document == Document::Load {
                "counts"
            } else {
                "machine"
            };
            value.as_object_mut().unwrap().remove(required);
            assert!(!validator.is_valid(&value), "{}", path.display());
        }
        assert!(found >= 3, "{found} in {}", fixtures.display());
    }
    let validator = jsonschema::draft202012::new(&schema(Document::Load)).unwrap();
    let whole = json!(load());
    assert!(validator.is_valid(&whole) && validator.is_valid(&json!(Load::default())));
    let damaged = |change: fn(&mut Value)| {
        let mut value = whole.clone();
        change(&mut value);
        assert!(!validator.is_valid(&value), "{value}");
    };
    damaged(|load| load["planned"] = json!(-1));
    damaged(|load| load["kind"] = json!("open"));
    damaged(|load| load["verdict"] = json!({"is": "fine"}));
    damaged(|load| load["operations"]["steal"] = load["operations"]["get"].clone());
    damaged(|load| load["operations"]["get"]["outcomes"]["stolen"] = json!({}));
    damaged(|load| load["longest_write_gap"] = json!([1, 2, 3]));
}

#[test]
fn every_line_of_a_stream_matches_its_schema_and_has_no_line_break_inside() {
    let schema = schema(Document::Stream);
    jsonschema::meta::validate(&schema).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let mut load = load();
    load.verdict = LoadVerdict::Unsteady(HOSTILE.into());
    let text = stream(&load) + &ndjson::start(&manifest(HOSTILE));
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let types: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["start", "interval", "interval", "end", "start"]);
    for line in &lines {
        assert!(validator.is_valid(line), "{line}");
    }
    assert_eq!(lines[2]["number"], 1);
    assert_eq!(lines[2]["counts"], json!(load.intervals[1].counts));
    assert_eq!(lines[3]["verdict"]["because"], HOSTILE);
    assert_eq!(lines[4]["name"], HOSTILE);
    assert!(!validator.is_valid(&json!({"type": "interval", "number": 1})));
}

/// Metric, labels and value of every sample; panics at whatever the exposition format does not allow.
fn samples(text: &str) -> Vec<(String, String, f64)> {
    let mut families = std::collections::BTreeSet::new();
    let mut present = String::new();
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(families.insert(name.to_owned()), "{name} has two blocks");
            present = name.to_owned();
        } else if !line.starts_with("# HELP ") {
            let end = line.find(['{', ' ']).unwrap();
            let (name, rest) = line.split_at(end);
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .filter(|family| *family == present)
                .unwrap_or(name);
            assert_eq!(family, present, "{line} is outside its family");
            let (labels, value) = rest.rsplit_once(' ').unwrap();
            found.push((name.to_owned(), labels.to_owned(), value.parse().unwrap()));
        }
    }
    found
}

#[test]
fn prometheus_buckets_are_cumulative_and_hold_what_the_histogram_holds() {
    let series = vec![
        Series {
            operation: "get".into(),
            outcome: "ok".into(),
            measure: "response".into(),
            histogram: values(1_000_000),
        },
        Series {
            operation: HOSTILE.into(),
            outcome: String::new(),
            measure: String::new(),
            histogram: hdrhistogram::Histogram::new(3).unwrap(),
        },
    ];
    let text = prometheus::render(&load(), &labels(HOSTILE), &series);
    let samples = samples(&text);
    let of = |metric: &str, operation: &str| -> Vec<(String, f64)> {
        let wanted = format!("operation=\"{operation}\"");
        let found = samples
            .iter()
            .filter(|(name, labels, _)| name == metric && labels.contains(&wanted));
        found.map(|(_, labels, value)| (labels.clone(), *value)).collect()
    };
    let buckets = of("whitewater_latency_seconds_bucket", "get");
    assert!(
        buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1),
        "{buckets:?}"
    );
    // 1, 2, … 100 ms.
    for (bound, below) in [
        ("0.0005", 0.0),
        ("0.001", 1.0),
        ("0.0025", 2.0),
        ("0.05", 50.0),
        ("0.1", 100.0),
        ("+Inf", 100.0),
    ] {
        let bucket = buckets
            .iter()
            .find(|(labels, _)| labels.contains(&format!("le=\"{bound}\"")));
        assert_eq!(bucket.map(|(_, count)| *count), Some(below), "{bound}");
    }
    let sum = of("whitewater_latency_seconds_sum", "get")[0].1;
    assert!((sum - 5.05).abs() < 0.005, "{sum}");
    assert_eq!(of("whitewater_latency_seconds_count", "get")[0].1, 100.0);
    let escaped = r#"run="a,\"b\"\n\\ <c>{}"#;
    assert!(
        samples.iter().all(|(_, labels, _)| labels.contains(escaped)),
        "{text}"
    );
    let ok = of("whitewater_operations_total", "put");
    assert!(
        ok.iter()
            .any(|(labels, value)| labels.contains("result=\"ok\"") && *value == 100.0)
    );
    assert!(text.contains("node=\"n\\\"1\""));
}

#[test]
fn bencher_gets_its_own_measures_with_bounds_where_the_record_has_them() {
    let document: Value = serde_json::from_str(&bmf::render(HOSTILE, &load())).unwrap();
    let benchmarks = document.as_object().unwrap();
    for (name, measures) in benchmarks {
        assert!(name.starts_with(HOSTILE), "{name}");
        for (measure, metric) in measures.as_object().unwrap() {
            assert!(["latency", "throughput"].contains(&measure.as_str()));
            let value = metric["value"].as_f64().unwrap();
            if let (Some(lower), Some(upper)) =
                (metric["lower_value"].as_f64(), metric["upper_value"].as_f64())
            {
                assert!((lower..=upper).contains(&value), "{name}");
            }
        }
    }
    let put = &benchmarks[&format!("{HOSTILE}/put/response/p50")]["latency"];
    assert_eq!(
        put,
        &json!({"value": 1e8, "lower_value": 8e7, "upper_value": 1.2e8})
    );
    assert_eq!(
        benchmarks[&format!("{HOSTILE}/all")],
        json!({"throughput": {"value": 100.0}})
    );
    assert!(!benchmarks.contains_key(&format!("{HOSTILE}/put/response/p99")));
    let long = bmf::render(&"é".repeat(5000), &load());
    let long: Value = serde_json::from_str(&long).unwrap();
    assert!(
        long.as_object()
            .unwrap()
            .keys()
            .all(|name| name.chars().count() <= 1024)
    );
}

#[test]
fn csv_tables_have_as_many_fields_in_every_row() {
    for text in [csv::totals(&load()), csv::intervals(&load().intervals)] {
        let widths: Vec<usize> = text.lines().map(|line| line.split(',').count()).collect();
        assert!(
            widths.len() > 2 && widths.iter().all(|width| *width == widths[0]),
            "{text}"
        );
    }
    assert_eq!(csv::field("plain"), "plain");
    assert_eq!(csv::field("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"");
}

#[test]
fn a_run_in_which_nothing_happened_is_said_in_every_format() {
    let empty = Load::default();
    assert_eq!(csv::totals(&empty).lines().count(), 1);
    assert_eq!(csv::intervals(&empty.intervals).lines().count(), 1);
    assert_eq!(bmf::render("", &empty), "{}\n");
    assert_eq!(stream(&empty).lines().count(), 2);
    let text = prometheus::render(&empty, &Labels::default(), &[]);
    let samples = samples(&text);
    assert!(samples.iter().any(|(name, labels, value)| {
        (name.as_str(), labels.as_str(), *value) == ("whitewater_planned_operations_total", "", 0.0)
    }));
    assert!(samples.iter().all(|(_, _, value)| *value == 0.0), "{text}");
    let nothing_recorded = Load {
        intervals: vec![reports::record::Interval {
            start: 0,
            end: 1,
            planned: 0,
            counts: Default::default(),
            latency: Percentiles::default(),
        }],
        ..empty
    };
    let row = csv::intervals(&nothing_recorded.intervals);
    assert!(
        row.ends_with("0.000000000,0.000000001,0,0,0,0,0,0,,,,,,,,\n"),
        "{row}"
    );
}

#[test]
fn any_distribution_reads_back() {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed().to_le_bytes());
    let config = Config {
        cases: 64,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let any = (prop::collection::vec(0_u64..1 << 40, 0..200), 1_u32..20);
    runner
        .run(&any, |(values, ticks)| reads_back(&values, ticks))
        .unwrap();
}

fn reads_back(values: &[u64], ticks: u32) -> Result<(), TestCaseError> {
    let mut histogram = hdrhistogram::Histogram::<u64>::new(3).unwrap();
    values.iter().for_each(|value| histogram.record(*value).unwrap());
    let read = hgrm::read(&hgrm::render(&histogram, ticks, 1.0)).unwrap();
    prop_assert_eq!(read.total_count, values.len() as u64);
    prop_assert_eq!(read.max, histogram.max() as f64);
    for row in &read.rows {
        // Each row is at or beyond its level, and counts all that is at or below its value.
        let below = values.iter().filter(|value| **value as f64 <= row.value).count() as u64;
        prop_assert_eq!(row.total_count, below);
        prop_assert!(below as f64 / values.len() as f64 >= row.percentile - 1e-9);
    }
    let last = read.rows.last().map(|row| row.percentile);
    prop_assert_eq!(last, (!values.is_empty()).then_some(1.0));
    Ok(())
}
