//! Any bytes as the source of a chat template: accepted or refused with an error, and nothing else.
#![no_main]

#[path = "../text_bodies.rs"]
mod text_bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    text_bodies::template(data);
});
