//! Any bytes as a packed tensor: accepted or refused with an error, and nothing else.
#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bodies::packed_tensor(data);
});
