//! A fixed permutation of the numbers below `n` that spreads neighbours, so that the hot keys of a skewed choice do not
//! lie side by side.
//!
//! Rounds of multiply and xor-shift permute the numbers of as many bits as `n` needs; a result of `n` or above is sent
//! through again until it falls below (cycle walking, Black and Rogaway, *Ciphers with Arbitrary Finite Domains*, 2002,
//! section 3). Every step can be undone, hence no two ranks share a key, as they do with the hash that YCSB uses. The
//! permutation depends on `n` alone, not on the seed: the same keys are hot in every run over the same number of keys,
//! so that runs with different seeds can be compared. Never hides anything: it is no cipher.

/// Odd, so that multiplication by it modulo a power of two can be undone; bits of the square roots of 2, 3 and 5.
const MULTIPLIERS: [u64; 3] = [
    0x6a09_e667_f3bc_c909,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
];

/// The permutation of the numbers below a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scramble {
    limit: u64,
    mask: u64,
    shift: u32,
}

impl Scramble {
    /// Of the numbers below `limit`, which is at least one.
    pub(super) fn below(limit: u64) -> Scramble {
        let bits = (64 - (limit - 1).leading_zeros()).max(1);
        Scramble {
            limit,
            mask: u64::MAX >> (64 - bits),
            shift: bits.div_ceil(2),
        }
    }

    /// Where `number`, below the limit, goes.
    #[inline]
    pub(super) fn apply(&self, number: u64) -> u64 {
        let mut at = number;
        loop {
            at = self.permute(at);
            if at < self.limit {
                return at;
            }
        }
    }

    /// A permutation of all numbers of these bits. The addition keeps zero from staying where it is.
    fn permute(&self, mut x: u64) -> u64 {
        for multiplier in MULTIPLIERS {
            x = x.wrapping_add(multiplier >> 7).wrapping_mul(multiplier) & self.mask;
            x ^= x >> self.shift;
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::workload::statistics::properties;

    #[test]
    fn it_is_a_bijection_for_every_small_limit() {
        for limit in (1..=1025).chain([4095, 4096, 4097, 65_537, 100_000]) {
            let scramble = Scramble::below(limit);
            let mut seen = vec![false; limit as usize];
            for number in 0..limit {
                let at = scramble.apply(number) as usize;
                assert!(!std::mem::replace(&mut seen[at], true), "limit {limit}: {number}");
            }
        }
    }

    #[test]
    fn the_hottest_ranks_are_far_apart() {
        for limit in [1000, 4096, 1_000_000, 1 << 40] {
            let scramble = Scramble::below(limit);
            let mut places: Vec<u64> = (0..32).map(|rank| scramble.apply(rank)).collect();
            places.sort_unstable();
            let quarter = |n: u64| places.iter().filter(|at| **at / limit.div_ceil(4) == n).count();
            assert!((0..4).all(|n| quarter(n) >= 2), "{limit}: {places:?}");
            let adjacent = places.windows(2).filter(|pair| pair[1] - pair[0] == 1).count();
            assert!(adjacent <= 3, "{limit}: {places:?}");
        }
    }

    proptest! {
        #![proptest_config(properties())]

        #[test]
        fn numbers_near_each_other_never_meet(limit in 1_u64..=1 << 53, at in any::<u64>()) {
            let scramble = Scramble::below(limit);
            let count = limit.min(200);
            let from = at % (limit - count + 1);
            let places: HashSet<u64> = (from..from + count).map(|n| scramble.apply(n)).collect();
            prop_assert_eq!(places.len() as u64, count);
            prop_assert!(places.iter().all(|place| *place < limit));
        }

        #[test]
        fn every_step_can_be_undone(bits in 1_u32..=53, number in any::<u64>()) {
            let scramble = Scramble::below(1 << bits);
            let number = number & scramble.mask;
            let mut x = scramble.permute(number);
            for multiplier in MULTIPLIERS.into_iter().rev() {
                // A shift by half of the bits or more undoes itself.
                x ^= x >> scramble.shift;
                // Newton's iteration for the inverse modulo 2^64.
                let mut inverse = multiplier;
                for _ in 0..6 {
                    inverse = inverse.wrapping_mul(2_u64.wrapping_sub(multiplier.wrapping_mul(inverse)));
                }
                x = x.wrapping_mul(inverse).wrapping_sub(multiplier >> 7) & scramble.mask;
            }
            prop_assert_eq!(x, number);
        }
    }
}
