//! Numbers and names as the screen shows them.

use std::fmt::Write as _;

use reports::record::Nanos;

use crate::clock::human;

/// Longest name that is shown.
const NAME_CHARS_MAX: usize = 60;

/// A whole number in groups of three.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time with three digits; a dash for one that is not known.
pub(super) fn time(nanos: Option<Nanos>) -> String {
    nanos.map_or_else(|| "-".into(), human)
}

/// A name from outside, made harmless: control characters and those that change the direction of writing become a dot,
/// and what is too long is cut.
pub(super) fn name(text: &str) -> String {
    let mut safe = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == NAME_CHARS_MAX {
            safe.push('…');
            break;
        }
        let turns = matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        let shown = if character.is_control() || turns {
            '·'
        } else {
            character
        };
        // Writing into a string cannot fail.
        let _ = safe.write_char(shown);
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn times_have_three_digits_and_a_unit() {
        for (nanos, text) in [
            (None, "-"),
            (Some(0), "0 ns"),
            (Some(68_400), "68.4 µs"),
            (Some(5_062_000), "5.06 ms"),
            (Some(515_300_000), "515 ms"),
            (Some(2_000_000_000), "2.00 s"),
        ] {
            assert_eq!(time(nanos), text);
        }
    }

    #[test]
    fn names_cannot_do_anything_to_the_terminal() {
        assert_eq!(name("\u{1b}[2Jn1\r\n\t\u{7}"), "·[2Jn1····");
        assert_eq!(name("a\u{202e}b\u{200b}c\u{9b}d"), "a·b·c·d");
        assert_eq!(name(&"x".repeat(1000)).chars().count(), NAME_CHARS_MAX + 1);
        assert_eq!(name("knoten-ä"), "knoten-ä");
    }
}
