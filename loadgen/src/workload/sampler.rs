//! From a [`KeyChoice`] and a random word to a key.
//!
//! Promises keys that exist: below the number of records, or for the choices that go back from the newest key, below the
//! number of keys known to exist. Keeps no state between draws.

use super::keys::KeyChoice;
use super::random::{below, mix_bits, unit};
use super::scramble::Scramble;
use super::ycsb::ScrambledZipfian;
use super::zipf::Zipf;

/// A choice, ready to draw from.
#[derive(Debug, Clone)]
pub(super) struct Sampler {
    records: u64,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Uniform,
    Zipfian { ranks: Box<Zipf>, scramble: Scramble },
    ZipfianYcsb(ScrambledZipfian),
    Latest { ages: Box<Zipf> },
    Hotspot { hot: u64, operations: f64 },
    Sequential,
    Exponential { gamma: f64, records_mass: f64 },
}

impl Sampler {
    /// Of a valid choice among `records`, at least one.
    pub(super) fn new(choice: &KeyChoice, records: u64) -> Sampler {
        let kind = match *choice {
            KeyChoice::Uniform => Kind::Uniform,
            KeyChoice::Zipfian { theta } => Kind::Zipfian {
                ranks: Box::new(Zipf::new(theta, records)),
                scramble: Scramble::below(records),
            },
            KeyChoice::ZipfianYcsb => Kind::ZipfianYcsb(ScrambledZipfian::over(records)),
            KeyChoice::Latest { theta } => Kind::Latest {
                ages: Box::new(Zipf::new(theta, records)),
            },
            KeyChoice::Hotspot { keys, operations } => Kind::Hotspot {
                hot: ((records as f64 * keys) as u64).clamp(1, records),
                operations,
            },
            KeyChoice::Sequential => Kind::Sequential,
            KeyChoice::Exponential { percentile, fraction } => {
                let gamma = -(-percentile / 100.0).ln_1p() / (records as f64 * fraction);
                Kind::Exponential {
                    gamma,
                    records_mass: mass_below(gamma, records),
                }
            }
        };
        Sampler { records, kind }
    }

    /// The key of operation `number`, whose random word is `word`, where `known` keys are known to exist.
    #[inline]
    pub(super) fn key(&self, number: u64, word: u64, known: u64) -> u64 {
        let known = known.max(self.records);
        match &self.kind {
            Kind::Uniform => below(word, self.records),
            Kind::Zipfian { ranks, scramble } => scramble.apply(ranks.rank(word)),
            Kind::ZipfianYcsb(generator) => generator.key(word),
            Kind::Latest { ages } => known - 1 - ages.rank_over(known, word),
            Kind::Hotspot { hot, operations } => {
                let cold = self.records - hot;
                let place = mix_bits(word);
                if unit(word) < *operations || cold == 0 {
                    below(place, *hot)
                } else {
                    hot + below(place, cold)
                }
            }
            Kind::Sequential => number % self.records,
            Kind::Exponential { gamma, records_mass } => {
                let mass = match known == self.records {
                    true => *records_mass,
                    false => mass_below(*gamma, known),
                };
                // An exponential draw cut off at `known`: YCSB draws until it falls below, which is the same.
                let age = -(1.0 - unit(word) * mass).ln() / gamma;
                known - 1 - (age as u64).min(known - 1)
            }
        }
    }
}

/// How much of an exponential distribution lies below `known`.
fn mass_below(gamma: f64, known: u64) -> f64 {
    -(-gamma * known as f64).exp_m1()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::workload::random::{Lane, Random};
    use crate::workload::statistics::{chi_square_z, properties, z_of_share};

    const DRAWS: u64 = 300_000;

    fn counts(choice: &str, records: u64, known: u64) -> Vec<u64> {
        let sampler = Sampler::new(&choice.parse().unwrap(), records);
        let random = Random::new(21);
        let mut counts = vec![0; known as usize];
        for number in 0..DRAWS {
            counts[sampler.key(number, random.word(Lane::Key, number), known) as usize] += 1;
        }
        counts
    }

    fn zipf(theta: f64, items: u64) -> Vec<f64> {
        let sum: f64 = (1..=items).rev().map(|rank| (rank as f64).powf(-theta)).sum();
        (1..=items).map(|rank| (rank as f64).powf(-theta) / sum).collect()
    }

    #[track_caller]
    fn assert_fits(what: &str, counts: &[u64], probability: impl Fn(usize) -> f64) {
        let z = chi_square_z(counts, probability);
        assert!(z.abs() < 5.0, "{what}: z = {z}");
    }

    #[test]
    fn uniform_keys_are_uniform() {
        for records in [2, 16, 1000] {
            assert_fits("uniform", &counts("uniform", records, records), |_| {
                1.0 / records as f64
            });
        }
        let skewed = chi_square_z(&counts("zipfian:0.05", 1000, 1000), |_| 1.0 / 1000.0);
        assert!(skewed > 5.0, "a slight skew is noticed: {skewed}");
    }

    #[test]
    fn zipfian_keys_follow_the_law_behind_the_scramble() {
        for theta in [0.5, 0.99, 1.2] {
            let seen = counts(&format!("zipfian:{theta}"), 1000, 1000);
            let scramble = Scramble::below(1000);
            let by_rank: Vec<u64> = (0..1000)
                .map(|rank| seen[scramble.apply(rank) as usize])
                .collect();
            let expected = zipf(theta, 1000);
            assert_fits("zipfian", &by_rank, |rank| expected[rank]);
        }
    }

    #[test]
    fn latest_keys_follow_the_law_back_from_the_newest() {
        for known in [100, 150, 1000] {
            let mut seen = counts("latest", 100, known);
            seen.reverse();
            let expected = zipf(0.99, known);
            assert_fits("latest", &seen, |age| expected[age]);
        }
    }

    #[test]
    fn hotspots_take_their_share_evenly() {
        for (records, hot, operations) in [(1000, 200, 0.8), (10, 2, 0.8), (1000, 1, 0.5), (1, 1, 0.3)] {
            let keys = hot as f64 / records as f64;
            // Slightly above the fraction, so that the product does not round below the number of hot keys.
            let choice = format!("hotspot:{}/{operations}", (keys + 1e-9).min(0.999_999_999));
            let seen = counts(&choice, records, records);
            if records == 1 {
                continue;
            }
            assert_fits(&choice, &seen, |key| match (key as u64) < hot {
                true => operations / hot as f64,
                false => (1.0 - operations) / (records - hot) as f64,
            });
        }
        assert_eq!(counts("hotspot:0.2/1", 10, 10)[2..], [0; 8]);
        assert_eq!(counts("hotspot:0.2/0", 10, 10)[..2], [0; 2]);
    }

    #[test]
    fn exponential_keys_fall_off_back_from_the_newest() {
        for (choice, percentile, fraction) in [
            ("exponential", 95.0, 0.857_142_857_1),
            ("exponential:90,0.1", 90.0, 0.1),
        ] {
            let mut seen = counts(choice, 1000, 1200);
            seen.reverse();
            let gamma = -f64::ln(1.0 - percentile / 100.0) / (1000.0 * fraction);
            let all = 1.0 - (-gamma * 1200.0).exp();
            assert_fits(choice, &seen, |age| {
                let age = age as f64;
                ((-gamma * age).exp() - (-gamma * (age + 1.0)).exp()) / all
            });
        }
        // What the parameters mean: 90 % of the operations on the newest tenth. The cut-off takes nothing here.
        let seen = counts("exponential:90,0.1", 1000, 1000);
        let newest: u64 = seen[900..].iter().sum();
        let z = z_of_share(newest, DRAWS, 0.9);
        assert!(z.abs() < 5.0, "{z}");
    }

    #[test]
    fn sequential_keys_come_round_in_order() {
        let sampler = Sampler::new(&KeyChoice::Sequential, 3);
        let keys: Vec<u64> = (0..7).map(|number| sampler.key(number, 99, 3)).collect();
        assert_eq!(keys, [0, 1, 2, 0, 1, 2, 0]);
    }

    proptest! {
        #![proptest_config(properties())]

        #[test]
        fn only_keys_that_exist_are_named(
            word in any::<u64>(),
            number in any::<u64>(),
            records in 1_u64..1 << 40,
            inserted in 0_u64..1 << 40,
        ) {
            let known = records + inserted;
            for choice in ["uniform", "zipfian", "zipfian:1.5", "zipfian-ycsb", "hotspot:0.2/0.8", "sequential"] {
                let sampler = Sampler::new(&choice.parse().unwrap(), records);
                prop_assert!(sampler.key(number, word, known) < records, "{}", choice);
            }
            for choice in ["latest", "latest:0.3", "latest:2", "exponential", "exponential:99.9,0.001"] {
                let sampler = Sampler::new(&choice.parse().unwrap(), records);
                prop_assert!(sampler.key(number, word, known) < known, "{}", choice);
                prop_assert!(sampler.key(number, word, 0) < records, "{}", choice);
            }
        }
    }
}
