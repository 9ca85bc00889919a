//! Any index and data as a packed file: accepted or refused with an error, and nothing else.
#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bodies::packed_file(data);
});
