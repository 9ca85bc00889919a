//! Products of matrices in bfloat16 with float32 sums, for training.
//!
//! Training multiplies many rows by the same weights, forwards (`x · wᵀ`) and backwards (`g · w`),
//! and needs neither more digits than bfloat16 in the factors nor fewer than float32 in the sums.
//! Inputs are laid out once as [`Tiles`], blocks of 32 x 32 values; weights stay as they are stored
//! and are brought into the order that the instructions want panel by panel ([`Right`]), once for
//! all rows. [`product`] hands each finished block of 32 x 32 sums to its caller while it is in the
//! first-level cache, so that activations, their derivatives and conversions cost no pass of their
//! own; [`sum_over_rows`] gives the gradients of low-rank factors.
//!
//! **One formula.** Factors are rounded to nearest even. A block of 32 terms is summed in two chains
//! of fused multiply-adds, even terms and odd terms, each in rising order; the two are added, and
//! their sum is added to the result; blocks follow in rising order. Instruction sets, threads and
//! the number of rows change no bit, but for numbers below the normal range, which tile
//! instructions take as zero.

// Rows and columns of a block are numbered: one index means the same in several arrays.
#![allow(clippy::needless_range_loop)]

mod amx;
mod attend;
mod block;
mod gated;
mod head;
mod level;
mod norm;
mod panel;
mod product;
mod right;
mod sums;
mod tiles;

pub use attend::{AttendShape, Qkv, QkvSlopes, attend_backward, attend_forward};
pub use block::{BLOCK, Block};
pub use gated::{Gated, gated_backward, gated_forward};
pub use head::log_probs;
pub use level::DenseLevel;
pub use norm::{norm_backward, norm_rows};
pub use product::{Finished, product, product_into};
pub use right::{Matrix, Right};
pub use sums::sum_over_rows;
pub use tiles::{Line, Tiles, round_into};
