//! Several continuations of one context, computed in one pass.

use super::{LOGITS_ROWS, Sequence, is_set, tag};
use crate::{
    Result,
    cache::KvCache,
    model::ModelError,
    pass::{Pass, Rows, Span},
};

/// What receives logits: the branch, the row in it, and the row's `[V]` logits.
pub type BranchSink<'a> = dyn FnMut(usize, usize, &[f32]) -> Result<()> + 'a;

impl Sequence {
    /// Feeds each of `branches` after the tokens that the sequence holds, as if it were the end of
    /// the sequence, and hands the logits of all their rows to `sink`. The sequence stays as it
    /// is. Branches share one pass over copies of the cache; by the rule of rows the bits are
    /// those of feeding them one after the other. A branch has at least one token.
    ///
    /// # Errors
    /// As for extending, or what `sink` returns.
    pub fn branch(&mut self, branches: &[Vec<u32>], sink: &mut BranchSink<'_>) -> Result<()> {
        let held = self.tokens.len();
        for tokens in branches {
            self.appended(tokens)?;
        }
        // A rope that changes with the length needs other keys for another length.
        let regimes_agree = self.cache.len() == held
            && branches.iter().all(|it| !it.is_empty())
            && branches.iter().all(|it| {
                tag(&self.decoder, self.adapter.as_deref(), held + it.len()) == self.cache.tag()
            });
        if !regimes_agree {
            for (index, tokens) in branches.iter().enumerate() {
                self.extend_complete(tokens, &mut |position, row| {
                    sink(index, position - held, row)
                })?;
                crate::language_model::LanguageModel::truncate(self, held);
            }
            return Ok(());
        }
        let mut copies: Vec<KvCache> = branches.iter().map(|_| self.cache.clone()).collect();
        let mut caches: Vec<&mut KvCache> = copies.iter_mut().collect();
        let spans =
            branches.iter().map(|it| Span { start: held, len: it.len(), total: held + it.len() });
        let rows = Rows::new(spans.collect());
        let ids = branches.concat();
        if ids.is_empty() {
            return Ok(());
        }
        let adapter = self.adapter.as_deref();
        let mut pass = Pass { rows: &rows, caches: &mut caches, adapter };
        let cancelled = || is_set(&self.cancel);
        let hidden_td = self.decoder.hidden_unless(&ids, &mut pass, &cancelled)?;
        // Which branch a row belongs to, and which row of it that is.
        let owners: Vec<(usize, usize)> = branches
            .iter()
            .enumerate()
            .flat_map(|(index, it)| (0..it.len()).map(move |row| (index, row)))
            .collect();
        for start in (0..ids.len()).step_by(LOGITS_ROWS) {
            let part_rd = hidden_td.narrow(0, start, LOGITS_ROWS.min(ids.len() - start))?;
            let logits = self.decoder.logits(&part_rd, &pass)?.flatten_all()?.to_vec1::<f32>()?;
            for (i, row) in logits.chunks_exact(self.decoder.spec.vocab_size).enumerate() {
                let (index, at) = owners[start + i];
                check_finite(row, held + at)?;
                sink(index, at, row)?;
            }
        }
        Ok(())
    }
}

/// That all of a row is finite.
fn check_finite(row: &[f32], position: usize) -> Result<()> {
    if row.iter().all(|it| it.is_finite()) {
        Ok(())
    } else {
        Err(ModelError::NonFinite { position }.into())
    }
}
