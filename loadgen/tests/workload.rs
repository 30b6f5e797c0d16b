//! Workloads as a run uses them: by number, with inserts that end in any order.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use loadgen::workload::Inspected;
use loadgen::{Inserts, Mix, Preset, ValueSize, Workload, WorkloadConfig};
use reports::record::Operation;

/// Printed, and taken back from `WHITEWATER_SEED`.
fn seed() -> u64 {
    let given = std::env::var("WHITEWATER_SEED").ok();
    let seed = given
        .map(|text| text.parse().unwrap())
        .unwrap_or_else(|| RandomState::new().hash_one(1) & 0xffff_ffff);
    println!("WHITEWATER_SEED={seed}");
    seed
}

fn everything() -> WorkloadConfig {
    WorkloadConfig {
        mix: Mix::new(Operation::ALL.map(|operation| (operation, 10))).unwrap(),
        keys: 50,
        value_size: "64..300".parse().unwrap(),
        ..WorkloadConfig::default()
    }
}

fn preset(preset: Preset) -> Workload {
    let mut config = WorkloadConfig::default();
    preset.apply(&mut config);
    Workload::new(config, 5).unwrap()
}

/// Distance from the expected number of hits, in standard deviations.
fn z(hits: u64, total: u64, share: f64) -> f64 {
    let total = total as f64;
    (hits as f64 - total * share) / (total * share * (1.0 - share)).sqrt()
}

#[test]
fn everything_about_an_operation_depends_on_seed_and_number_only() {
    let seed = seed();
    for choice in [
        "uniform",
        "zipfian",
        "zipfian-ycsb",
        "latest",
        "hotspot:0.1/0.9",
        "sequential",
        "exponential",
    ] {
        let config = WorkloadConfig {
            key_choice: choice.parse().unwrap(),
            ..everything()
        };
        let all = |seed: u64, numbers: &mut dyn Iterator<Item = u64>| -> BTreeMap<u64, _> {
            let workload = Workload::new(config.clone(), seed).unwrap();
            let about = numbers.map(|n| {
                let planned = workload.operation(n, 60);
                assert_eq!((planned.number, planned.operation), (n, workload.kind(n)));
                assert_eq!(planned.key.is_none(), planned.operation == Operation::Insert);
                (n, (planned, workload.scan_length(n), workload.value(n, "k1")))
            });
            about.collect()
        };
        let forwards = all(seed, &mut (0..300));
        assert_eq!(forwards, all(seed, &mut (0..300).rev()), "{choice}");
        assert_ne!(forwards, all(seed ^ 1, &mut (0..300)), "{choice}");
    }
}

#[test]
fn the_newest_keys_are_read_and_never_one_that_nobody_acknowledged() {
    let seed = seed();
    for choice in ["latest", "exponential:90,0.2"] {
        let mut config = WorkloadConfig {
            keys: 20,
            ..WorkloadConfig::default()
        };
        Preset::YcsbD.apply(&mut config);
        config.keys = 20;
        config.key_choice = choice.parse().unwrap();
        let workload = Workload::new(config, seed).unwrap();
        let mut inserts = Inserts::beyond(workload.key_count());
        let mut open: Vec<(u64, u64)> = Vec::new();
        let mut acknowledged: HashSet<u64> = (0..20).collect();
        let mut newest_read = 0;
        let mut reads_of_inserted = 0;
        for number in 0..20_000 {
            // Inserts stay open for 50 to 149 operations; of ten, one fails and one stays unknown.
            open.retain(|(key, ends)| {
                if *ends > number {
                    return true;
                }
                let good = key % 10 >= 2;
                if good {
                    acknowledged.insert(*key);
                }
                inserts.end(*key, good);
                false
            });
            let planned = workload.operation(number, inserts.known());
            match planned.key {
                None => {
                    let key = inserts.start();
                    assert_eq!(key, workload.insert_key(inserts.started() - 1));
                    open.push((key, number + 50 + (key * 37) % 100));
                }
                Some(position) => {
                    let key = inserts.key_at(position);
                    assert!(
                        acknowledged.contains(&key),
                        "{choice}: operation {number} reads {key}"
                    );
                    newest_read = newest_read.max(key);
                    reads_of_inserted += u64::from(key >= 20);
                }
            }
        }
        assert!(inserts.started() > 800, "{}", inserts.started());
        assert!(
            newest_read > 700 && reads_of_inserted > 10_000,
            "{newest_read} {reads_of_inserted}"
        );
    }
}

#[test]
fn presets_make_the_operations_that_they_say() {
    const TOTAL: u64 = 50_000;
    for which in Preset::ALL {
        let workload = preset(which);
        let mut seen = BTreeMap::<Operation, u64>::new();
        for number in 0..TOTAL {
            *seen.entry(workload.kind(number)).or_default() += 1;
        }
        let weights = workload.config().mix.weights();
        assert!(seen.keys().eq(weights.keys()), "{which}");
        let sum: u32 = weights.values().sum();
        for (operation, weight) in weights.iter().filter(|(_, weight)| **weight < sum) {
            let z = z(seen[operation], TOTAL, f64::from(*weight) / f64::from(sum));
            assert!(z.abs() < 5.0, "{which} {operation}: {z}");
        }
    }
    let (put, range) = (preset(Preset::EtcdPut), preset(Preset::EtcdRange));
    assert_eq!(
        (put.operation(0, 0).key, put.operation(100_001, 0).key),
        (Some(0), Some(1))
    );
    assert_eq!((&*put.key(0), &*put.key(99_999)), ("k0000000", "k0099999"));
    assert!((0..1000).all(|number| range.operation(number, 0).key == Some(0)));
    let mut buffer = String::new();
    put.value_into(&mut buffer, 7, &put.key(7));
    assert_eq!(buffer.len(), 256);
}

#[test]
fn scans_are_as_long_as_ycsbs() {
    const TOTAL: u64 = 100_000;
    let workload = preset(Preset::YcsbE);
    let mut counts = vec![0_u64; 101];
    for number in 0..TOTAL {
        counts[workload.scan_length(number) as usize] += 1;
    }
    assert_eq!(counts[0], 0);
    let expected = TOTAL as f64 / 100.0;
    let statistic: f64 = counts[1..]
        .iter()
        .map(|seen| (*seen as f64 - expected).powi(2) / expected)
        .sum();
    // 99 degrees of freedom: mean 99, deviation 14.1.
    assert!((30.0..170.0).contains(&statistic), "{statistic}");
}

#[test]
fn no_two_writes_and_no_loaded_record_have_the_same_value_or_name() {
    let workload = Workload::new(everything(), seed()).unwrap();
    let (mut values, mut names) = (HashSet::new(), HashSet::new());
    let mut sizes = HashSet::new();
    let mut buffer = String::new();
    for number in 0..3000 {
        let key = workload.key(number % 50);
        let name = workload.value_into(&mut buffer, number, &key).to_owned();
        assert_eq!(buffer.len(), workload.value_size(number));
        assert_eq!(workload.value(number, &key), (buffer.clone(), name.clone()));
        assert_eq!(workload.name_of(&key, &buffer), Some(&*name));
        assert_eq!(workload.inspect(&key, &buffer), Inspected::Intact(name.clone()));
        assert_eq!(workload.inspect("k50", &buffer), Inspected::Corrupt);
        assert!(values.insert(buffer.clone()) && names.insert(name));
        sizes.insert(buffer.len());
    }
    assert!(sizes.len() > 200 && sizes.iter().all(|size| (64..=300).contains(size)));
    let mut records = 0;
    for (number, (key, value)) in workload.records().enumerate() {
        assert_eq!(key, workload.key(number as u64));
        let name = workload.record_into(&mut buffer, number as u64).to_owned();
        assert_eq!(buffer, value);
        assert_eq!(workload.inspect(&key, &value), Inspected::Intact(name.clone()));
        assert!(values.insert(value) && names.insert(name));
        records += 1;
    }
    assert_eq!(records, 50);
    assert!(workload.keys().eq(workload.records().map(|(key, _)| key)));
}

#[test]
fn keys_beyond_the_records_have_names_of_the_same_form() {
    let config = WorkloadConfig {
        key_size: Some(12),
        key_prefix: "user-".into(),
        ..everything()
    };
    let workload = Workload::new(config, 1).unwrap();
    assert_eq!(&*workload.key(3), "user-0000003");
    assert_eq!(&*workload.key(workload.insert_key(0)), "user-0000050");
    let mut buffer = String::new();
    workload.key_name(workload.insert_key(12_345), &mut buffer);
    assert_eq!(buffer, "user-0012395");
}

#[test]
fn a_configuration_is_recorded_as_it_is_written() {
    let mut config = WorkloadConfig {
        value_size: "lognormal:256,1.0".parse().unwrap(),
        ..WorkloadConfig::default()
    };
    let json = serde_json::to_value(&config).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "mix": { "get": 50, "put": 50 }, "keys": 1000, "key_choice": "uniform", "key_prefix": "k",
            "value_size": "lognormal:256,1", "entropy": 1.0, "scan_length_max": 100, "tag": "v",
        })
    );
    Preset::EtcdPut.apply(&mut config);
    let json = serde_json::to_value(&config).unwrap();
    assert_eq!((&json["value_size"], &json["key_size"]), (&256.into(), &8.into()));
    assert_eq!(config.value_size, ValueSize::Fixed(256));
}
