//! The percentile distribution (`.hgrm`) as the Java library prints it (`AbstractHistogram.outputPercentileDistribution`,
//! HdrHistogram 2.2.2), for the public plotters.
//!
//! Promises: byte for byte what Java prints for the same counts. The rows are those of Java's `PercentileIterator`, done
//! here anew because the iterators of the Rust crate stop at other places: a level is reached at the first recorded
//! value whose percentile is at or above it, each row moves the level on by one tick of the present half distance, and
//! one more row says 100 %. Never corrects a value.

use hdrhistogram::Histogram;

use super::decimal::fixed;

/// Rows per halving of the distance to 100 % that the Java tools print unless told otherwise.
pub const TICKS_PER_HALF_DISTANCE: u32 = 5;
/// Nanoseconds shown as milliseconds, as the Java tools do unless told otherwise.
pub const NANOSECONDS_AS_MILLISECONDS: f64 = 1e6;

/// One row of a distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Largest value that falls together with those at this percentile, in the unit of the file.
    pub value: f64,
    /// The level, from 0 to 1.
    pub percentile: f64,
    /// Values at or below `value`.
    pub total_count: u64,
}

/// A distribution that was read back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distribution {
    /// The rows, from the lowest level up; none if nothing was recorded.
    pub rows: Vec<Row>,
    /// Mean, in the unit of the file.
    pub mean: f64,
    /// Standard deviation, in the unit of the file.
    pub standard_deviation: f64,
    /// Largest value, in the unit of the file.
    pub max: f64,
    /// Number of values.
    pub total_count: u64,
    /// Doublings of the value range.
    pub buckets: u64,
    /// Steps of equal width in each.
    pub sub_buckets: u64,
}

/// A line that is not part of a percentile distribution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the percentile distribution {problem}")]
pub struct HgrmError {
    /// Counted from one.
    pub line: usize,
    /// What is wrong, as the rest of a sentence.
    pub problem: &'static str,
}

/// Prints the distribution: values divided by `unit`, `ticks` rows per half distance (0 counts as 1).
pub fn render(histogram: &Histogram<u64>, ticks: u32, unit: f64) -> String {
    let digits = usize::from(histogram.sigfig());
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    for (value, level, count) in levels(histogram, ticks) {
        let percentile = level / 100.0;
        text += &format!(
            "{:>12} {} {count:>10}",
            fixed(value as f64 / unit, digits),
            fixed(percentile, 12)
        );
        if level != 100.0 {
            text += &format!(" {:>14}", fixed(1.0 / (1.0 - percentile), 2));
        }
        text.push('\n');
    }
    let (mean, deviation) = moments(histogram);
    text += &format!(
        "#[Mean    = {:>12}, StdDeviation   = {:>12}]\n",
        fixed(mean / unit, digits),
        fixed(deviation / unit, digits)
    );
    text += &format!(
        "#[Max     = {:>12}, Total count    = {:>12}]\n",
        fixed(histogram.max() as f64 / unit, digits),
        histogram.len()
    );
    text += &format!(
        "#[Buckets = {:>12}, SubBuckets     = {:>12}]\n",
        histogram.buckets(),
        sub_buckets(histogram.sigfig())
    );
    text
}

/// Value, level in percent and cumulative count of each row (`PercentileIterator`).
fn levels(histogram: &Histogram<u64>, ticks: u32) -> Vec<(u64, f64, u64)> {
    let ticks = f64::from(ticks.max(1));
    let total = histogram.len();
    let mut rows = Vec::new();
    let mut level = 0.0;
    let mut count = 0_u64;
    let mut last = 0;
    for step in histogram.iter_recorded() {
        last = step.value_iterated_to();
        count = count.saturating_add(step.count_at_value());
        let percentile = 100.0 * count as f64 / total as f64;
        while percentile >= level {
            rows.push((last, level, count));
            let next = level + 100.0 / (ticks * ticks_of_half_distance(level));
            // Of more than 2^53 values all but a few are 100 % to a double, and there Java would step on the spot.
            if count >= total || next <= level || next >= 100.0 {
                break;
            }
            level = next;
        }
    }
    if total > 0 {
        rows.push((last, 100.0, count));
    }
    rows
}

/// How many times a tick is narrower at this level than it would be if it spanned everything: 2 below 50 %, 4 below 75 %…
fn ticks_of_half_distance(level: f64) -> f64 {
    // In this form, logarithms and all, because their rounding decides where the next half distance begins.
    let halvings = ((100.0 / (100.0 - level)).ln() / 2_f64.ln()) as i32;
    2_f64.powi(halvings + 1)
}

/// Mean and standard deviation, each value taken as the middle of its step (`getMean`, `getStdDeviation`).
fn moments(histogram: &Histogram<u64>) -> (f64, f64) {
    let total = histogram.len() as f64;
    if histogram.is_empty() {
        return (0.0, 0.0);
    }
    let middle = |value| histogram.median_equivalent(value) as f64;
    let sum: f64 = histogram
        .iter_recorded()
        .map(|step| middle(step.value_iterated_to()) * step.count_at_value() as f64)
        .sum();
    let mean = sum / total;
    let squares: f64 = histogram
        .iter_recorded()
        .map(|step| {
            let deviation = middle(step.value_iterated_to()) - mean;
            deviation * deviation * step.count_at_value() as f64
        })
        .sum();
    (mean, (squares / total).sqrt())
}

/// The power of two that keeps this many digits over one doubling.
fn sub_buckets(digits: u8) -> u64 {
    (2 * 10_u64.pow(u32::from(digits))).next_power_of_two()
}

/// Reads a distribution that this module or the Java library wrote.
pub fn read(text: &str) -> Result<Distribution, HgrmError> {
    let mut distribution = Distribution::default();
    let mut footers = 0;
    let mut last = 0;
    for (index, line) in text.lines().enumerate() {
        last = index + 1;
        let wrong = |problem| HgrmError { line: last, problem };
        if index == 0 {
            if !line.split_whitespace().eq(HEADER.split_whitespace()) {
                return Err(wrong(
                    "is not the header `Value Percentile TotalCount 1/(1-Percentile)`",
                ));
            }
        } else if let Some(footer) = line.strip_prefix("#[") {
            read_footer(footer, &mut distribution)
                .ok_or_else(|| wrong("is not a footer with two numbers"))?;
            footers += 1;
        } else if !line.trim().is_empty() {
            let row = read_row(line).ok_or_else(|| wrong("is not a row of three or four numbers"))?;
            let ordered = distribution.rows.last().is_none_or(|before| {
                before.percentile <= row.percentile && before.total_count <= row.total_count
            });
            if !ordered {
                return Err(wrong("goes back: percentiles and counts only grow"));
            }
            distribution.rows.push(row);
        }
    }
    if footers == FOOTERS {
        Ok(distribution)
    } else {
        let problem = "is the last one, and the three footers are not all there: the file was cut short";
        Err(HgrmError { line: last, problem })
    }
}

const HEADER: &str = "Value Percentile TotalCount 1/(1-Percentile)";
const FOOTERS: u32 = 3;

fn read_row(line: &str) -> Option<Row> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if !(3..=4).contains(&fields.len()) {
        return None;
    }
    Some(Row {
        value: fields[0].parse().ok()?,
        percentile: fields[1]
            .parse()
            .ok()
            .filter(|level| (0.0..=1.0).contains(level))?,
        total_count: fields[2].parse().ok()?,
    })
}

/// `Name = number, Name = number]`.
fn read_footer(footer: &str, distribution: &mut Distribution) -> Option<()> {
    let (left, right) = footer.strip_suffix(']')?.split_once(',')?;
    for part in [left, right] {
        let (name, value) = part.split_once('=')?;
        let value = value.trim();
        match name.trim() {
            "Mean" => distribution.mean = value.parse().ok()?,
            "StdDeviation" => distribution.standard_deviation = value.parse().ok()?,
            "Max" => distribution.max = value.parse().ok()?,
            "Total count" => distribution.total_count = value.parse().ok()?,
            "Buckets" => distribution.buckets = value.parse().ok()?,
            "SubBuckets" => distribution.sub_buckets = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn histogram(values: &[(u64, u64)]) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_max(3_600_000_000, 3).unwrap();
        for (value, count) in values {
            histogram.record_n(*value, *count).unwrap();
        }
        histogram
    }

    /// Worked out by hand from Java's rules: 10, 20 and 30, of which 30 makes half, so that the levels 0 to 20 % end at
    /// 10 or 20, 30 to 50 % at 20, the last level reached below 100 % at 30, and one more row says 100 %.
    #[test]
    fn a_small_histogram_is_printed_as_java_prints_it() {
        let small = histogram(&[(10, 1), (20, 1), (30, 2)]);
        let expected = "
       Value     Percentile TotalCount 1/(1-Percentile)

      10.000 0.000000000000          1           1.00
      10.000 0.100000000000          1           1.11
      10.000 0.200000000000          1           1.25
      20.000 0.300000000000          2           1.43
      20.000 0.400000000000          2           1.67
      20.000 0.500000000000          2           2.00
      30.000 0.550000000000          4           2.22
      30.000 1.000000000000          4
#[Mean    =       22.500, StdDeviation   =        8.292]
#[Max     =       30.000, Total count    =            4]
#[Buckets =           22, SubBuckets     =         2048]
";
        assert_eq!(render(&small, 5, 1.0), &expected[1..]);
    }

    #[test]
    fn an_empty_histogram_has_a_header_and_footers_only() {
        let text = render(&histogram(&[]), 5, 1e6);
        assert_eq!(text.lines().count(), 5);
        let read = read(&text).unwrap();
        assert_eq!(
            (read.rows.len(), read.total_count, read.sub_buckets),
            (0, 0, 2048)
        );
    }

    #[test]
    fn more_values_than_a_double_can_tell_apart_come_to_an_end() {
        let text = render(&histogram(&[(10, 1 << 62), (20, 1)]), 5, 1.0);
        let read = read(&text).unwrap();
        assert!((200..400).contains(&read.rows.len()), "{}", read.rows.len());
        assert_eq!(read.rows.last().map(|row| row.value), Some(20.0));
    }

    #[test]
    fn what_was_printed_reads_back() {
        let large = histogram(&[(1_000_000, 900), (2_500_000, 90), (40_000_000, 10)]);
        let read = read(&render(
            &large,
            TICKS_PER_HALF_DISTANCE,
            NANOSECONDS_AS_MILLISECONDS,
        ))
        .unwrap();
        let last = read.rows.last().unwrap();
        assert_eq!((last.percentile, last.total_count), (1.0, 1000));
        assert_eq!(last.value, read.max);
        assert!((read.max - 40.0).abs() < 0.04, "{}", read.max);
        assert!((read.mean - (0.9 + 0.225 + 0.4)).abs() < 0.002, "{}", read.mean);
        let median = read.rows.iter().find(|row| row.percentile >= 0.5).unwrap();
        assert!((median.value - 1.0).abs() < 0.001);
    }

    #[test]
    fn damage_is_named_by_its_line() {
        let text = render(&histogram(&[(10, 1), (20, 3)]), 5, 1.0);
        let line_of = |text: &str| read(text).unwrap_err().line;
        assert_eq!(line_of(&text.replacen("Value", "Worth", 1)), 1);
        assert_eq!(line_of(&text.replacen("10.000 0.0", "ten 0.0", 1)), 3);
        assert_eq!(line_of(&text.replacen("0.100000000000", "1.100000000000", 1)), 4);
        let cut = text.rfind("#[Buckets").unwrap();
        assert_eq!(line_of(&text[..cut]), text.lines().count() - 1);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.swap(3, 5);
        assert!(read(&lines.join("\n")).is_err_and(|error| error.problem.contains("goes back")));
    }
}
