//! Log-probabilities of all examples under the reference, computed once.

use super::{Learner, TrainingData, batch::Packed, method::sums_under};
use crate::Result;

/// For each example the sums of its sequences under the reference.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReferenceLogProbs {
    sums: Vec<Vec<f64>>,
}

impl ReferenceLogProbs {
    /// Computes them for all of `data`, `batch_size` examples at a time; `progress` hears how many
    /// are done and may stop the work by returning false.
    ///
    /// # Errors
    /// What the arithmetic gives.
    pub fn compute(
        learner: &Learner,
        data: &TrainingData,
        batch_size: usize,
        progress: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Self>> {
        let mut sums = Vec::with_capacity(data.len());
        let all: Vec<usize> = (0..data.len()).collect();
        for examples in all.chunks(batch_size.max(1)) {
            let packed = Packed::new(data.sequences(examples));
            let found = sums_under(learner, learner.reference(), &packed)?;
            let each = packed.num_sequences / examples.len();
            sums.extend(found.chunks(each).map(|it| it.iter().map(|it| it.sum).collect()));
            if !progress(sums.len()) {
                return Ok(None);
            }
        }
        Ok(Some(Self { sums }))
    }

    /// Those of `examples`, one after the other.
    pub(super) fn of(&self, examples: &[usize]) -> Vec<f64> {
        examples.iter().flat_map(|&it| self.sums.get(it).into_iter().flatten().copied()).collect()
    }

    /// Bytes that hold all of it exactly.
    pub fn to_bytes(&self) -> Vec<u8> {
        let each = self.sums.first().map_or(1, Vec::len) as u64;
        let values = self.sums.iter().flatten().flat_map(|it| it.to_le_bytes());
        each.to_le_bytes().into_iter().chain(values).collect()
    }

    /// What [`ReferenceLogProbs::to_bytes`] gave, for `len` examples; `None` for anything else.
    pub fn from_bytes(bytes: &[u8], len: usize) -> Option<Self> {
        let (each, values) = bytes.split_first_chunk::<8>()?;
        let each =
            usize::try_from(u64::from_le_bytes(*each)).ok().filter(|it| (1..=2).contains(it))?;
        if values.len() != 8 * each * len {
            return None;
        }
        let values: Vec<f64> = values
            .chunks_exact(8)
            .map(|it| f64::from_le_bytes([it[0], it[1], it[2], it[3], it[4], it[5], it[6], it[7]]))
            .collect();
        Some(Self { sums: values.chunks(each).map(<[f64]>::to_vec).collect() })
    }
}
