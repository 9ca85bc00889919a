//! Exact log-probabilities of given tokens.

use crate::{Result, language_model::LanguageModel, sequence::Sequence, session::SessionError};

/// Log-probabilities of one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The tokens.
    pub token_ids: Vec<u32>,
    /// Natural log-probability of each token given those before it; none for the first.
    pub logprobs: Vec<Option<f64>>,
    /// The most probable token after each position (of equals, the lowest id).
    pub top1_ids: Vec<u32>,
}

/// Log-probabilities of one continuation of a shared prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredContinuation {
    /// The continuation's tokens.
    pub token_ids: Vec<u32>,
    /// Natural log-probability of each, given the prompt and those before it.
    pub logprobs: Vec<f64>,
    /// Whether each was the most probable token.
    pub is_top1: Vec<bool>,
}

impl ScoredContinuation {
    /// Log-probability of the whole continuation.
    pub fn total(&self) -> f64 {
        self.logprobs.iter().sum()
    }
}

/// Log-probability of `id` under `logits`: the log-softmax, in float64.
pub fn log_probability(logits: &[f32], id: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&it| f64::from(it - max).exp()).sum();
    f64::from(logits[id as usize] - max) - sum.ln()
}

/// The largest logit's id; of equals, the lowest.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, value) in logits.iter().enumerate() {
        if *value > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// Scores `ids` in an empty sequence; every row's logits also go to `rows`.
///
/// # Errors
/// No tokens, tokens that do not fit the model, or a non-finite output.
pub fn score(
    sequence: &mut Sequence,
    ids: &[u32],
    rows: &mut dyn FnMut(usize, &[f32]) -> Result<()>,
) -> Result<Scored> {
    if ids.is_empty() {
        return Err(SessionError::EmptyPrompt.into());
    }
    let mut scored = Scored { token_ids: ids.to_vec(), logprobs: vec![None], top1_ids: Vec::new() };
    sequence.extend_complete(ids, &mut |position, logits| {
        scored.top1_ids.push(argmax(logits));
        if let Some(&next) = ids.get(position + 1) {
            scored.logprobs.push(Some(log_probability(logits, next)));
        }
        rows(position, logits)
    })?;
    Ok(scored)
}

/// Scores several continuations after one prompt, which is computed once.
///
/// # Errors
/// An empty prompt or continuation, tokens that do not fit the model, or a non-finite output.
pub fn score_continuations(
    sequence: &mut Sequence,
    prompt: &[u32],
    continuations: &[Vec<u32>],
) -> Result<Vec<ScoredContinuation>> {
    let Some((&last, head)) = prompt.split_last() else {
        return Err(SessionError::EmptyPrompt.into());
    };
    if continuations.iter().any(Vec::is_empty) {
        return Err(SessionError::EmptyContinuation.into());
    }
    sequence.extend(head, 0)?;
    let mut all: Vec<ScoredContinuation> = continuations
        .iter()
        .map(|it| ScoredContinuation {
            token_ids: it.clone(),
            logprobs: Vec::with_capacity(it.len()),
            is_top1: Vec::with_capacity(it.len()),
        })
        .collect();
    let fed: Vec<Vec<u32>> =
        continuations.iter().map(|it| [&[last], it.as_slice()].concat()).collect();
    sequence.branch(&fed, &mut |index, row, logits| {
        if let Some(&id) = continuations[index].get(row) {
            all[index].logprobs.push(log_probability(logits, id));
            all[index].is_top1.push(argmax(logits) == id);
        }
        Ok(())
    })?;
    Ok(all)
}
