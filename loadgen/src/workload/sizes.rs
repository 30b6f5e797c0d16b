//! Sizes of values, as people write them: `256`, `64..4096`, `64:70,1024:30`, `lognormal:256,1.0`.
//!
//! Promises that what is shown can be read back, and that a size asked for outright is used or refused; only the tails of
//! `lognormal` are cut off, at the smallest value that carries its own check and at the largest that the store takes.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::WorkloadError;
use super::config::VALUE_BYTES_MAX;
use super::random::{below, normal};
use crate::cli::units;

/// Entries of a weighted list.
const WEIGHTED_MAX: usize = 1000;
/// With more, nearly all draws would be cut off.
const SIGMA_MAX: f64 = 10.0;

/// Bytes of each value.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueSize {
    /// Always the same.
    Fixed(usize),
    /// Every size from the first to the second, both included, equally likely.
    Range(usize, usize),
    /// Sizes and their weights.
    Weighted(Vec<(usize, u32)>),
    /// Logarithms of sizes are normally distributed. Draws below the smallest value that carries its own check, or above
    /// what the store takes (1 MiB), become those.
    LogNormal {
        /// Half of the values are smaller, in bytes.
        median: usize,
        /// Standard deviation of the natural logarithm, from 0 to 10.
        sigma: f64,
    },
}

impl ValueSize {
    /// Refuses what makes no sense, and what cannot hold a check of `needed` bytes.
    pub(super) fn check(&self, needed: usize) -> Result<(), WorkloadError> {
        let fits = |asked: usize| match asked {
            _ if asked < needed => Err(WorkloadError::ValueTooSmall { asked, needed }),
            _ if asked > VALUE_BYTES_MAX => Err(WorkloadError::ValueTooLarge { asked }),
            _ => Ok(()),
        };
        self.check_form()?;
        match self {
            ValueSize::Fixed(size) => fits(*size),
            ValueSize::Range(low, high) => fits(*low).and_then(|()| fits(*high)),
            ValueSize::Weighted(list) => list.iter().try_for_each(|(size, _)| fits(*size)),
            ValueSize::LogNormal { median, .. } => fits(*median),
        }
    }

    fn check_form(&self) -> Result<(), WorkloadError> {
        let problem = match self {
            ValueSize::Range(low, high) if low > high => "must begin with the smaller size, as in 64..4096",
            ValueSize::Weighted(list) if list.len() > WEIGHTED_MAX => "has more than 1000 entries",
            ValueSize::Weighted(list) if list.iter().all(|(_, weight)| *weight == 0) => {
                "needs a weight above zero, as in 64:70,1024:30"
            }
            ValueSize::LogNormal { sigma, .. } if !(0.0..=SIGMA_MAX).contains(sigma) => {
                "needs a deviation from 0 to 10, as in lognormal:256,1.0"
            }
            _ => return Ok(()),
        };
        Err(refusal(&self.to_string(), problem))
    }
}

impl Default for ValueSize {
    fn default() -> ValueSize {
        ValueSize::Fixed(256)
    }
}

impl From<usize> for ValueSize {
    fn from(size: usize) -> ValueSize {
        ValueSize::Fixed(size)
    }
}

impl fmt::Display for ValueSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueSize::Fixed(size) => write!(f, "{size}"),
            ValueSize::Range(low, high) => write!(f, "{low}..{high}"),
            ValueSize::Weighted(list) => {
                for (at, (size, weight)) in list.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    write!(f, "{comma}{size}:{weight}")?;
                }
                Ok(())
            }
            ValueSize::LogNormal { median, sigma } => write!(f, "lognormal:{median},{sigma}"),
        }
    }
}

impl FromStr for ValueSize {
    type Err = WorkloadError;

    fn from_str(text: &str) -> Result<ValueSize, WorkloadError> {
        let bytes = |part: &str| {
            units::bytes(part.trim()).map_err(|problem| refusal(text, &format!("holds no size: {problem}")))
        };
        let size = if let Some(rest) = text.strip_prefix("lognormal") {
            let parts = rest.strip_prefix(':').and_then(|rest| rest.split_once(','));
            let (median, sigma) =
                parts.ok_or_else(|| refusal(text, "needs median and deviation, as in lognormal:256,1.0"))?;
            let wrong = |_| refusal(text, &format!("holds `{sigma}` where a number is needed"));
            ValueSize::LogNormal {
                median: bytes(median)?,
                sigma: sigma.trim().parse().map_err(wrong)?,
            }
        } else if let Some((low, high)) = text.split_once("..") {
            ValueSize::Range(bytes(low)?, bytes(high)?)
        } else if text.contains(':') {
            let entries = text.split(',').map(|entry| {
                let (size, weight) = entry.split_once(':').ok_or_else(|| {
                    refusal(
                        text,
                        &format!("holds `{entry}`, not size:weight as in 64:70,1024:30"),
                    )
                })?;
                let wrong = |_| refusal(text, &format!("holds the weight `{weight}`, not a whole number"));
                Ok((bytes(size)?, weight.trim().parse().map_err(wrong)?))
            });
            ValueSize::Weighted(entries.collect::<Result<_, WorkloadError>>()?)
        } else {
            ValueSize::Fixed(bytes(text)?)
        };
        size.check_form()?;
        Ok(size)
    }
}

impl Serialize for ValueSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ValueSize::Fixed(size) => serializer.serialize_u64(*size as u64),
            _ => serializer.collect_str(self),
        }
    }
}

fn refusal(text: &str, problem: &str) -> WorkloadError {
    WorkloadError::BadSetting {
        what: "value size",
        text: text.to_owned(),
        problem: problem.to_owned(),
    }
}

/// A size, ready to draw from.
#[derive(Debug, Clone)]
pub(super) enum SizeTable {
    Fixed(usize),
    Range {
        low: usize,
        count: u64,
    },
    Weighted {
        steps: Vec<(u64, usize)>,
        total: u64,
    },
    LogNormal {
        log_median: f64,
        sigma: f64,
        smallest: f64,
    },
}

impl SizeTable {
    /// Of a size that passed the check for `needed` bytes.
    pub(super) fn new(size: &ValueSize, needed: usize) -> SizeTable {
        match size {
            ValueSize::Fixed(size) => SizeTable::Fixed(*size),
            ValueSize::Range(low, high) => SizeTable::Range {
                low: *low,
                count: (high - low) as u64 + 1,
            },
            ValueSize::Weighted(list) => {
                let mut total = 0;
                let steps = list.iter().map(|(size, weight)| {
                    total += u64::from(*weight);
                    (total, *size)
                });
                let steps = steps.collect();
                SizeTable::Weighted { steps, total }
            }
            ValueSize::LogNormal { median, sigma } => SizeTable::LogNormal {
                log_median: (*median as f64).ln(),
                sigma: *sigma,
                smallest: needed as f64,
            },
        }
    }

    /// A size from two words, of which the second is made only where it is needed.
    #[inline]
    pub(super) fn draw(&self, one: u64, two: impl FnOnce() -> u64) -> usize {
        match self {
            SizeTable::Fixed(size) => *size,
            SizeTable::Range { low, count } => low + below(one, *count) as usize,
            SizeTable::Weighted { steps, total } => {
                let point = below(one, *total);
                let at = steps.partition_point(|(until, _)| *until <= point);
                steps[at].1
            }
            SizeTable::LogNormal {
                log_median,
                sigma,
                smallest,
            } => {
                let drawn = (log_median + sigma * normal(one, two())).exp();
                drawn.round().clamp(*smallest, VALUE_BYTES_MAX as f64) as usize
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::workload::random::{Lane, Random};
    use crate::workload::statistics::{chi_square_z, z_of_share};

    const DRAWS: u64 = 100_000;

    fn draws(text: &str) -> Vec<usize> {
        let size: ValueSize = text.parse().unwrap();
        size.check(30).unwrap();
        let table = SizeTable::new(&size, 30);
        let random = Random::new(4);
        let draw = |n| table.draw(random.word(Lane::Size, n), || random.word(Lane::SizeTwin, n));
        (0..DRAWS).map(draw).collect()
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for (text, shown, json) in [
            ("256", "256", "256"),
            ("1k", "1024", "1024"),
            ("64..4096", "64..4096", "\"64..4096\""),
            ("64..1k", "64..1024", "\"64..1024\""),
            ("64:70,1024:30", "64:70,1024:30", "\"64:70,1024:30\""),
            ("64:1, 1m:2", "64:1,1048576:2", "\"64:1,1048576:2\""),
            ("lognormal:256,1.0", "lognormal:256,1", "\"lognormal:256,1\""),
            (
                "lognormal:1k,0.25",
                "lognormal:1024,0.25",
                "\"lognormal:1024,0.25\"",
            ),
        ] {
            let size: ValueSize = text.parse().unwrap();
            assert_eq!(size.to_string(), shown);
            assert_eq!(shown.parse::<ValueSize>().unwrap(), size);
            assert_eq!(serde_json::to_string(&size).unwrap(), json);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "holds no size"),
            ("big", "holds no size"),
            ("-5", "holds no size"),
            ("64..", "holds no size"),
            ("..64", "holds no size"),
            ("4096..64", "must begin with the smaller size"),
            ("64:70,1024", "not size:weight"),
            ("64:many", "holds the weight `many`"),
            ("64:0,100:0", "needs a weight above zero"),
            ("lognormal", "needs median and deviation"),
            ("lognormal:256", "needs median and deviation"),
            ("lognormal:256,wide", "holds `wide`"),
            ("lognormal:256,-1", "needs a deviation from 0 to 10"),
            ("lognormal:256,NaN", "needs a deviation from 0 to 10"),
        ] {
            let error = text.parse::<ValueSize>().unwrap_err().to_string();
            assert!(
                error.contains(reason) && error.contains("value size"),
                "{text}: {error}"
            );
        }
        let long = vec!["64:1"; WEIGHTED_MAX + 1].join(",");
        assert!(
            long.parse::<ValueSize>()
                .is_err_and(|error| error.to_string().contains("1000 entries"))
        );
    }

    #[test]
    fn sizes_that_no_value_can_have_are_refused() {
        for text in ["29", "29..64", "64:1,29:1", "lognormal:29,1"] {
            let error = text.parse::<ValueSize>().unwrap().check(30).unwrap_err();
            assert_eq!(
                error,
                WorkloadError::ValueTooSmall {
                    asked: 29,
                    needed: 30
                },
                "{text}"
            );
        }
        for text in ["1048577", "64..1048577", "64:1,1048577:1", "lognormal:1048577,1"] {
            let error = text.parse::<ValueSize>().unwrap().check(30).unwrap_err();
            assert_eq!(error, WorkloadError::ValueTooLarge { asked: 1_048_577 }, "{text}");
        }
        assert!(
            ValueSize::Range(64, 30).check(30).is_err() && ValueSize::Weighted(vec![]).check(30).is_err()
        );
    }

    #[test]
    fn ranges_and_weights_are_kept() {
        assert!(draws("256").iter().all(|size| *size == 256));
        let mut counts = vec![0_u64; 100];
        for size in draws("64..163") {
            counts[size - 64] += 1;
        }
        let z = chi_square_z(&counts, |_| 0.01);
        assert!(z.abs() < 5.0, "{z}");
        let small = draws("64:70,500:0,1024:30").into_iter().filter(|size| {
            assert!([64, 1024].contains(size));
            *size == 64
        });
        let z = z_of_share(small.count() as u64, DRAWS, 0.7);
        assert!(z.abs() < 5.0, "{z}");
    }

    #[test]
    fn lognormal_sizes_have_their_median_and_spread_and_stay_in_bounds() {
        let sizes = draws("lognormal:1000,0.5");
        // Shares below the median, one deviation below it and one above, of the normal distribution.
        for (limit, share) in [(1000.0, 0.5), (606.53, 0.158_655), (1648.72, 0.841_345)] {
            let hits = sizes.iter().filter(|size| (**size as f64) < limit).count();
            let z = z_of_share(hits as u64, DRAWS, share);
            assert!(z.abs() < 5.0, "{limit}: {z}");
        }
        // The mean of the distribution is median * exp(sigma^2 / 2), its deviation 0.604 of it.
        let mean = sizes.iter().sum::<usize>() as f64 / DRAWS as f64;
        assert!(
            (mean / 1133.15 - 1.0).abs() < 5.0 * 0.533 / (DRAWS as f64).sqrt(),
            "{mean}"
        );
        let wide = draws("lognormal:256,6");
        assert_eq!(
            (wide.iter().min(), wide.iter().max()),
            (Some(&30), Some(&VALUE_BYTES_MAX))
        );
        assert!(draws("lognormal:256,0").iter().all(|size| *size == 256));
    }
}
