//! Eight outputs in a 256-bit register, two products of 16 bits for each in one instruction.
//!
//! 16-bit lanes of a line hold two neighbouring columns of an output. Masks and shifts make of them
//! the even columns of each four, then the odd ones, as whole 16-bit integers, which are multiplied
//! by the input's and added in pairs to 32 bits. That takes as many instructions for an input of 16
//! bits as bytes would take for one of eight.
//!
//! A few rows take the weights out of registers ([`few`]); for many, a group of 16 outputs is widened
//! to 16 bits once, into the first-level cache ([`many`]).

#[cfg(target_arch = "x86_64")]
mod few;
#[cfg(target_arch = "x86_64")]
mod many;
#[cfg(target_arch = "x86_64")]
mod widen;

#[cfg(not(target_arch = "x86_64"))]
pub(super) use super::portable::tiles;

#[cfg(target_arch = "x86_64")]
pub(super) use x86::tiles;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::ops::Range;

    use super::{few, many};
    use crate::interleaved::{
        input::Input,
        kind::{Kind, with_kind},
        layout::Layout,
        matmul::Output,
    };

    /// As [`super::super::portable::tiles`].
    pub(in crate::interleaved) fn tiles(
        layout: &Layout,
        bytes: &[u8],
        tiles: Range<usize>,
        x: &Input,
        output: &Output<'_>,
    ) {
        assert!(layout.byte_len() == bytes.len() && tiles.end <= layout.tiles);
        assert_eq!(x.cols, layout.cols, "columns");
        with_kind!(layout.facts.format, K => of_kind::<K>(layout, bytes, tiles, x, output));
    }

    fn of_kind<K: Kind>(
        layout: &Layout,
        bytes: &[u8],
        tiles: Range<usize>,
        x: &Input,
        output: &Output<'_>,
    ) {
        // SAFETY: the level was chosen by detection, and lengths were checked.
        unsafe {
            if x.rows <= few::MOST_ROWS {
                few::tiles::<K>(layout, bytes, tiles, x, output);
            } else {
                many::tiles::<K>(layout, bytes, tiles, x, output);
            }
        }
    }
}
