//! Sequences packed for one pass.

use candle_core::{Device, Tensor};
use minicrit_engine::pass::Rows;

use crate::data::SupervisedExample;

/// Whole sequences one after the other, and the rows whose next token carries loss.
#[derive(Debug)]
pub struct Packed {
    /// All tokens, `[T]`.
    pub tokens: Vec<u32>,
    /// Who owns which row.
    pub rows: Rows,
    /// Rows that carry loss, ascending, `[R]`.
    pub row_index: Vec<u32>,
    /// The token that each of them shall predict, `[R]`.
    pub ids: Vec<u32>,
    /// Weight of each, `[R]`.
    pub weights: Vec<f32>,
    /// Sequence of each, `[R]`.
    pub sequence: Vec<usize>,
    /// Number of sequences.
    pub num_sequences: usize,
}

impl Packed {
    /// Packs `sequences` in their order.
    pub fn new(sequences: Vec<&SupervisedExample>) -> Self {
        let lens: Vec<usize> = sequences.iter().map(|it| it.ids.len()).collect();
        let mut packed = Self {
            tokens: Vec::with_capacity(lens.iter().sum()),
            rows: Rows::whole(&lens),
            row_index: Vec::new(),
            ids: Vec::new(),
            weights: Vec::new(),
            sequence: Vec::new(),
            num_sequences: sequences.len(),
        };
        for (index, sequence) in sequences.into_iter().enumerate() {
            let start = packed.tokens.len();
            packed.tokens.extend_from_slice(&sequence.ids);
            // The row in front of a token predicts it.
            for at in (1..sequence.ids.len()).filter(|&at| sequence.weights[at] != 0.0) {
                packed.row_index.push((start + at - 1) as u32);
                packed.ids.push(sequence.ids[at]);
                packed.weights.push(sequence.weights[at]);
                packed.sequence.push(index);
            }
        }
        packed
    }

    /// The rows that carry loss, `[T, D]` to `[R, D]`.
    pub(super) fn select(&self, x_td: &Tensor) -> candle_core::Result<Tensor> {
        let index = Tensor::from_slice(&self.row_index, self.row_index.len(), &Device::Cpu)?;
        x_td.index_select(&index, 0)
    }

    /// The opposite: `[R, D]` to `[T, D]`, zeros elsewhere.
    pub(super) fn scatter(&self, rows_rd: &Tensor) -> candle_core::Result<Tensor> {
        let width = rows_rd.dim(1)?;
        let rows = rows_rd.flatten_all()?.to_vec1::<f32>()?;
        let mut out = vec![0.0; self.tokens.len() * width];
        for (row, values) in self.row_index.iter().zip(rows.chunks_exact(width)) {
            out[*row as usize * width..][..width].copy_from_slice(values);
        }
        Tensor::from_vec(out, (self.tokens.len(), width), &Device::Cpu)
    }

    /// Sum over the rows of each sequence of `values` times their weights, and of the weights.
    pub(super) fn sums(&self, values: &[f32]) -> Vec<crate::losses::Sums> {
        let mut sums = vec![crate::losses::Sums { sum: 0.0, tokens: 0.0 }; self.num_sequences];
        for ((&value, &weight), &sequence) in values.iter().zip(&self.weights).zip(&self.sequence) {
            sums[sequence].sum += f64::from(value) * f64::from(weight);
            sums[sequence].tokens += f64::from(weight);
        }
        sums
    }
}
