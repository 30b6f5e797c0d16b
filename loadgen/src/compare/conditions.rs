//! Whether two runs were made under the same conditions.
//!
//! Promises: everything that the manifests say is looked at, by name where the name is known and otherwise leaf by leaf of the
//! configuration, so that an option that this module has never heard of is compared too. What differs without harm (seed, names,
//! addresses) is told, never silently ignored.

use std::collections::BTreeMap;

use reports::record::{Load, Machine, Manifest, Run};
use serde::Serialize;
use serde_json::Value;

/// Memory that differs by less than this part is taken for the same machine with another kernel command line.
const MEMORY_SHARE: f64 = 0.05;

/// Disks whose measured `fdatasync` differs by more than this factor are not the same for a store.
const FSYNC_FACTOR: f64 = 2.0;

/// Last parts of configuration paths that may differ: what follows from the seed and the time, where things are, and how long
/// was measured, which changes how sure a number is but not what it is.
const HARMLESS: [&str; 11] = [
    "seed",
    "key_prefix",
    "tag",
    "endpoints",
    "name",
    "out",
    "history",
    "duration",
    "warmup",
    "drain",
    "interval",
];

/// Last parts of configuration paths that change no number: where a plan was read, and what only the verdict goes by.
const NOT_OPTIONS: [&str; 4] = ["file", "client_cores", "lateness_limit", "waits_are_expected"];

/// Something that is not the same in two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What.
    pub what: String,
    /// In the first run.
    pub base: String,
    /// In the other.
    pub new: String,
    /// It makes the two incomparable; else it is only told.
    pub blocks: bool,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} and {}", self.what, self.base, self.new)
    }
}

/// Everything in which the conditions of two runs differ, those that block first.
pub fn differences(base: &Run, new: &Run) -> Vec<Difference> {
    let mut found = Found::default();
    match (&base.manifest, &new.manifest) {
        (Some(base), Some(new)) => {
            manifests(&mut found, base, new);
            machines(&mut found, &base.machine, &new.machine);
            configurations(&mut found, &base.configuration, &new.configuration);
        }
        (base, new) => {
            let there = |manifest: &Option<Manifest>| if manifest.is_some() { "there" } else { "missing" };
            // Without it nothing is known, also if both have none.
            found.0.push(Difference {
                what: "manifest.json".into(),
                base: there(base).into(),
                new: there(new).into(),
                blocks: true,
            });
        }
    }
    if let (Some(base), Some(new)) = (&base.load, &new.load) {
        loads(&mut found, base, new);
    }
    found.0.sort_by_key(|difference| !difference.blocks);
    found.0
}

#[derive(Default)]
struct Found(Vec<Difference>);

impl Found {
    fn compare(&mut self, blocks: bool, what: &str, base: impl ToString, new: impl ToString) {
        let (base, new) = (base.to_string(), new.to_string());
        if base != new {
            self.0.push(Difference {
                what: what.into(),
                base,
                new,
                blocks,
            });
        }
    }
}

fn manifests(found: &mut Found, base: &Manifest, new: &Manifest) {
    found.compare(
        true,
        "kind of run",
        format!("{:?}", base.kind),
        format!("{:?}", new.kind),
    );
    // An interrupted run has a shorter tail, and may have been interrupted for a reason; two of them are no better than one.
    if base.partial || new.partial {
        let ended = |manifest: &Manifest| if manifest.partial { "no" } else { "yes" };
        found.0.push(Difference {
            what: "run to its end".into(),
            base: ended(base).into(),
            new: ended(new).into(),
            blocks: true,
        });
    }
    found.compare(true, "nodes", base.nodes.len(), new.nodes.len());
    found.compare(true, "generator version", &base.tool_version, &new.tool_version);
    found.compare(false, "seed", base.seed, new.seed);
    let addresses = |manifest: &Manifest| {
        let nodes = manifest.nodes.iter();
        nodes
            .map(|node| node.endpoint.clone())
            .collect::<Vec<_>>()
            .join(", ")
    };
    found.compare(false, "endpoints", addresses(base), addresses(new));
    found.compare(false, "commit", text(&base.commit), text(&new.commit));
    let short = |sum: &Option<String>| text(sum).chars().take(12).collect::<String>();
    found.compare(
        false,
        "generator binary",
        short(&base.binary_sha256),
        short(&new.binary_sha256),
    );
}

fn machines(found: &mut Found, base: &Machine, new: &Machine) {
    found.compare(true, "operating system", text(&base.os), text(&new.os));
    found.compare(true, "processor", text(&base.cpu), text(&new.cpu));
    found.compare(true, "cores", number(base.cores), number(new.cores));
    if let (Some(a), Some(b)) = (base.memory_bytes, new.memory_bytes)
        && a.abs_diff(b) as f64 > a.max(b) as f64 * MEMORY_SHARE
    {
        let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
        found.compare(true, "memory", mib(a), mib(b));
    }
    if let (Some(a), Some(b)) = (base.fsync_p50, new.fsync_p50)
        && a.max(b) as f64 > a.min(b) as f64 * FSYNC_FACTOR
    {
        let microseconds = |nanos: u64| format!("{:.0} µs", nanos as f64 / 1e3);
        found.compare(
            false,
            "median fdatasync of the disk",
            microseconds(a),
            microseconds(b),
        );
    }
}

fn loads(found: &mut Found, base: &Load, new: &Load) {
    found.compare(
        true,
        "loop",
        format!("{:?}", base.kind),
        format!("{:?}", new.kind),
    );
    let rate = |load: &Load| {
        load.rate
            .map_or_else(|| "none".into(), |rate| format!("{rate}/s"))
    };
    found.compare(true, "rate", rate(base), rate(new));
}

fn configurations(found: &mut Found, base: &Value, new: &Value) {
    let (mut old, mut now) = (BTreeMap::new(), BTreeMap::new());
    leaves(base, String::new(), &mut old);
    leaves(new, String::new(), &mut now);
    let mut paths: Vec<&String> = old.keys().chain(now.keys()).collect();
    paths.sort();
    paths.dedup();
    for path in paths {
        let last = path.rsplit('.').next().unwrap_or(path);
        // Rate, seed and addresses are told by their own names.
        if matches!(last, "rate" | "seed" | "endpoints") {
            continue;
        }
        let of = |leaves: &BTreeMap<String, &Value>| match leaves.get(path) {
            None => "not given".into(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        found.compare(!HARMLESS.contains(&last), name(path), of(&old), of(&now));
    }
}

/// What was asked for, by name, without what may differ, without the target, and without places and clocks of machines.
pub(super) fn options(configuration: &Value) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    leaves(configuration, String::new(), &mut all);
    let matters = |path: &str| {
        let last = path.rsplit('.').next().unwrap_or(path);
        let elsewhere = path == "target" || path == "agents" || path.starts_with("agents.");
        !elsewhere && !HARMLESS.contains(&last) && !NOT_OPTIONS.contains(&last)
    };
    all.into_iter()
        .filter(|(path, value)| !value.is_null() && matters(path))
        .map(|(path, value)| (name(&path).to_owned(), value.clone()))
        .collect()
}

/// How a path is called in messages.
fn name(path: &str) -> &str {
    let name = path.strip_prefix("load.").unwrap_or(path);
    name.strip_prefix("workload.").unwrap_or(name)
}

/// Every value that is no object, by its path.
fn leaves<'a>(value: &'a Value, path: String, into: &mut BTreeMap<String, &'a Value>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let separator = if path.is_empty() { "" } else { "." };
                leaves(field, format!("{path}{separator}{name}"), into);
            }
        }
        other => drop(into.insert(path, other)),
    }
}

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("not known")
}

fn number(value: Option<u32>) -> String {
    value.map_or_else(|| "not known".into(), |value| value.to_string())
}
