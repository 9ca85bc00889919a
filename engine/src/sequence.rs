//! One running context: a decoder, a cache, and the tokens that the cache stands for.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use candle_core::Tensor;

use crate::{
    Result,
    adapter::Adapter,
    cache::{CacheTag, KvCache},
    language_model::{LanguageModel, Logits},
    model::{Decoder, ModelError},
    pass::{Pass, Rows, Span},
};

/// Rows in a prefill step, where nothing else was asked for.
pub const DEFAULT_CHUNK: usize = 512;

/// Rows whose logits are computed at a time.
const LOGITS_ROWS: usize = 32;

/// What receives logits: the position of a row and its `[V]` logits, checked to be finite.
type Sink<'a> = dyn FnMut(usize, &[f32]) -> Result<()> + 'a;

/// A sequence in front of a [`Decoder`]. The tokens are the truth; the cache may hold fewer of
/// them (after a change of the rope's regime), never others.
pub struct Sequence {
    decoder: Arc<Decoder>,
    adapter: Option<Arc<dyn Adapter>>,
    cache: KvCache,
    tokens: Vec<u32>,
    chunk: usize,
    context_len: usize,
    cancel: Option<Arc<AtomicBool>>,
}

impl Sequence {
    /// An empty sequence.
    pub fn new(decoder: Arc<Decoder>, adapter: Option<Arc<dyn Adapter>>) -> Self {
        let tag = tag(&decoder, adapter.as_deref(), 0);
        let cache = decoder.new_cache(tag);
        let context_len = decoder.spec.max_tokens();
        let (tokens, chunk) = (Vec::new(), DEFAULT_CHUNK);
        Self { decoder, adapter, cache, tokens, chunk, context_len, cancel: None }
    }

    /// Feeds at most `chunk` rows (at least one) in one step. The bits do not depend on it.
    #[must_use]
    pub fn with_chunk(mut self, chunk: usize) -> Self {
        self.chunk = chunk.max(1);
        self
    }

    /// Holds at most `context_len` tokens, and never more than the model was made for.
    #[must_use]
    pub fn with_context_len(mut self, context_len: usize) -> Self {
        self.context_len = context_len.min(self.decoder.spec.max_tokens());
        self
    }

    /// Gives up between two layers once `flag` is set: the call fails with
    /// [`ModelError::Cancelled`], and the sequence is as before it.
    #[must_use]
    pub fn with_cancel(mut self, flag: Arc<AtomicBool>) -> Self {
        self.cancel = Some(flag);
        self
    }

    /// The decoder.
    pub fn decoder(&self) -> &Arc<Decoder> {
        &self.decoder
    }

    /// Bytes that the cache takes now.
    pub fn cache_bytes(&self) -> usize {
        self.cache.byte_len()
    }

    /// Appends `tokens` as the end of a sequence that is complete with them, and hands the logits
    /// of each of their rows to `sink`. This is what training and scoring compute; it differs from
    /// [`LanguageModel::extend`] only for ropes that change with the length of the sequence.
    ///
    /// # Errors
    /// As [`LanguageModel::extend`], or what `sink` returns; the sequence is then as before.
    pub fn extend_complete(&mut self, tokens: &[u32], sink: &mut Sink<'_>) -> Result<()> {
        let first = self.tokens.len();
        let all = self.appended(tokens)?;
        self.run_or_restore(&all, |this| this.run_to(&all, all.len(), first, sink))
    }

    fn appended(&self, tokens: &[u32]) -> Result<Vec<u32>> {
        let needed = self.tokens.len() + tokens.len();
        if needed > self.context_len {
            return Err(ModelError::ContextOverflow { needed, limit: self.context_len }.into());
        }
        let vocab_size = self.decoder.spec.vocab_size;
        if let Some(&id) = tokens.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(ModelError::TokenId { id, vocab_size }.into());
        }
        Ok([&self.tokens, tokens].concat())
    }

    /// Runs `work` and takes over `all` as the tokens, or forgets what `work` did.
    fn run_or_restore(
        &mut self,
        all: &[u32],
        work: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let outcome = work(self);
        match &outcome {
            Ok(()) => self.tokens.extend_from_slice(&all[self.tokens.len()..]),
            Err(_) => self.cache.truncate(self.tokens.len()),
        }
        outcome
    }

    /// Computes `all[cache.len()..end]` for a sequence of `end` tokens; rows from `first` on go to
    /// `sink`.
    fn run_to(&mut self, all: &[u32], end: usize, first: usize, sink: &mut Sink<'_>) -> Result<()> {
        let tag = tag(&self.decoder, self.adapter.as_deref(), end);
        if self.cache.tag() != tag {
            self.cache = self.decoder.new_cache(tag);
        }
        while self.cache.len() < end {
            let start = self.cache.len();
            let len = self.chunk.min(end - start);
            let rows = Rows::new(vec![Span { start, len, total: end }]);
            let mut caches = [&mut self.cache];
            let adapter = self.adapter.as_deref();
            let mut pass = Pass { rows: &rows, caches: &mut caches, adapter };
            let cancelled = || self.cancel.as_ref().is_some_and(|it| it.load(Ordering::SeqCst));
            let hidden_td =
                self.decoder.hidden_unless(&all[start..start + len], &mut pass, &cancelled)?;
            if start + len > first {
                let skip = first.saturating_sub(start);
                let wanted_rd = hidden_td.narrow(0, skip, len - skip)?;
                emit_logits(&self.decoder, &wanted_rd, &pass, start + skip, sink)?;
            }
        }
        Ok(())
    }
}

/// Logits of hidden states whose first row is at `position`, a few rows at a time.
fn emit_logits(
    decoder: &Decoder,
    rows_rd: &Tensor,
    pass: &Pass<'_>,
    position: usize,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let count = rows_rd.dim(0)?;
    for start in (0..count).step_by(LOGITS_ROWS) {
        let part_rd = rows_rd.narrow(0, start, LOGITS_ROWS.min(count - start))?;
        let logits = decoder.logits(&part_rd, pass)?.flatten_all()?.to_vec1::<f32>()?;
        for (i, row) in logits.chunks_exact(decoder.spec.vocab_size).enumerate() {
            let position = position + start + i;
            if !row.iter().all(|it| it.is_finite()) {
                return Err(ModelError::NonFinite { position }.into());
            }
            sink(position, row)?;
        }
    }
    Ok(())
}

fn tag(decoder: &Decoder, adapter: Option<&dyn Adapter>, total: usize) -> CacheTag {
    CacheTag { model: decoder.id, adapter: adapter.map(Adapter::id), rope: decoder.regime(total) }
}

impl LanguageModel for Sequence {
    fn vocab_size(&self) -> usize {
        self.decoder.spec.vocab_size
    }

    fn context_len(&self) -> usize {
        self.context_len
    }

    fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// A wanted row counts as the end of its sequence, as it would be if its token had been fed
    /// alone. So rows of different rope regimes are computed apart.
    fn extend(&mut self, tokens: &[u32], rows: usize) -> Result<Logits> {
        let all = self.appended(tokens)?;
        let end = all.len();
        let first = end - rows.min(tokens.len());
        let vocab_size = self.vocab_size();
        let mut values = Vec::with_capacity((end - first) * vocab_size);
        self.run_or_restore(&all, |this| {
            let mut sink = |_: usize, row: &[f32]| {
                values.extend_from_slice(row);
                Ok(())
            };
            let mut from = first;
            while from < end {
                let regime = this.decoder.regime(from + 1);
                let mut to = from + 1;
                while to < end && this.decoder.regime(to + 1) == regime {
                    to += 1;
                }
                this.run_to(&all, to, from, &mut sink)?;
                from = to;
            }
            this.run_to(&all, end, end, &mut sink)
        })?;
        Ok(Logits::new(values, vocab_size))
    }

    fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.cache.truncate(len);
    }
}
