//! The gates of the server, for fuzzing: see `server/fuzz`.

use prost::Message as _;

/// Reads bytes as a frame from a peer, and what is in it as messages.
pub fn frame(bytes: &[u8]) {
    if let Ok(frame) = proto::peer::Frame::decode(bytes) {
        crate::transport::check_frame(frame);
    }
}
