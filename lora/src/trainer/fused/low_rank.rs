//! The adapter's matrices in the form that products take: bfloat16, side by side for projections
//! that share an input.

use std::ops::Range;

use minicrit_engine::{
    adapter::{Proj, Site},
    model::Decoder,
};
use minicrit_quant::dense::{DenseLevel, Matrix, round_into};

use super::floats;
use crate::{Result, lora::Lora};

/// Columns of a low-rank product are padded to so many.
const PAD: usize = 16;

/// Projections that share an input, in the order of their groups.
pub const GROUPS: [&[Proj]; 4] =
    [&[Proj::Q, Proj::K, Proj::V], &[Proj::O], &[Proj::Gate, Proj::Up], &[Proj::Down]];

/// The low-rank changes of one layer.
pub struct LayerLowRank {
    /// One for each of [`GROUPS`].
    pub groups: [Group; 4],
}

/// The changes of projections that share an input.
pub struct Group {
    /// `A` of all of them, one below the other, `[R, inputs]`.
    a_ri: Vec<u16>,
    inputs: usize,
    /// Sum of padded ranks.
    pub rank: usize,
    /// One for each projection of the group.
    pub parts: Vec<Part>,
}

/// The change of one projection.
pub struct Part {
    /// `s · B` in this part's columns, zeros in the others, `[outputs, R]`.
    b_or: Vec<u16>,
    /// This part's columns among the group's.
    pub columns: Range<usize>,
    /// Parameters `A` and `B`, the rows of `B`, and the scale; none where nothing changes.
    pub params: Option<Params>,
}

/// Where gradients go.
pub struct Params {
    /// Index of `A`.
    pub a: usize,
    /// Index of `B`.
    pub b: usize,
    /// Rows of `B` that this projection has.
    pub rows: Range<usize>,
    /// Rank.
    pub rank: usize,
    /// Factor on the product.
    pub scale: f32,
}

impl LayerLowRank {
    /// The changes of layer `layer`, rounded.
    pub fn new(decoder: &Decoder, lora: Option<&Lora>, layer: usize) -> Result<Self> {
        let spec = &decoder.spec;
        let (query, kv) = (spec.heads.query * spec.heads.dim, spec.heads.kv * spec.heads.dim);
        let inner = match spec.layers[layer].ffn {
            minicrit_engine::spec::FfnSpec::Dense { inner } => inner,
            minicrit_engine::spec::FfnSpec::Moe { inner, .. } => inner,
        };
        let sizes = |proj: Proj| match proj {
            Proj::Q => (spec.hidden, query),
            Proj::K | Proj::V => (spec.hidden, kv),
            Proj::O => (query, spec.hidden),
            Proj::Gate | Proj::Up => (spec.hidden, inner),
            Proj::Down => (inner, spec.hidden),
            Proj::Head => (spec.hidden, spec.vocab_size),
        };
        let mut groups = Vec::with_capacity(4);
        for projs in GROUPS {
            let mut found = Vec::new();
            for &proj in projs {
                let site = Site { layer: layer as u16, expert: None, proj };
                found.push(lora.and_then(|it| it.at(site)).map(|(i, rows)| (lora, i, rows)));
            }
            let (inputs, _) = sizes(projs[0]);
            let rank_of = |it: &(Option<&Lora>, usize, Range<usize>)| {
                it.0.map_or(0, |lora| lora.modules()[it.1].rank())
            };
            let padded = |it: &Option<(Option<&Lora>, usize, Range<usize>)>| {
                it.as_ref().map_or(0, |it| rank_of(it).next_multiple_of(PAD))
            };
            let rank: usize = found.iter().map(padded).sum();
            let mut a_ri = vec![0; rank * inputs];
            let (mut parts, mut start) = (Vec::new(), 0);
            for (&proj, found) in projs.iter().zip(&found) {
                let outputs = sizes(proj).1;
                let mut b_or = vec![0; outputs * rank];
                let columns = start..start + padded(found);
                let params = match found {
                    Some((Some(lora), index, rows)) => {
                        let module = &lora.modules()[*index];
                        let (a, r) = (floats(&module.a_ri)?, module.rank());
                        round(&a, &mut a_ri[start * inputs..(start + r) * inputs]);
                        let b = floats(&module.b_or.narrow(0, rows.start, rows.len())?)?;
                        let b: Vec<f32> = b.iter().map(|it| it * module.scale).collect();
                        for (row, out) in b.chunks_exact(r).zip(b_or.chunks_exact_mut(rank)) {
                            round(row, &mut out[start..start + r]);
                        }
                        Some(Params {
                            a: 2 * index,
                            b: 2 * index + 1,
                            rows: rows.clone(),
                            rank: r,
                            scale: module.scale,
                        })
                    }
                    _ => None,
                };
                start = columns.end;
                parts.push(Part { b_or, columns, params });
            }
            groups.push(Group { a_ri, inputs, rank, parts });
        }
        let groups = groups.try_into().ok().ok_or_else(super::not_here)?;
        Ok(Self { groups })
    }
}

impl Group {
    /// Block columns that the low-rank product takes.
    pub fn blocks(&self) -> usize {
        self.rank.div_ceil(32)
    }

    /// `A`, where anything changes.
    pub fn a(&self) -> Option<Matrix<'_>> {
        (self.rank > 0).then_some(Matrix::Rounded { cols: self.inputs, values: &self.a_ri })
    }

    /// `s · B` of one projection, where anything of the group changes.
    pub fn b(&self, part: usize) -> Option<Matrix<'_>> {
        let values = &self.parts[part].b_or;
        (self.rank > 0).then_some(Matrix::Rounded { cols: self.rank, values })
    }
}

fn round(values: &[f32], out: &mut [u16]) {
    round_into(DenseLevel::detected().float(), values, out);
}
