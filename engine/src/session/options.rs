//! What to generate, and what is told about it.

use super::{BadSetting, SessionError};
use crate::dist::SamplingParams;

/// How to answer a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// The most tokens to generate; `None` until the context is full.
    pub max_tokens: Option<usize>,
    /// How tokens are drawn.
    pub sampling: SamplingParams,
    /// Text that ends the answer and is not shown.
    pub stop: Vec<String>,
    /// Tokens that end the answer; they are emitted as tokens and not as text.
    pub eos_ids: Vec<u32>,
    /// Go on after a token of `eos_ids`.
    pub ignore_eos: bool,
    /// The most drafts in a round, where the session has a drafter; 0 is plain decoding.
    pub draft_len: usize,
    /// Whether the prompt ends inside of thinking ([`crate::think::ThinkSplitter::after`]).
    pub thinking: bool,
    /// Whether each token comes with its log-probability, which costs a pass over the vocabulary.
    pub logprobs: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_tokens: None,
            sampling: SamplingParams::greedy(),
            stop: Vec::new(),
            eos_ids: Vec::new(),
            ignore_eos: false,
            draft_len: 4,
            thinking: false,
            logprobs: false,
        }
    }
}

impl GenerateOptions {
    /// Whether every setting is in its range.
    ///
    /// # Errors
    /// [`SessionError::Settings`] with all that are not.
    pub fn validate(&self) -> Result<(), SessionError> {
        let mut bad = self.sampling.bad_settings();
        if self.stop.iter().any(String::is_empty) {
            bad.push(BadSetting {
                field: "stop",
                value: "an empty string".into(),
                expected: "strings of at least one character",
            });
        }
        if bad.is_empty() { Ok(()) } else { Err(SessionError::Settings(bad)) }
    }
}

/// One piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A token was decided.
    Token {
        /// Its id.
        id: u32,
        /// Its log-probability under the softmax of the raw logits, where it was asked for.
        logprob: Option<f64>,
    },
    /// Text that is certain: whole characters, no part of a stop string.
    Text {
        /// The text, never empty.
        text: String,
        /// Whether it belongs to the model's thinking and not to its answer.
        thinking: bool,
    },
    /// The last event.
    Done(Finished),
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishReason {
    /// The model said so, by an end-of-sequence token.
    Stop,
    /// This stop string was completed.
    StopString(String),
    /// `max_tokens` was reached.
    Length,
    /// The context is full.
    ContextFull,
}

impl FinishReason {
    /// The machine form, as OpenAI's interface has it: `stop` or `length`.
    pub fn as_str(&self) -> &'static str {
        match self {
            FinishReason::Stop | FinishReason::StopString(_) => "stop",
            FinishReason::Length | FinishReason::ContextFull => "length",
        }
    }
}

/// How an answer ended and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Why it ended.
    pub reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that the cache still held.
    pub reused_tokens: usize,
    /// Tokens generated.
    pub generated_tokens: usize,
    /// What drafting came to.
    pub speculation: Speculation,
    /// Where the time went.
    pub timings: Timings,
}

/// What drafting came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Speculation {
    /// Drafts that the target judged.
    pub drafted: usize,
    /// Drafts that were kept.
    pub accepted: usize,
    /// Calls of the target, the one with the prompt among them.
    pub target_passes: usize,
    /// Drafts kept in each of those calls.
    pub accepted_per_round: Vec<u32>,
}

/// Wall-clock times in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timings {
    /// From the call of `generate` until the prompt was computed.
    pub prompt_ms: f64,
    /// From the call of `generate` until the first token was decided.
    pub ttft_ms: f64,
    /// From the first token to the end.
    pub decode_ms: f64,
}
