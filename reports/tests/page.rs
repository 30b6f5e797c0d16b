//! The page: what a saved run looks like, and what must hold for any run, however odd or hostile.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use common::*;
use reports::record::*;
use reports::render;

const FIXTURES: [&str; 4] = ["chaos-pass", "chaos-violation", "load", "partial"];

fn page(fixture_name: &str) -> String {
    render(&Run::read(&fixture(fixture_name)).unwrap())
}

/// Pages of saved runs, byte for byte. `UPDATE_GOLDEN=1 cargo test -p reports` writes them anew; look at the difference.
#[test]
fn saved_runs_look_as_they_did() {
    for name in FIXTURES {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden")
            .join(format!("{name}.html"));
        let page = page(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &page).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap();
        let difference = page.bytes().zip(golden.bytes()).position(|(a, b)| a != b);
        if let Some(at) = difference.or((page.len() != golden.len()).then_some(page.len().min(golden.len())))
        {
            let around = |text: &str| {
                String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(60)..])
                    .chars()
                    .take(160)
                    .collect::<String>()
            };
            panic!(
                "{name}: the page changed at byte {at}; if that is meant, run with UPDATE_GOLDEN=1\n was: {}\n  is: {}",
                around(&golden),
                around(&page)
            );
        }
    }
}

#[test]
fn the_first_words_are_the_verdict() {
    let heads = [
        ("chaos-pass", "Pass: leader-kill"),
        ("chaos-violation", "Violation: stale-leader"),
        ("load", "Valid: steady-2000"),
        ("partial", "No verdict: interrupted-run"),
    ];
    for (name, title) in heads {
        assert!(page(name).contains(&format!("<title>{title}</title>")), "{name}");
    }
}

#[test]
fn a_chaos_page_has_all_its_parts_and_a_load_page_only_its_own() {
    let chaos = page("chaos-violation");
    for id in [
        "checks",
        "charts",
        "faults-lane",
        "throughput",
        "latency",
        "nodes-lane",
        "witness",
        "faults",
        "latencies",
        "errors",
        "environment",
    ] {
        assert!(chaos.contains(&format!("id=\"{id}\"")), "{id} is missing");
    }
    assert!(chaos.contains("Process 11 read “c3-41”"));
    assert!(chaos.contains("no effect shown"));
    let load = page("load");
    for id in [
        "checks",
        "faults-lane",
        "nodes-lane",
        "witness",
        "faults",
        "errors",
    ] {
        assert!(
            !load.contains(&format!("id=\"{id}\"")),
            "{id} does not belong there"
        );
    }
    assert!(load.contains("too few samples"));
}

#[test]
fn an_interrupted_run_says_so_and_shows_what_there_is() {
    let page = page("partial");
    for part in [
        "This run was interrupted",
        "no load.json",
        "ends inside line 480",
        "id=\"throughput\"",
        "service",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
    assert!(
        !page.contains("Response time"),
        "a history knows no planned start"
    );
}

#[test]
fn the_page_asks_the_network_for_nothing() {
    for name in FIXTURES {
        let page = page(name);
        assert!(page.contains("default-src 'none'"));
        for attribute in [
            " src=",
            " href=",
            " action=",
            " srcset=",
            " xlink:href=",
            "url(",
            "@import",
        ] {
            for (at, _) in page.match_indices(attribute) {
                let value = page[at + attribute.len()..].trim_start_matches(['"', '\'']);
                assert!(
                    value.starts_with('#'),
                    "{name}: {attribute}{}",
                    value.chars().take(40).collect::<String>()
                );
            }
        }
        assert!(
            !page.contains("http:") && !page.contains("https:"),
            "{name} names an address"
        );
    }
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    for name in FIXTURES {
        assert_eq!(page(name), page(name));
    }
}

#[test]
fn ten_minutes_fit_in_a_mail() {
    let page = render(&ten_minutes());
    assert!(page.len() < 1_500_000, "{} bytes", page.len());
    assert!(
        page.contains("110 rarer errors"),
        "what is left out of a table is counted"
    );
    drawings_are_sound(&page);
}

#[test]
fn hostile_text_stays_text() {
    let evil = "</style></title></svg><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u{202e}\u{0}";
    let e = || evil.to_owned();
    let mut run = ten_minutes();
    run.folder = e();
    run.notes = vec![e()];
    let m = run.manifest.as_mut().unwrap();
    (m.name, m.about, m.started_at, m.tool_version) = (e(), e(), e(), e());
    (m.commit, m.binary_sha256, m.command) = (Some(e()), Some(e()), vec![e(), e()]);
    m.machine = Machine {
        os: Some(e()),
        cpu: Some(e()),
        ..Machine::default()
    };
    m.nodes = vec![NodeInfo {
        id: e(),
        endpoint: e(),
    }];
    m.configuration = serde_json::json!({ evil: evil });
    let load = run.load.as_mut().unwrap();
    load.verdict = LoadVerdict::GeneratorBound(e());
    load.operations.get_mut(&Operation::Get).unwrap().errors = BTreeMap::from([(e(), 3)]);
    let timeline = run.timeline.as_mut().unwrap();
    timeline.phases[0].name = e();
    timeline.samples.push(NodeSample {
        node: e(),
        ..sample(5, "", Role::Leader, 3)
    });
    let f = &mut timeline.faults[0];
    (f.kind, f.label, f.targets) = (e(), e(), vec![e()]);
    f.evidence[0].what = e();
    let mut invoke = event(
        1,
        EventKind::Invoke,
        Function::Cas,
        Value::Pair(Some(e()), Some(e())),
        5,
    );
    invoke.key = e();
    let mut ok = event(1, EventKind::Ok, Function::Read, Value::One(e()), 9);
    (ok.node, ok.error) = (Some(e()), Some(e()));
    run.verdict = Some(Verdict {
        outcome: Outcome::Violation,
        reason: e(),
        checks: vec![Check {
            name: e(),
            status: CheckStatus::Violation,
            detail: e(),
            witness: Some(Witness {
                key: e(),
                sentence: e(),
                operations: vec![(invoke, Some(ok))],
            }),
        }],
    });
    let page = render(&run);
    let clean = render(&ten_minutes());
    for tag in ["<script", "<img", "<style", "</style>", "</script>", "</head>"] {
        assert_eq!(
            page.matches(tag).count(),
            clean.matches(tag).count(),
            "{tag} got through"
        );
    }
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    // Inside an attribute only a quote could end it.
    assert!(!page.contains("onerror=alert(1)>\""));
    drawings_are_sound(&page);
    let text = reports::summary(&run);
    assert!(text.lines().count() <= reports::LINES_MAX, "{text}");
    assert!(
        !text.chars().any(|c| c.is_control() && c != '\n'),
        "a terminal obeys control characters: {text:?}"
    );
}

#[test]
fn the_policy_allows_exactly_the_script_of_the_page() {
    use base64::Engine as _;
    use sha2::Digest as _;
    for name in FIXTURES {
        let page = page(name);
        let scripts: Vec<&str> = page
            .split("<script>")
            .skip(1)
            .map(|s| s.split("</script>").next().unwrap())
            .collect();
        assert_eq!(scripts.len(), 1);
        let hash = sha2::Sha256::digest(scripts[0].as_bytes());
        let hash = base64::engine::general_purpose::STANDARD.encode(hash);
        assert!(page.contains(&format!("script-src 'sha256-{hash}';")), "{name}");
        assert!(!page.contains(" onclick=") && !page.contains("javascript:"));
    }
}

#[test]
fn odd_data_stays_inside_the_drawing() {
    for (what, run) in odd_runs() {
        let page = render(&run);
        assert!(
            !page.contains("NaN") && !page.contains("inf\""),
            "{what}: a number got lost"
        );
        let drawings = drawings_are_sound(&page);
        assert!(drawings > 0, "{what}: not even the patterns are drawn");
        reports::summary(&run);
        reports::summary_json(&run);
    }
}

fn odd_runs() -> Vec<(&'static str, Run)> {
    let with = |change: &dyn Fn(&mut Run)| {
        let mut run = ten_minutes();
        change(&mut run);
        run
    };
    let interval = |start, end, n: u64, latency: Option<Nanos>| Interval {
        start,
        end,
        planned: n,
        counts: Counts {
            ok: n,
            failed: n,
            unknown: n,
            unsent: n,
        },
        latency: Percentiles {
            count: n,
            p50: latency,
            p99: latency,
            max: latency,
            ..Percentiles::default()
        },
    };
    let intervals = |all: Vec<Interval>| with(&|run| run.load.as_mut().unwrap().intervals = all.clone());
    let timeline = |faults: Vec<FaultWindow>, samples: Vec<NodeSample>| {
        with(&|run| {
            run.timeline = Some(Timeline {
                phases: vec![],
                faults: faults.clone(),
                samples: samples.clone(),
                final_reads_from: None,
            })
        })
    };
    let backwards = FaultWindow {
        injecting: 9 * SECOND,
        injected: Some(8 * SECOND),
        healing: Some(2 * SECOND),
        healed: Some(SECOND),
        ..fault("kill", 0, None)
    };
    let endless = fault("pause", u64::MAX - 3, Some(u64::MAX));
    vec![
        ("nothing at all", Run::default()),
        ("no intervals", intervals(vec![])),
        ("one point", intervals(vec![interval(0, 1, 1, Some(1))])),
        (
            "no length",
            intervals(vec![interval(5, 5, 1, Some(1)), interval(9, 3, 1, Some(1))]),
        ),
        ("no operations", intervals(vec![interval(0, SECOND, 0, None)])),
        ("zero latency", intervals(vec![interval(0, SECOND, 5, Some(0))])),
        (
            "huge",
            intervals(vec![
                interval(0, u64::MAX, u64::MAX, Some(u64::MAX)),
                interval(0, 1, u64::MAX, Some(1)),
            ]),
        ),
        (
            "holes",
            intervals(vec![
                interval(0, 9, 1, Some(4)),
                interval(50, 60, 2, None),
                interval(70, 80, 2, Some(7)),
            ]),
        ),
        (
            "zero duration",
            with(&|run| {
                run.manifest.as_mut().unwrap().duration = 0;
                run.load.as_mut().unwrap().intervals.clear();
                run.timeline = None;
            }),
        ),
        (
            "rate is not a number",
            with(&|run| run.load.as_mut().unwrap().rate = Some(f64::NAN)),
        ),
        (
            "faults backwards and beyond",
            timeline(vec![backwards, endless, fault("kill", 3, None)], vec![]),
        ),
        (
            "one sample",
            timeline(vec![], vec![sample(7, "n1", Role::Leader, 1)]),
        ),
        (
            "samples out of order",
            timeline(
                vec![],
                vec![
                    sample(u64::MAX, "n1", Role::Leader, u64::MAX),
                    sample(0, "n1", Role::Down, 0),
                    sample(0, "n2", Role::Leader, u64::MAX),
                ],
            ),
        ),
        (
            "a thousand faults at once",
            timeline(vec![fault("kill", 0, None); 1000], vec![]),
        ),
        (
            "an empty witness",
            with(&|run| run.verdict = Some(violation(vec![]))),
        ),
        (
            "a witness at the end of time",
            with(&|run| {
                let invoke = event(
                    1,
                    EventKind::Invoke,
                    Function::Write,
                    Value::One("x".repeat(500)),
                    u64::MAX,
                );
                let earlier = event(1, EventKind::Ok, Function::Write, Value::Absent, 0);
                run.verdict = Some(violation(vec![(invoke.clone(), Some(earlier)), (invoke, None)]));
            }),
        ),
    ]
}

fn violation(operations: Vec<(Event, Option<Event>)>) -> Verdict {
    Verdict {
        outcome: Outcome::Violation,
        reason: "It broke.".into(),
        checks: vec![Check {
            name: "linearizable".into(),
            status: CheckStatus::Violation,
            detail: "It broke.".into(),
            witness: Some(Witness {
                key: "k".into(),
                sentence: "It broke.".into(),
                operations,
            }),
        }],
    }
}

/// Every coordinate of every drawing lies in its view box. Returns how many drawings there were.
fn drawings_are_sound(page: &str) -> usize {
    let mut drawings = 0;
    for drawing in page.split("<svg").skip(1) {
        drawings += 1;
        let drawing = drawing.split("</svg>").next().unwrap();
        let Some(view) = attribute(drawing, "viewBox") else {
            continue;
        };
        let size: Vec<f64> = view.split(' ').map(|n| n.parse().unwrap()).collect();
        let inside = |text: &str, limit: f64, what: &str| {
            let value: f64 = text
                .parse()
                .unwrap_or_else(|_| panic!("{what}={text} is not a number"));
            assert!(
                (-0.1..=limit + 0.1).contains(&value),
                "{what}={text} lies outside of {view}"
            );
            value
        };
        for element in drawing.split('<').skip(1) {
            let tag = element.split('>').next().unwrap();
            let get = |name| {
                attribute(tag, name).map(|v| {
                    inside(
                        v,
                        if name.starts_with(['x', 'w']) {
                            size[2]
                        } else {
                            size[3]
                        },
                        name,
                    )
                })
            };
            let (x, width, y, height) = (get("x"), get("width"), get("y"), get("height"));
            for name in ["x1", "x2", "y1", "y2"] {
                get(name);
            }
            assert!(
                x.unwrap_or(0.0) + width.unwrap_or(0.0) <= size[2] + 0.2,
                "too far right: {tag}"
            );
            assert!(
                y.unwrap_or(0.0) + height.unwrap_or(0.0) <= size[3] + 0.2,
                "too far down: {tag}"
            );
            if let Some(path) = attribute(tag, "d") {
                path_inside(path, size[2], size[3]);
            }
        }
    }
    drawings
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let start = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    tag[start..].split('"').next()
}

/// Paths here only use absolute M, H, V and Z.
fn path_inside(path: &str, width: f64, height: f64) {
    for command in path.split(['M', 'Z']) {
        let mut rest = command;
        let mut first_pair = true;
        while !rest.is_empty() {
            let (vertical, body) = match rest.as_bytes()[0] {
                b'H' => (false, &rest[1..]),
                b'V' => (true, &rest[1..]),
                _ => (!first_pair, rest.trim_start()),
            };
            first_pair = false;
            let end = body
                .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'))
                .unwrap_or(body.len());
            let value: f64 = body[..end]
                .parse()
                .unwrap_or_else(|_| panic!("no number at {body:?}"));
            let limit = if vertical { height } else { width };
            assert!(
                (-0.1..=limit + 0.1).contains(&value),
                "{value} lies outside in {path}"
            );
            rest = &body[end..];
        }
    }
}
