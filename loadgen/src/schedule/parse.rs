//! Plans as people type them: `poisson`, `burst:100@1s`, `replay:plan.txt`, `10s@1k,30s@5k,10s->8k`.
//!
//! Never guesses: a length without its unit and a rate that cannot be kept exactly are refused, and the message quotes
//! the part that is wrong.

use std::path::Path;
use std::time::Duration;

use super::rate::RATE_MAX;
use super::{Arrivals, PlanError, Rate, Replay, STAGES_MAX, Stage, Stages};

/// Reads the shape of a plan: `poisson` or `constant`, which need a `rate`, or `burst:SIZE@EVERY` or `replay:FILE`, which
/// bring their own and refuse one. Reads the file of a replay.
pub fn parse_arrival(text: &str, rate: Option<Rate>) -> Result<Arrivals, PlanError> {
    let needed = || match rate {
        Some(rate) if rate.is_zero() => Err(PlanError::text(text, "at rate zero would never start anything")),
        Some(rate) => Ok(rate),
        None => Err(PlanError::text(text, "needs a rate, such as 5k")),
    };
    let refused = |why: &str| match rate {
        Some(rate) => Err(PlanError::text(
            text,
            format!("{why}; leave out the rate of {rate}"),
        )),
        None => Ok(()),
    };
    match text.split_once(':') {
        None if text == "poisson" => Ok(Arrivals::Poisson { rate: needed()? }),
        None if text == "constant" => Ok(Arrivals::Constant { rate: needed()? }),
        Some(("burst", shape)) => {
            refused("says itself how many arrive and when")?;
            burst(text, shape)
        }
        Some(("replay", "")) => Err(PlanError::text(text, "names no file, as in replay:plan.txt")),
        Some(("replay", file)) => {
            refused("has its times in the file")?;
            Replay::read(Path::new(file)).map(Arrivals::Replay)
        }
        _ => Err(PlanError::text(
            text,
            "is no kind of arrivals: use poisson, constant, burst:100@1s or replay:plan.txt",
        )),
    }
}

/// Reads stages, separated by commas: `30s@5k` is half a minute at 5000 a second, `10s@1k..5k` a ramp between two rates,
/// `10s->8k` a ramp from the rate before it, or from zero if it is the first.
pub fn parse_stages(text: &str) -> Result<Stages, PlanError> {
    let mut stages: Vec<Stage> = Vec::new();
    for (index, part) in text.split(',').enumerate() {
        if index == STAGES_MAX {
            return Err(PlanError::text(
                part,
                format!("is one stage too many; {STAGES_MAX} are the limit"),
            ));
        }
        let before = stages.last().map_or(Rate::ZERO, |stage| stage.to);
        let stage = stage(part.trim(), before).map_err(|source| PlanError::Stage {
            number: index + 1,
            source: Box::new(source),
        })?;
        stages.push(stage);
    }
    Stages::new(stages)
}

fn stage(text: &str, before: Rate) -> Result<Stage, PlanError> {
    let (length, from, to) = if let Some((length, to)) = text.split_once("->") {
        (length, before, to.trim().parse()?)
    } else if let Some((length, rates)) = text.split_once('@') {
        match rates.split_once("..") {
            Some((from, to)) => (length, from.trim().parse()?, to.trim().parse()?),
            None => {
                let rate: Rate = rates.trim().parse()?;
                (length, rate, rate)
            }
        }
    } else {
        return Err(PlanError::text(
            text,
            "is not a stage: write 30s@5k, 10s@1k..5k or 10s->8k",
        ));
    };
    Ok(Stage {
        length: duration(length.trim())?,
        from,
        to,
    })
}

fn burst(text: &str, shape: &str) -> Result<Arrivals, PlanError> {
    let (size, every) = shape
        .split_once('@')
        .ok_or_else(|| PlanError::text(text, "says no time between bursts; write burst:100@1s"))?;
    let size: u64 = size
        .parse()
        .map_err(|_| PlanError::text(size, "is not a whole number of arrivals at once"))?;
    let every = duration(every)?;
    if size == 0 || every.is_zero() {
        return Err(PlanError::text(text, "needs a size and a time above zero"));
    }
    let arrivals = Arrivals::Burst { size, every };
    if arrivals.rate().is_some_and(|rate| rate > RATE_MAX) {
        return Err(PlanError::text(text, "is above one operation a nanosecond"));
    }
    Ok(arrivals)
}

fn duration(text: &str) -> Result<Duration, PlanError> {
    humantime::parse_duration(text).map_err(|error| {
        PlanError::text(
            text,
            format!("is not a time with its unit, such as 500ms, 30s or 5m: {error}"),
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn k(thousands: u64) -> Rate {
        Rate::per_second(thousands * 1000)
    }

    #[test]
    fn stages_follow_one_another() {
        let stages = parse_stages("10s@1k, 30s@5k/s,10s->8k,1m@2k..0").unwrap();
        let expected = [(10, 1, 1), (30, 5, 5), (10, 5, 8), (60, 2, 0)];
        let got: Vec<_> = stages
            .stages()
            .iter()
            .map(|stage| (stage.length.as_secs(), stage.from, stage.to))
            .collect();
        assert_eq!(got, expected.map(|(length, from, to)| (length, k(from), k(to))));
        assert_eq!(parse_stages("5s->2k").unwrap().stages()[0].from, Rate::ZERO);
        assert_eq!(parse_stages("5s->2k").unwrap().mean_rate(), k(1));
    }

    #[test]
    fn what_is_wrong_with_stages_is_quoted() {
        let many = "1s@1,".repeat(STAGES_MAX) + "1s@1";
        for (text, message) in [
            ("", "stage 1: `` is not a stage: write 30s@5k"),
            ("10s@1k,,", "stage 2: `` is not a stage"),
            ("10s@1k,20@5k", "stage 2: `20` is not a time with its unit"),
            ("10s@fast", "stage 1: `fast` is not a rate"),
            ("10s@1k..", "stage 1: `` is not a rate"),
            ("10s->-5", "stage 1: `-5` is not a rate"),
            ("10s@0.0001", "stage 1: `0.0001` has more digits"),
            ("10s@2000m", "stage 1: `2000m` is above the highest rate"),
            ("0s@1k", "stage 1: `0s` is no length"),
            ("10s@0,5s@0", "`0/s` is the rate of every stage"),
            ("300d@1,300d@1", "stage 2: `9months 26days"),
            (many.as_str(), "`1s@1` is one stage too many"),
        ] {
            let got = parse_stages(text).unwrap_err().to_string();
            assert!(got.starts_with(message), "{got:?} should begin with {message:?}");
        }
    }

    #[test]
    fn arrivals_are_read_by_name() {
        let rate = Some(k(5));
        assert_eq!(
            parse_arrival("poisson", rate).unwrap(),
            Arrivals::Poisson { rate: k(5) }
        );
        assert_eq!(
            parse_arrival("constant", rate).unwrap(),
            Arrivals::Constant { rate: k(5) }
        );
        let every = Duration::from_secs(1);
        assert_eq!(
            parse_arrival("burst:100@1s", None).unwrap(),
            Arrivals::Burst { size: 100, every }
        );
    }

    #[test]
    fn what_is_wrong_with_arrivals_is_quoted() {
        for (text, rate, message) in [
            ("poisson", None, "`poisson` needs a rate"),
            ("constant", Some(Rate::ZERO), "`constant` at rate zero"),
            ("uniform", Some(k(1)), "`uniform` is no kind of arrivals"),
            ("burst:100", None, "`burst:100` says no time"),
            ("burst:many@1s", None, "`many` is not a whole number"),
            (
                "burst:0@1s",
                None,
                "`burst:0@1s` needs a size and a time above zero",
            ),
            (
                "burst:5@0s",
                None,
                "`burst:5@0s` needs a size and a time above zero",
            ),
            ("burst:5@7", None, "`7` is not a time with its unit"),
            (
                "burst:5@1s",
                Some(k(1)),
                "`burst:5@1s` says itself how many arrive",
            ),
            ("burst:5000000000@1s", None, "`burst:5000000000@1s` is above one"),
            ("replay:", None, "`replay:` names no file"),
            (
                "replay:/nowhere/p",
                Some(k(1)),
                "`replay:/nowhere/p` has its times in the file",
            ),
            ("replay:/nowhere/p", None, "cannot read the plan /nowhere/p:1:"),
        ] {
            let got = parse_arrival(text, rate).unwrap_err().to_string();
            assert!(got.starts_with(message), "{got:?} should begin with {message:?}");
        }
    }
}
