//! Logits changed by what was already said: a sparse list, since a row has 150,000 logits and a
//! history names a few hundred of them.

use super::SamplingParams;

/// The tokens before the one to be decided, and where the answer begins among them.
#[derive(Debug, Clone, Copy)]
pub struct History<'a> {
    tokens: &'a [u32],
    prompt_len: usize,
}

impl<'a> History<'a> {
    /// `tokens`: prompt and answer so far, of which the first `prompt_len` are the prompt.
    pub fn new(tokens: &'a [u32], prompt_len: usize) -> Self {
        Self { tokens, prompt_len: prompt_len.min(tokens.len()) }
    }

    /// Number of tokens, which is the position of the token to be decided.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    fn answer(&self) -> &'a [u32] {
        &self.tokens[self.prompt_len..]
    }
}

/// A logit that replaces the model's own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Override {
    pub(super) id: u32,
    pub(super) score: f64,
}

/// The changed logits, by ascending id, each id once.
///
/// Repetition (Keskar et al. 2019) looks at prompt and answer and comes first, as in transformers;
/// presence and frequency look at the answer alone, as OpenAI defines them; a banned token gets
/// negative infinity, whatever the others say.
pub(super) fn overrides(
    logits: &[f32],
    params: &SamplingParams,
    history: History<'_>,
) -> Vec<Override> {
    let by_count = params.presence_penalty != 0.0 || params.frequency_penalty != 0.0;
    let penalised = if params.repetition_penalty != 1.0 {
        history.tokens
    } else if by_count {
        history.answer()
    } else {
        &[]
    };
    let mut changed: Vec<Override> = distinct(penalised, logits.len())
        .into_iter()
        .map(|(id, _)| Override { id, score: repeated(logits[id as usize], params) })
        .collect();
    if by_count {
        for (id, count) in distinct(history.answer(), logits.len()) {
            let place = changed
                .binary_search_by_key(&id, |it| it.id)
                .expect("invariant: the answer's ids are among those above");
            changed[place].score -=
                params.presence_penalty + params.frequency_penalty * count as f64;
        }
    }
    for id in banned(history.tokens, params.no_repeat_ngram) {
        let ban = Override { id, score: f64::NEG_INFINITY };
        match changed.binary_search_by_key(&id, |it| it.id) {
            Ok(place) => changed[place] = ban,
            Err(place) if (id as usize) < logits.len() => changed.insert(place, ban),
            Err(_) => {}
        }
    }
    changed
}

fn repeated(logit: f32, params: &SamplingParams) -> f64 {
    let score = f64::from(logit);
    if score < 0.0 { score * params.repetition_penalty } else { score / params.repetition_penalty }
}

/// Ids below `vocab_size` in ascending order, with how often each occurs.
fn distinct(tokens: &[u32], vocab_size: usize) -> Vec<(u32, usize)> {
    let mut sorted: Vec<u32> =
        tokens.iter().copied().filter(|&id| (id as usize) < vocab_size).collect();
    sorted.sort_unstable();
    sorted.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect()
}

/// Tokens that would complete a run of `size` tokens that `tokens` already holds.
fn banned(tokens: &[u32], size: usize) -> Vec<u32> {
    if size == 0 || tokens.len() < size {
        return Vec::new();
    }
    let suffix = &tokens[tokens.len() + 1 - size..];
    tokens.windows(size).filter(|run| run[..size - 1] == *suffix).map(|run| run[size - 1]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(params: SamplingParams, tokens: &[u32], prompt_len: usize) -> Vec<(u32, f64)> {
        let logits = [1.0, -2.0, 4.0, 0.5];
        overrides(&logits, &params, History::new(tokens, prompt_len))
            .into_iter()
            .map(|it| (it.id, it.score))
            .collect()
    }

    #[test]
    fn repetition_covers_the_prompt_once_per_token() {
        let params = SamplingParams { repetition_penalty: 2.0, ..SamplingParams::greedy() };
        assert_eq!(changed(params, &[2, 1, 2, 2], 3), [(1, -4.0), (2, 2.0)]);
    }

    #[test]
    fn presence_and_frequency_count_the_answer_alone() {
        let params = SamplingParams {
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            ..SamplingParams::greedy()
        };
        assert_eq!(changed(params.clone(), &[0, 0, 2, 3, 2], 2), [(2, 3.0), (3, -0.25)]);
        let both = SamplingParams { repetition_penalty: 2.0, ..params };
        assert_eq!(changed(both, &[0, 0, 2, 3, 2], 2), [(0, 0.5), (2, 1.0), (3, -0.5)]);
    }

    #[test]
    fn a_run_that_was_there_is_banned() {
        let params = SamplingParams { no_repeat_ngram: 2, ..SamplingParams::greedy() };
        assert_eq!(
            changed(params, &[1, 2, 0, 1, 3, 1], 0),
            [(2, f64::NEG_INFINITY), (3, f64::NEG_INFINITY)]
        );
        assert_eq!(banned(&[1, 2, 3, 1, 2], 3), [3]);
        assert!(banned(&[1, 2], 3).is_empty());
        assert_eq!(banned(&[5, 6], 1), [5, 6]);
    }

    #[test]
    fn ids_outside_the_row_are_left_alone() {
        let params = SamplingParams {
            repetition_penalty: 2.0,
            presence_penalty: 1.0,
            no_repeat_ngram: 1,
            ..SamplingParams::greedy()
        };
        assert_eq!(changed(params, &[9, 1], 0), [(1, f64::NEG_INFINITY)]);
    }
}
