//! Whatever a peer sends becomes checked messages or a refusal.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    server::fuzz::frame(data);
});
