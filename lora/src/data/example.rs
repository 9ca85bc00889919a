//! What a trainer gets of one row of data.

use std::ops::Range;

/// A sequence of tokens and how much predicting each one counts.
#[derive(Debug, Clone, PartialEq)]
pub struct SupervisedExample {
    /// Token ids, at least two.
    pub ids: Vec<u32>,
    /// As many as `ids`: the weight of the loss of predicting `ids[t]` from the ids in front of
    /// it. The first is always 0, because nothing predicts the first token; at least one is not.
    pub weights: Vec<f32>,
    /// Line of the row in its file, from 1.
    pub line: u64,
}

impl SupervisedExample {
    /// Sum of the weights; the number of trained tokens where all weights are 0 or 1.
    pub fn weight(&self) -> f64 {
        self.weights.iter().map(|&it| f64::from(it)).sum()
    }

    /// The trained stretches: ranges of `ids` with a weight above 0.
    pub fn trained_spans(&self) -> Vec<Range<usize>> {
        let mut spans: Vec<Range<usize>> = Vec::new();
        for at in (0..self.weights.len()).filter(|&at| self.weights[at] > 0.0) {
            match spans.last_mut() {
                Some(last) if last.end == at => last.end = at + 1,
                _ => spans.push(at..at + 1),
            }
        }
        spans
    }
}

/// Two answers to one prompt, the first of them preferred (DPO, ORPO, SimPO).
#[derive(Debug, Clone, PartialEq)]
pub struct PreferenceExample {
    /// Prompt and preferred answer; only the answer has weight.
    pub chosen: SupervisedExample,
    /// Prompt and the other answer; only the answer has weight.
    pub rejected: SupervisedExample,
    /// Ids at the start that both share: the prompt.
    pub prompt_len: usize,
}

/// An answer that somebody found good or bad (KTO).
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledExample {
    /// Prompt and answer; only the answer has weight.
    pub answer: SupervisedExample,
    /// Ids of the prompt.
    pub prompt_len: usize,
    /// Whether it is good.
    pub desirable: bool,
}

/// What all kinds of examples have in common.
pub trait Example {
    /// The token sequences that a model computes for it.
    fn sequences(&self) -> Vec<&SupervisedExample>;

    /// Whatever else distinguishes it, for the hash of the content.
    fn extra(&self) -> [u64; 2];

    /// Line of the row in its file, from 1.
    fn line(&self) -> u64 {
        self.sequences().first().map_or(0, |it| it.line)
    }

    /// Tokens of all its sequences.
    fn num_tokens(&self) -> usize {
        self.sequences().iter().map(|it| it.ids.len()).sum()
    }
}

impl Example for SupervisedExample {
    fn sequences(&self) -> Vec<&SupervisedExample> {
        vec![self]
    }

    fn extra(&self) -> [u64; 2] {
        [0, 0]
    }
}

impl Example for PreferenceExample {
    fn sequences(&self) -> Vec<&SupervisedExample> {
        vec![&self.chosen, &self.rejected]
    }

    fn extra(&self) -> [u64; 2] {
        [self.prompt_len as u64, 0]
    }
}

impl Example for LabelledExample {
    fn sequences(&self) -> Vec<&SupervisedExample> {
        vec![&self.answer]
    }

    fn extra(&self) -> [u64; 2] {
        [self.prompt_len as u64, u64::from(self.desirable)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_the_runs_of_weight() {
        let example = |weights: &[f32]| SupervisedExample {
            ids: vec![0; weights.len()],
            weights: weights.to_vec(),
            line: 1,
        };
        let spans = |weights: &[f32]| example(weights).trained_spans();
        assert_eq!(spans(&[0.0, 1.0, 1.0, 0.0, 0.5]), [1..3, 4..5]);
        assert!(spans(&[0.0, 0.0]).is_empty());
        assert_eq!(example(&[0.0, 1.0, 0.5]).weight(), 1.5);
    }
}
