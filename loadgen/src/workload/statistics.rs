//! Tests of distributions and settings of property tests, for tests.
//!
//! Promises a number of standard deviations from what a correct implementation gives: with a fixed seed a bound of five
//! is either always kept or never. Never used outside tests.

use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

/// Property tests with the seed of `WHITEWATER_SEED`, or a new one; either is printed.
pub(super) fn properties() -> ProptestConfig {
    let given = std::env::var("WHITEWATER_SEED").ok();
    let seed = given.map(|text| text.parse().expect("WHITEWATER_SEED is a number"));
    let seed = seed.unwrap_or_else(|| super::mix_bits(u64::from(std::process::id())) & 0xffff_ffff);
    println!("WHITEWATER_SEED={seed}");
    ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..ProptestConfig::default()
    }
}

/// Cells with less than this many expected draws are pooled: below it the statistic is no longer chi-square.
const EXPECTED_MIN: f64 = 10.0;

/// Pearson's chi-square statistic of `counts` against the probability of each cell, as a standard normal deviate
/// (Wilson and Hilferty 1931). Positive means further from the expectation than chance makes likely.
pub(super) fn chi_square_z(counts: &[u64], probability: impl Fn(usize) -> f64) -> f64 {
    let total = counts.iter().sum::<u64>() as f64;
    let (mut statistic, mut cells) = (0.0, 0_u32);
    let (mut pooled_seen, mut pooled_expected, mut mass) = (0.0, 0.0, 0.0);
    for (cell, seen) in counts.iter().enumerate() {
        mass += probability(cell);
        pooled_seen += *seen as f64;
        pooled_expected += probability(cell) * total;
        if pooled_expected >= EXPECTED_MIN {
            statistic += (pooled_seen - pooled_expected).powi(2) / pooled_expected;
            cells += 1;
            (pooled_seen, pooled_expected) = (0.0, 0.0);
        }
    }
    if pooled_expected > 0.0 {
        statistic += (pooled_seen - pooled_expected).powi(2) / pooled_expected;
        cells += 1;
    }
    assert!((mass - 1.0).abs() < 1e-6, "the probabilities sum up to {mass}");
    let freedom = f64::from(cells - 1);
    let spread = 2.0 / (9.0 * freedom);
    ((statistic / freedom).cbrt() - (1.0 - spread)) / spread.sqrt()
}

/// How many standard deviations `hits` of `total` are from the expected share.
pub(super) fn z_of_share(hits: u64, total: u64, share: f64) -> f64 {
    let total = total as f64;
    (hits as f64 - total * share) / (total * share * (1.0 - share)).sqrt()
}

#[test]
fn a_fair_die_passes_and_a_loaded_one_does_not() {
    let z = chi_square_z(&[1003, 988, 1010, 1021, 969, 1009], |_| 1.0 / 6.0);
    assert!(z.abs() < 2.0, "{z}");
    let z = chi_square_z(&[1203, 888, 1010, 1021, 869, 1009], |_| 1.0 / 6.0);
    assert!(z > 5.0, "{z}");
    // The 95 % point of 10 degrees of freedom is 18.307: here all of it comes from the first two cells.
    let off = (18.307_f64 * 500.0).sqrt() as u64;
    let mut cells = [1000_u64; 11];
    (cells[0], cells[1]) = (1000 + off, 1000 - off);
    let z = chi_square_z(&cells, |_| 1.0 / 11.0);
    assert!((z - 1.645).abs() < 0.05, "{z}");
}
