//! A language model that is a function from tokens to logits, so that loops are tested in
//! microseconds and their distributions can be enumerated.

use std::sync::{Arc, Mutex, MutexGuard};

use minicrit_engine::{
    Result,
    language_model::{LanguageModel, Logits},
    session::SessionError,
};

/// Logits of the token after a context.
pub type Script = Arc<dyn Fn(&[u32]) -> Vec<f32> + Send + Sync>;

/// One call of `extend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extend {
    /// Tokens that the model held before.
    pub start: usize,
    /// Tokens fed.
    pub len: usize,
    /// Rows asked for.
    pub rows: usize,
}

/// What a model was asked to do.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    /// Calls of `extend`, failed ones too.
    pub extends: Vec<Extend>,
    /// Lengths that `truncate` was called with.
    pub truncates: Vec<usize>,
}

/// A scripted model. It panics where its caller breaks the rules of [`LanguageModel`] (more rows
/// than tokens, a truncation to more than it holds, an empty feed).
#[derive(Clone)]
pub struct ScriptedModel {
    script: Script,
    vocab_size: usize,
    context_len: usize,
    tokens: Vec<u32>,
    /// What the rows are computed from: `tokens`, unless the model is told to be stale.
    cache: Vec<u32>,
    damaged_at: Option<(usize, f32)>,
    stale: bool,
    calls: Arc<Mutex<Calls>>,
}

impl ScriptedModel {
    /// A model whose row after `context` is `script(context)`, of `vocab_size` logits.
    pub fn new(
        vocab_size: usize,
        script: impl Fn(&[u32]) -> Vec<f32> + Send + Sync + 'static,
    ) -> Self {
        Self {
            script: Arc::new(script),
            vocab_size,
            context_len: 4096,
            tokens: Vec::new(),
            cache: Vec::new(),
            damaged_at: None,
            stale: false,
            calls: Arc::default(),
        }
    }

    /// Logits without pattern that depend on the last `reach` tokens and on `seed`: multiples of
    /// `step` in `[-span, span]`. A large step gives ties.
    pub fn hashed(vocab_size: usize, seed: u64, reach: usize, span: f32, step: f32) -> Self {
        let levels = (2.0 * span / step) as u64 + 1;
        Self::new(vocab_size, move |context| {
            let recent = &context[context.len().saturating_sub(reach)..];
            let state = recent.iter().fold(mix(seed), |state, &id| mix(state ^ u64::from(id)));
            (0..vocab_size as u64)
                .map(|id| (mix(state ^ (id << 32)) % levels) as f32 * step - span)
                .collect()
        })
    }

    /// A model that says `answer` after `prompt`, greedily, and token 0 anywhere else.
    pub fn reciting(vocab_size: usize, prompt: &[u32], answer: &[u32]) -> Self {
        let text = [prompt, answer].concat();
        let prompt_len = prompt.len();
        Self::new(vocab_size, move |context| {
            let mut row = vec![0.0; vocab_size];
            let known = context.len() >= prompt_len && text.starts_with(context);
            let next = text.get(context.len()).filter(|_| known).copied().unwrap_or(0);
            row[next as usize] = 9.0;
            row
        })
    }

    /// The same model with room for `context_len` tokens.
    pub fn with_context_len(self, context_len: usize) -> Self {
        Self { context_len, ..self }
    }

    /// The same model, whose row after `position` tokens holds `value` among its logits.
    pub fn damaged(self, position: usize, value: f32) -> Self {
        Self { damaged_at: Some((position, value)), ..self }
    }

    /// The same model with the bug that a truncation is not carried out in its cache: positions
    /// that were filled once keep what they were filled with.
    pub fn stale_after_truncation(self) -> Self {
        Self { stale: true, ..self }
    }

    /// The row after `context`, without a call that is counted.
    pub fn logits_after(&self, context: &[u32]) -> Vec<f32> {
        (self.script)(context)
    }

    /// What was asked of this model and its clones.
    pub fn calls(&self) -> Arc<Mutex<Calls>> {
        self.calls.clone()
    }

    fn log(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().expect("invariant: no test panics while it holds the log")
    }

    fn row(&self, len: usize) -> Vec<f32> {
        let mut row = (self.script)(&self.cache[..len]);
        assert_eq!(row.len(), self.vocab_size, "the script gives a row of the vocabulary");
        if let Some((position, value)) = self.damaged_at
            && position == len
        {
            row[self.vocab_size / 2] = value;
        }
        row
    }
}

impl LanguageModel for ScriptedModel {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn context_len(&self) -> usize {
        self.context_len
    }

    fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    fn extend(&mut self, tokens: &[u32], rows: usize) -> Result<Logits> {
        assert!(!tokens.is_empty(), "nothing was fed");
        assert!(rows <= tokens.len(), "{rows} rows of {} tokens", tokens.len());
        let start = self.tokens.len();
        self.log().extends.push(Extend { start, len: tokens.len(), rows });
        let len = start + tokens.len();
        if len > self.context_len {
            let limit = self.context_len;
            return Err(SessionError::ContextOverflow { prompt: len, limit }.into());
        }
        let vocab_size = self.vocab_size;
        if let Some(offset) = tokens.iter().position(|&id| id as usize >= vocab_size) {
            let (id, position) = (tokens[offset], start + offset);
            return Err(SessionError::TokenOutsideVocabulary { id, position, vocab_size }.into());
        }
        self.tokens.extend_from_slice(tokens);
        if !self.stale {
            self.cache.truncate(start);
        }
        let filled = self.cache.len().clamp(start, len);
        self.cache.extend_from_slice(&tokens[filled - start..]);
        let values = (len - rows + 1..=len).flat_map(|len| self.row(len)).collect();
        Ok(Logits::new(values, self.vocab_size))
    }

    fn truncate(&mut self, len: usize) {
        assert!(len <= self.tokens.len(), "{len} is more than the {} held", self.tokens.len());
        self.log().truncates.push(len);
        self.tokens.truncate(len);
    }
}

/// SplitMix64's output function (Steele, Lea and Flood 2014).
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rows_do_not_depend_on_how_they_were_fed() {
        let mut whole = ScriptedModel::hashed(8, 1, 3, 2.0, 0.25);
        let mut pieces = whole.clone();
        let expect = whole.extend(&[1, 2, 3, 4], 3).unwrap();
        pieces.extend(&[1, 2, 7, 7], 0).unwrap();
        pieces.truncate(1);
        let mut rows = Vec::new();
        for id in [2, 3, 4] {
            rows.extend(pieces.extend(&[id], 1).unwrap().into_values());
        }
        assert_eq!(rows, expect.into_values());
    }

    #[test]
    fn a_stale_model_shows() {
        let mut good = ScriptedModel::hashed(8, 1, 3, 2.0, 0.25);
        let mut stale = good.clone().stale_after_truncation();
        for model in [&mut good, &mut stale] {
            model.extend(&[1, 2, 7], 0).unwrap();
            model.truncate(2);
        }
        assert_eq!(good.tokens(), stale.tokens());
        assert_ne!(good.extend(&[3], 1).unwrap(), stale.extend(&[3], 1).unwrap());
    }

    #[test]
    fn damage_is_where_it_was_planted() {
        let mut model = ScriptedModel::hashed(4, 1, 1, 1.0, 0.5).damaged(2, f32::NAN);
        assert!(!model.extend(&[0], 1).unwrap().row(0).iter().any(|it| it.is_nan()));
        assert!(model.extend(&[0], 1).unwrap().row(0)[2].is_nan());
    }
}
