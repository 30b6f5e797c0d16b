//! A packed histogram: base64 of HdrHistogram's V2 encoding, plain or compressed.
//!
//! Promises: a payload is unpacked once when it is made from text, so that unpacking it again cannot fail; nothing is
//! allocated that the bytes at hand do not pay for, up to [`HISTOGRAM_BYTES_MAX`].

use std::io::Read;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{DeserializeError, Deserializer, Serializer, V2DeflateSerializer};

/// An unpacked encoding, at most; more than any histogram of three digits takes. Beyond it the payload is refused.
pub const HISTOGRAM_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// `0x1c849303` and the word size, as in Java's `V2EncodingCookieBase | 0x10`.
const PLAIN: u32 = 0x1c84_9313;
/// `0x1c849304` and the word size, as in Java's `V2CompressedEncodingCookieBase | 0x10`.
const COMPRESSED: u32 = 0x1c84_9314;
/// Cookie, payload length, normalizing offset, digits, lowest and highest value, ratio.
const HEADER_BYTES: usize = 40;

/// Java writes the padding, some ports do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a payload is not a histogram.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Not base64.
    #[error("the histogram is not base64")]
    Base64(#[source] base64::DecodeError),
    /// It ends before its header says it should.
    #[error("the histogram is cut short")]
    Short,
    /// The compressed bytes do not unpack.
    #[error("the histogram does not unpack")]
    Inflate(#[source] std::io::Error),
    /// Larger than [`HISTOGRAM_BYTES_MAX`].
    #[error("the histogram unpacks to more than {HISTOGRAM_BYTES_MAX} bytes")]
    TooLarge,
    /// A different encoding.
    #[error(
        "the histogram is encoded in a way that is not V2 (it begins with {0:#010x}); write it with HdrHistogram 2.1 or later"
    )]
    Encoding(u32),
    /// The header or the counts make no sense.
    #[error("the histogram is damaged")]
    Damaged(#[source] DeserializeError),
}

/// A histogram that unpacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payload(Box<[u8]>);

impl Payload {
    pub(super) fn pack(histogram: &Histogram<u64>) -> Payload {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(histogram, &mut bytes)
            .expect("memory takes any bytes and a histogram's counts fit into its own encoding");
        Payload(bytes.into())
    }

    pub(super) fn from_base64(text: &str) -> Result<Payload, PayloadError> {
        let bytes = BASE64.decode(text).map_err(PayloadError::Base64)?;
        decode(&bytes)?;
        Ok(Payload(bytes.into()))
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0.into()
    }

    pub(super) fn to_base64(&self) -> String {
        BASE64.encode(&self.0)
    }

    pub(super) fn unpack(&self) -> Histogram<u64> {
        decode(&self.0).expect("a payload was unpacked when it was made")
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Histogram<u64>, PayloadError> {
    match word(bytes, 0)? {
        PLAIN => decode_plain(bytes),
        COMPRESSED => {
            let length = word(bytes, 4)? as usize;
            let body = bytes[8..].get(..length).ok_or(PayloadError::Short)?;
            let mut plain = Vec::new();
            // One byte more than allowed tells too large from just fitting. Reading to the end checks the checksum.
            ZlibDecoder::new(body)
                .take(HISTOGRAM_BYTES_MAX + 1)
                .read_to_end(&mut plain)
                .map_err(PayloadError::Inflate)?;
            if plain.len() as u64 > HISTOGRAM_BYTES_MAX {
                return Err(PayloadError::TooLarge);
            }
            decode_plain(&plain)
        }
        other => Err(PayloadError::Encoding(other)),
    }
}

fn decode_plain(bytes: &[u8]) -> Result<Histogram<u64>, PayloadError> {
    let cookie = word(bytes, 0)?;
    if cookie != PLAIN {
        return Err(PayloadError::Encoding(cookie));
    }
    let length = word(bytes, 4)? as usize;
    // The deserializer allocates what the header announces, so the announcement is checked first.
    if bytes.len() < HEADER_BYTES || bytes.len() - HEADER_BYTES < length {
        return Err(PayloadError::Short);
    }
    Deserializer::new()
        .deserialize(&mut &bytes[..HEADER_BYTES + length])
        .map_err(PayloadError::Damaged)
}

fn word(bytes: &[u8], at: usize) -> Result<u32, PayloadError> {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map(u32::from_be_bytes).ok_or(PayloadError::Short)
}
