//! Any bytes as blocks of a stored format: accepted or refused with an error, and nothing else.
#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bodies::blocks(data);
});
