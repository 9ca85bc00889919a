//! Examples in a stable order, with a hash of what they hold.

use super::{Example, order};

/// Examples in the order of their files. Immutable: a shuffled order is a list of indices beside it.
#[derive(Debug, Clone)]
pub struct Dataset<E> {
    examples: Vec<E>,
    content_hash: blake3::Hash,
}

impl<E: Example> Dataset<E> {
    /// Examples in their order. `files` is the hash of the bytes that they were read from, so that
    /// a change that makes no difference to the ids is noticed too.
    pub fn new(examples: Vec<E>, files: &[blake3::Hash]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"minicrit dataset 1");
        for file in files {
            hasher.update(file.as_bytes());
        }
        for example in &examples {
            for number in example.extra() {
                hasher.update(&number.to_le_bytes());
            }
            for sequence in example.sequences() {
                hasher.update(&(sequence.ids.len() as u64).to_le_bytes());
                hasher.update(&sequence.line.to_le_bytes());
                for id in &sequence.ids {
                    hasher.update(&id.to_le_bytes());
                }
                for weight in &sequence.weights {
                    hasher.update(&weight.to_bits().to_le_bytes());
                }
            }
        }
        Self { examples, content_hash: hasher.finalize() }
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// The examples, in the order of their files.
    pub fn examples(&self) -> &[E] {
        &self.examples
    }

    /// The order in which `epoch` sees them.
    pub fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        order(self.len(), seed, epoch)
    }

    /// A hash of the files, the ids and the weights: it changes when anything does that training
    /// depends on.
    pub fn content_hash(&self) -> blake3::Hash {
        self.content_hash
    }

    /// Tokens of all examples.
    pub fn num_tokens(&self) -> usize {
        self.examples.iter().map(Example::num_tokens).sum()
    }

    /// Sum of the weights of all sequences.
    pub fn weight(&self) -> f64 {
        self.examples.iter().flat_map(|it| it.sequences()).map(|it| it.weight()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{LabelledExample, SupervisedExample};

    fn example(ids: &[u32], weights: &[f32]) -> SupervisedExample {
        SupervisedExample { ids: ids.to_vec(), weights: weights.to_vec(), line: 1 }
    }

    #[test]
    fn the_hash_sees_every_change() {
        let base = [example(&[1, 2], &[0.0, 1.0]), example(&[3, 4], &[0.0, 1.0])];
        let hash =
            |examples: &[SupervisedExample]| Dataset::new(examples.to_vec(), &[]).content_hash();
        let mut changed = Vec::new();
        let mut ids = base.to_vec();
        ids[0].ids[1] = 9;
        changed.push(hash(&ids));
        let mut weights = base.to_vec();
        weights[1].weights[1] = 0.5;
        changed.push(hash(&weights));
        let mut line = base.to_vec();
        line[1].line = 2;
        changed.push(hash(&line));
        changed.push(hash(&base[..1]));
        changed.push(hash(&[base[1].clone(), base[0].clone()]));
        changed.push(Dataset::new(base.to_vec(), &[blake3::hash(b"file")]).content_hash());
        assert_eq!(hash(&base), hash(&base));
        for other in changed {
            assert_ne!(hash(&base), other);
        }
    }

    #[test]
    fn the_hash_sees_a_label() {
        let labelled = |desirable| LabelledExample {
            answer: example(&[1, 2], &[0.0, 1.0]),
            prompt_len: 1,
            desirable,
        };
        let hash = |desirable| Dataset::new(vec![labelled(desirable)], &[]).content_hash();
        assert_ne!(hash(true), hash(false));
    }

    #[test]
    fn sums_run_over_all_sequences() {
        let data = Dataset::new(vec![example(&[1, 2, 3], &[0.0, 1.0, 0.5])], &[]);
        assert_eq!((data.len(), data.num_tokens(), data.weight()), (1, 3, 1.5));
    }
}
