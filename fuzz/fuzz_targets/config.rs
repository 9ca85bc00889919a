//! Any bytes as a config.json: accepted or refused with an error, and nothing else.
#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bodies::config(data);
});
