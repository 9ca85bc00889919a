//! The operations that candle lacks in the form that we need: exact row by row, with a backward
//! pass, on packed rows.
//!
//! Each file holds a `reference` in plain candle tensor operations (oracle, differentiable, any
//! device), the fast form for the processor, its backward pass, and a gradient check. Legend for
//! dimensions: `t` rows, `d` model width, `h` heads, `e` one head's width, `f` feed-forward width.

pub mod attend;
mod data;
pub mod rms_norm;
pub mod rope;
pub mod swiglu;
