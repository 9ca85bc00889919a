//! Prompts to events: the one decode loop.
//!
//! Plain decoding is speculation with zero drafts, so there is no second loop that could drift.
//! A [`Session`] owns one running context. [`Session::generate`] gives an iterator; dropping it
//! cancels. Queues, threads and async belong to whoever calls.

mod error;
mod generation;
mod options;
mod text;

pub use error::{BadSetting, SessionError};
pub use generation::Generation;
pub use options::{Event, FinishReason, Finished, GenerateOptions, Speculation, Timings};

use std::sync::Arc;

use crate::{
    Result,
    draft::Drafter,
    language_model::{LanguageModel, common_prefix},
    tokens::Vocabulary,
};

/// One model, one context, one answer at a time.
pub struct Session {
    target: Box<dyn LanguageModel>,
    vocabulary: Arc<Vocabulary>,
    drafter: Option<Box<dyn Drafter>>,
    tokens: Vec<u32>,
}

impl Session {
    /// A session on `target`. `vocabulary` turns tokens into text; ids that it lacks have none.
    ///
    /// # Errors
    /// [`SessionError::DraftMismatch`] where the drafter has another vocabulary than the target.
    /// That their tokenizers agree too is for the caller to see to.
    pub fn new(
        target: Box<dyn LanguageModel>,
        vocabulary: Arc<Vocabulary>,
        drafter: Option<Box<dyn Drafter>>,
    ) -> Result<Self> {
        let expected = target.vocab_size();
        if let Some(draft) = drafter.as_ref().and_then(|it| it.vocab_size())
            && draft != expected
        {
            return Err(SessionError::DraftMismatch { target: expected, draft }.into());
        }
        Ok(Self { target, vocabulary, drafter, tokens: Vec::new() })
    }

    /// The last prompt and as much of its answer as was handed out.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The tokens whose cache the model holds: the first of [`Session::tokens`], usually all but
    /// the last.
    pub fn cached_tokens(&self) -> &[u32] {
        self.target.tokens()
    }

    /// The most tokens that prompt and answer can have together.
    pub fn context_len(&self) -> usize {
        self.target.context_len()
    }

    /// Answers `prompt`. Tokens that it shares with what the model still holds, from the first on,
    /// are not computed again.
    ///
    /// The work happens as the iterator is driven. Once it ends or is dropped,
    /// [`Session::tokens`] is `prompt` and the tokens that it gave.
    ///
    /// # Errors
    /// [`SessionError::Settings`], [`SessionError::EmptyPrompt`],
    /// [`SessionError::ContextOverflow`], [`SessionError::TokenOutsideVocabulary`].
    pub fn generate(
        &mut self,
        prompt: &[u32],
        options: &GenerateOptions,
    ) -> Result<Generation<'_>> {
        options.validate()?;
        self.check_prompt(prompt)?;
        // At least one token is fed, since the first token's logits come from feeding.
        let reused = common_prefix(self.target.tokens(), prompt).min(prompt.len() - 1);
        self.target.truncate(reused);
        self.tokens = prompt.to_vec();
        if let Some(drafter) = &mut self.drafter {
            drafter.begin(prompt.len(), &options.sampling);
        }
        Ok(Generation::new(self, options.clone(), reused))
    }

    fn check_prompt(&self, prompt: &[u32]) -> std::result::Result<(), SessionError> {
        if prompt.is_empty() {
            return Err(SessionError::EmptyPrompt);
        }
        let limit = self.target.context_len();
        if prompt.len() >= limit {
            return Err(SessionError::ContextOverflow { prompt: prompt.len(), limit });
        }
        let vocab_size = self.target.vocab_size();
        match prompt.iter().position(|&id| id as usize >= vocab_size) {
            Some(position) => {
                let id = prompt[position];
                Err(SessionError::TokenOutsideVocabulary { id, position, vocab_size })
            }
            None => Ok(()),
        }
    }
}
