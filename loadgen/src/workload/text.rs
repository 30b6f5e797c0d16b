//! The text of values: `name:key:checksum:padding`.
//!
//! The name is the run's tag and the number of the operation that wrote it (for preloaded records, tag, `p` and the
//! number of the key). The checksum is CRC-32C, in eight hexadecimal digits, over everything else, colons before it
//! included; processors compute it in hardware. It guards against mix-ups and damage, not against malice. Paddings are
//! cut from one block made beforehand. Promises that a value under another key, or with any run of up to 32 damaged
//! bits, is told from an intact one. Never allocates while writing into a buffer that is large enough.

use super::random::{Lane, Random, mix_bits};

/// Hexadecimal digits of the checksum.
pub(super) const CHECKSUM_DIGITS: usize = 8;
/// Text that paddings are cut from.
const BLOCK_BYTES: usize = 1 << 16;
/// Random and repeating text take turns within so many bytes: long enough for a compressor to notice, short enough for
/// small values to have both.
const CELL_BYTES: usize = 64;
/// What repeats.
const FILLER: u8 = b'.';
/// What is random: six bits a byte, since values are text.
const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Writes values.
#[derive(Debug)]
pub(super) struct Texts {
    tag: String,
    block: String,
}

impl Texts {
    /// `entropy` is the share of random bytes in paddings, from zero to one.
    pub(super) fn new(tag: &str, entropy: f64, random: &Random) -> Texts {
        Texts {
            tag: tag.to_owned(),
            block: block(entropy, random),
        }
    }

    /// Writes the value of operation `number` under `key`, of `size` bytes or of what its check takes if that is more,
    /// and gives the bytes of its name, which it begins with. `kind` stands between tag and number.
    #[inline]
    pub(super) fn write(
        &self,
        buffer: &mut String,
        kind: &str,
        number: u64,
        key: &str,
        size: usize,
    ) -> usize {
        let mut digits = [0; 20];
        buffer.clear();
        buffer.reserve(size);
        buffer.push_str(&self.tag);
        buffer.push_str(kind);
        buffer.push_str(decimal(number, &mut digits));
        let name = buffer.len();
        buffer.push(':');
        buffer.push_str(key);
        buffer.push(':');
        let length = size.saturating_sub(buffer.len() + CHECKSUM_DIGITS + 1);
        let start = mix_bits(number) as usize % BLOCK_BYTES;
        let mut checksum = crc32c::crc32c(buffer.as_bytes());
        for piece in self.pieces(start, length) {
            checksum = crc32c::crc32c_append(checksum, piece.as_bytes());
        }
        push_hex(buffer, checksum);
        buffer.push(':');
        for piece in self.pieces(start, length) {
            buffer.push_str(piece);
        }
        name
    }

    /// The padding of so many bytes, from `start` on and then round and round.
    fn pieces(&self, start: usize, length: usize) -> impl Iterator<Item = &str> {
        let (mut at, mut left) = (start, length);
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let until = BLOCK_BYTES.min(at + left);
            let piece = &self.block[at..until];
            left -= piece.len();
            at = 0;
            Some(piece)
        })
    }
}

/// The name of an intact value that belongs to `key`.
#[inline]
pub(super) fn inspect<'a>(key: &str, value: &'a str) -> Option<&'a str> {
    let bytes = value.as_bytes();
    let name = bytes.iter().position(|byte| *byte == b':')?;
    let rest = bytes[name + 1..]
        .strip_prefix(key.as_bytes())?
        .strip_prefix(b":")?;
    let (written, rest) = rest.split_at_checked(CHECKSUM_DIGITS)?;
    let padding = rest.strip_prefix(b":")?;
    let head = &bytes[..name + key.len() + 2];
    let checksum = crc32c::crc32c_append(crc32c::crc32c(head), padding);
    (hex(checksum) == written).then(|| &value[..name])
}

fn block(entropy: f64, random: &Random) -> String {
    let in_cell = CELL_BYTES as f64 * entropy;
    let mut block = String::with_capacity(BLOCK_BYTES);
    for cell in 0..BLOCK_BYTES / CELL_BYTES {
        // The cell's own share, so that the whole comes out exact.
        let letters = ((cell + 1) as f64 * in_cell) as usize - (cell as f64 * in_cell) as usize;
        for at in 0..CELL_BYTES {
            let word = random.word(Lane::Padding, block.len() as u64);
            let byte = if at < letters {
                LETTERS[(word >> 58) as usize]
            } else {
                FILLER
            };
            block.push(char::from(byte));
        }
    }
    block
}

fn hex(number: u32) -> [u8; CHECKSUM_DIGITS] {
    std::array::from_fn(|at| HEX[(number >> (28 - 4 * at)) as usize & 15])
}

fn push_hex(buffer: &mut String, number: u32) {
    buffer.push_str(std::str::from_utf8(&hex(number)).expect("hexadecimal digits are ASCII"));
}

/// A number in decimal digits, written to the end of `digits`.
#[inline]
pub(super) fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &str {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    std::str::from_utf8(&digits[at..]).expect("decimal digits are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(entropy: f64) -> Texts {
        Texts::new("t-", entropy, &Random::new(1))
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for number in [0, 1, 9, 10, 99, 100, 1_234_567_890, u64::MAX - 1, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string());
            let mut buffer = String::new();
            push_hex(&mut buffer, number as u32);
            assert_eq!(buffer, format!("{:08x}", number as u32));
        }
    }

    #[test]
    fn the_checksum_is_the_known_one() {
        // The check value of the CRC-32C catalogue entry.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let mut buffer = String::new();
        let name = texts(1.0).write(&mut buffer, "", 12, "k1", 0);
        assert_eq!(&buffer[..name], "t-12");
        let expected = crc32c::crc32c(b"t-12:k1:");
        assert_eq!(buffer, format!("t-12:k1:{expected:08x}:"));
    }

    #[test]
    fn values_have_their_size_and_are_never_cut_short() {
        let texts = texts(1.0);
        let mut buffer = String::from("left over");
        for number in [0, 7, 12_345_678_901] {
            for size in [0, 18, 64, 255, 256, 1000, BLOCK_BYTES, 200_000, 1 << 20] {
                let name = texts.write(&mut buffer, "p", number, "key-1", size);
                let head = name + ":key-1:".len() + CHECKSUM_DIGITS + 1;
                assert_eq!(buffer.len(), size.max(head));
                assert_eq!(inspect("key-1", &buffer), Some(format!("t-p{number}").as_str()));
            }
        }
    }

    #[test]
    fn damage_anywhere_is_found() {
        let mut buffer = String::new();
        texts(0.5).write(&mut buffer, "", 41, "k3", 256);
        assert_eq!(inspect("k3", &buffer), Some("t-41"));
        for key in ["", "k", "k33", "k4", "k3:"] {
            assert_eq!(inspect(key, &buffer), None, "{key}");
        }
        for value in [
            "",
            ":",
            "::",
            "bar",
            "a:k3:",
            "a:k3:0000000",
            "a:k3:00000000",
            "a:k3:00000000:",
            "ä:k3:ö:",
        ] {
            assert_eq!(inspect("k3", value), None, "{value}");
        }
        for end in 0..buffer.len() {
            assert_eq!(inspect("k3", &buffer[..end]), None, "cut at {end}");
        }
        for at in 0..buffer.len() {
            for bit in 0..7 {
                let mut bytes = buffer.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let damaged = String::from_utf8_lossy(&bytes);
                assert_eq!(inspect("k3", &damaged), None, "byte {at}, bit {bit}");
            }
        }
        assert_eq!(inspect("k3", &buffer.replace("t-41", "t-42")), None);
        assert_eq!(inspect("k3", &format!("{buffer}.")), None);
    }

    /// Order-0 entropy in bits a byte, and the share of bytes in runs of four or more.
    fn compressibility(text: &str) -> (f64, f64) {
        let mut counts = [0_u64; 256];
        for byte in text.bytes() {
            counts[usize::from(byte)] += 1;
        }
        let total = text.len() as f64;
        let bits = counts.iter().filter(|count| **count > 0).map(|count| {
            let share = *count as f64 / total;
            -share * share.log2()
        });
        let runs = text.as_bytes().chunk_by(|one, two| one == two);
        let in_runs: usize = runs.map(<[u8]>::len).filter(|length| *length >= 4).sum();
        (bits.sum(), in_runs as f64 / total)
    }

    #[test]
    fn paddings_are_as_compressible_as_asked_for() {
        for entropy in [0.0, 0.1, 0.25, 0.5, 0.75, 1.0_f64] {
            let texts = texts(entropy);
            let mut all = String::new();
            let mut buffer = String::new();
            for number in 0..500 {
                let name = texts.write(&mut buffer, "", number, "k1", 1000);
                all.push_str(&buffer[name + 13..]);
            }
            let (bits, in_runs) = compressibility(&all);
            let h = |share: f64| if share > 0.0 { -share * share.log2() } else { 0.0 };
            // Six bits for each random byte, and what it takes to tell the two kinds apart.
            let expected = 6.0 * entropy + h(entropy) + h(1.0 - entropy);
            assert!(
                (bits - expected).abs() < 0.05,
                "{entropy}: {bits} bits, not {expected}"
            );
            assert!(
                (in_runs - (1.0 - entropy)).abs() < 0.02,
                "{entropy}: {in_runs} in runs"
            );
        }
    }

    #[test]
    fn the_share_holds_for_every_small_value_too() {
        let texts = texts(0.5);
        let mut buffer = String::new();
        for number in 0..1000 {
            let name = texts.write(&mut buffer, "", number, "k1", 256);
            let padding = &buffer[name + 13..];
            let letters = padding.bytes().filter(|byte| *byte != FILLER).count() as f64;
            let share = letters / padding.len() as f64;
            assert!((share - 0.5).abs() < 0.1, "{number}: {share}");
        }
    }
}
