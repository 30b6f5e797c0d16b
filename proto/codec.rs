//! How messages become bytes: as prost does it, with buffers of the size of most messages.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// A buffer at first; it grows where a message needs more. The library's 8 KiB, twice a call, cost more than the messages.
const BUFFER_BYTES: usize = 1 << 10;
/// A stream passes on what it has encoded when it is so much, as in the library's own codec.
const YIELD_BYTES: usize = 32 << 10;

/// The codec of every service in this crate.
#[derive(Debug, Clone)]
pub struct ModestCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for ModestCodec<T, U> {
    fn default() -> Self {
        ModestCodec(PhantomData)
    }
}

impl<T, U> Codec for ModestCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}
