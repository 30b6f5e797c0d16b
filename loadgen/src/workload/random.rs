//! Random words by number: the same word for the same seed, lane and number, in any order, from no state.
//!
//! Each [`Lane`] is a stream of the generator of Steele, Lea and Flood (*Fast Splittable Pseudorandom Number Generators*,
//! OOPSLA 2014) with a start and an odd step (*gamma*) of its own, drawn from the seed. Word `n` of a stream is the
//! finaliser of `start + n * gamma`, so that jumping to any `n` costs one multiplication more than the next one. The
//! finaliser is Stafford's variant 13 of MurmurHash3's, as in SplitMix64. Promises equal words on every platform and
//! statistical quality; never secrecy.

/// What a word is for. Lanes are independent of each other, so that one choice does not tell anything about another.
/// Their order is part of what a seed means: new ones go to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Which operation.
    Operation,
    /// Which key.
    Key,
    /// Size of the value.
    Size,
    /// Second word for sizes that take two.
    SizeTwin,
    /// Length of a scan.
    Scan,
    /// Text that paddings are cut from.
    Padding,
    /// Size of a preloaded record.
    Record,
    /// Second word for sizes of preloaded records that take two.
    RecordTwin,
}

const LANES: usize = Lane::RecordTwin as usize + 1;

/// The golden ratio in 64 bits, SplitMix64's own step.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The words of a seed.
#[derive(Debug, Clone)]
pub(super) struct Random {
    lanes: [(u64, u64); LANES],
}

impl Random {
    /// The words of `seed`.
    pub(super) fn new(seed: u64) -> Random {
        let mut state = mix_bits(seed);
        let mut next = || {
            state = state.wrapping_add(GOLDEN_GAMMA);
            finalise(state)
        };
        Random {
            lanes: std::array::from_fn(|_| (next(), odd_gamma(next()))),
        }
    }

    /// Word `number` of a lane.
    #[inline]
    pub(super) fn word(&self, lane: Lane, number: u64) -> u64 {
        let (start, gamma) = self.lanes[lane as usize];
        finalise(start.wrapping_add(number.wrapping_mul(gamma)))
    }
}

/// A step whose bits change often enough (section 5 of the paper).
fn odd_gamma(word: u64) -> u64 {
    let gamma = word | 1;
    if (gamma ^ (gamma >> 1)).count_ones() < 24 {
        gamma ^ 0xaaaa_aaaa_aaaa_aaaa
    } else {
        gamma
    }
}

#[inline]
fn finalise(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// SplitMix64: spreads consecutive numbers over all bits. Also the next word for whoever has to draw again.
#[inline]
pub(crate) fn mix_bits(number: u64) -> u64 {
    finalise(number.wrapping_add(GOLDEN_GAMMA))
}

/// A word to a number below `limit`, without a bias that matters (at most `limit / 2^64`).
#[inline]
pub(super) fn below(word: u64, limit: u64) -> u64 {
    ((u128::from(word) * u128::from(limit)) >> 64) as u64
}

/// A word to a fraction in [0, 1) with 53 bits.
#[inline]
pub(super) fn unit(word: u64) -> f64 {
    const STEP: f64 = 1.0 / (1_u64 << 53) as f64;
    (word >> 11) as f64 * STEP
}

/// Two words to a draw from the standard normal distribution (Box and Muller 1958).
pub(super) fn normal(one: u64, two: u64) -> f64 {
    let radius = (-2.0 * (1.0 - unit(one)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(two)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::statistics::{chi_square_z, z_of_share};

    const ALL: [Lane; LANES] = [
        Lane::Operation,
        Lane::Key,
        Lane::Size,
        Lane::SizeTwin,
        Lane::Scan,
        Lane::Padding,
        Lane::Record,
        Lane::RecordTwin,
    ];

    #[test]
    fn splitmix_gives_its_published_words() {
        // The first outputs for seed 1234567, as listed with the reference implementation.
        let mut state = 1_234_567_u64;
        let words: Vec<u64> = (0..3)
            .map(|_| {
                let word = mix_bits(state);
                state = state.wrapping_add(GOLDEN_GAMMA);
                word
            })
            .collect();
        assert_eq!(
            words,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn every_byte_of_every_lane_is_uniform_for_small_seeds() {
        for seed in [0, 1, 2, 3, u64::MAX] {
            let random = Random::new(seed);
            for lane in ALL {
                let mut counts = vec![[0_u64; 256]; 8];
                for number in 0..20_000 {
                    for (place, byte) in random.word(lane, number).to_le_bytes().into_iter().enumerate() {
                        counts[place][usize::from(byte)] += 1;
                    }
                }
                for (place, counts) in counts.iter().enumerate() {
                    let z = chi_square_z(counts, |_| 1.0 / 256.0);
                    assert!(z.abs() < 5.0, "seed {seed} {lane:?} byte {place}: z = {z}");
                }
            }
        }
    }

    /// Each bit of the one word must agree with the same bit of the other half of the time.
    fn assert_unrelated(what: &str, pairs: impl Iterator<Item = (u64, u64)>) {
        let mut agree = [0_u64; 64];
        let mut total = 0;
        for (one, two) in pairs {
            total += 1;
            for (bit, agree) in agree.iter_mut().enumerate() {
                *agree += (!(one ^ two) >> bit) & 1;
            }
        }
        for (bit, agree) in agree.into_iter().enumerate() {
            let z = z_of_share(agree, total, 0.5);
            assert!(z.abs() < 5.0, "{what}, bit {bit}: z = {z}");
        }
    }

    #[test]
    fn neighbours_in_number_lane_and_seed_are_unrelated() {
        let (random, next_seed) = (Random::new(7), Random::new(8));
        for lag in [1, 2, 3, 64, 1 << 32] {
            assert_unrelated(
                "numbers",
                (0..20_000).map(|n| (random.word(Lane::Key, n), random.word(Lane::Key, n + lag))),
            );
        }
        for (at, one) in ALL.into_iter().enumerate() {
            assert_unrelated(
                "seeds",
                (0..20_000).map(|n| (random.word(one, n), next_seed.word(one, n))),
            );
            for two in ALL.into_iter().skip(at + 1) {
                assert_unrelated(
                    "lanes",
                    (0..20_000).map(|n| (random.word(one, n), random.word(two, n))),
                );
            }
        }
        let mut seeds = Vec::new();
        for seed in 0..20_000 {
            let one = Random::new(seed).word(Lane::Key, 0);
            seeds.push((one, Random::new(seed + 1).word(Lane::Key, 0)));
        }
        assert_unrelated("first words of seeds", seeds.into_iter());
        assert_unrelated(
            "draw and redraw",
            (0..20_000).map(|n| {
                let word = random.word(Lane::Key, n);
                (word, mix_bits(word))
            }),
        );
    }

    #[test]
    fn the_check_of_relations_finds_one() {
        let related = std::panic::catch_unwind(|| {
            // A multiplicative generator without a finaliser: its low bits alternate.
            assert_unrelated("weak", (0..20_000_u64).map(|n| (n * 5, (n + 1) * 5)));
        });
        assert!(related.is_err());
    }

    #[test]
    fn fractions_stay_below_one_and_normal_draws_have_their_moments() {
        assert_eq!(unit(0), 0.0);
        assert!(unit(u64::MAX) < 1.0);
        assert_eq!((below(u64::MAX, 10), below(0, 10), below(u64::MAX, 1)), (9, 0, 0));
        let random = Random::new(3);
        let total = 200_000_u32;
        let (mut sum, mut squares) = (0.0, 0.0);
        for n in 0..u64::from(total) {
            let draw = normal(random.word(Lane::Size, n), random.word(Lane::SizeTwin, n));
            sum += draw;
            squares += draw * draw;
        }
        // Standard errors: 1 / sqrt(n) = 0.0022 of the mean, sqrt(2 / n) = 0.0032 of the variance.
        let mean = sum / f64::from(total);
        assert!(mean.abs() < 0.0112, "{mean}");
        let variance = squares / f64::from(total);
        assert!((variance - 1.0).abs() < 0.016, "{variance}");
        assert!(normal(u64::MAX, 0).is_finite() && normal(0, u64::MAX).is_finite());
    }
}
