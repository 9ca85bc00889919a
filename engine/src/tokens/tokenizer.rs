//! Text to ids and back, as Hugging Face's tokenizers do it, with one rule more: content never
//! becomes a control token.
//!
//! All added tokens count as control tokens, special or not: models ship `<think>` and
//! `<tool_call>` as added tokens that are not special.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value;
use tokenizers::{
    Model as _, ModelWrapper, NormalizedString, Normalizer as _, OffsetType, PreTokenizedString,
    PreTokenizer as _, Token, normalizer::Range as TextRange,
};

use super::{
    TokensError, Vocabulary, bytes,
    guard::{self, Added},
    loader,
};
use crate::chat::Rendered;

/// A loaded tokenizer. Immutable; share it by [`Arc`].
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The model without control tokens, where its vocabulary or merges could produce one.
    plain_model: Option<ModelWrapper>,
    added: Vec<Added>,
    matcher: AhoCorasick,
    control_ids: BTreeSet<u32>,
    unk_id: Option<u32>,
    tokens: Vec<Option<Box<str>>>,
    vocabulary: Arc<Vocabulary>,
    /// Ids in front of and behind a text, where tokenizer_config.json overrides tokenizer.json.
    affixes: Option<(Vec<u32>, Vec<u32>)>,
}

impl Tokenizer {
    /// A tokenizer.json, with its tokenizer_config.json where there is one, for a model of
    /// `vocab_size` ids.
    ///
    /// # Errors
    /// [`TokensError::Invalid`], which lists every problem at once.
    pub fn from_json(
        json: &[u8],
        config: Option<&Value>,
        vocab_size: usize,
    ) -> Result<Self, TokensError> {
        let extra = config.map(guard::added_in_config).unwrap_or_default();
        let checked = guard::check(json, &extra, vocab_size)?;
        let loaded = loader::load(&checked)?;
        let control_ids: BTreeSet<u32> = checked.added.iter().map(|it| it.id).collect();
        let tokens = token_texts(&checked, vocab_size);
        let vocabulary = bytes::vocabulary(&checked, vocab_size);
        let matcher = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(checked.added.iter().map(|it| &it.content))
            .map_err(|error| TokensError::invalid(format!("added_tokens: {error}")))?;
        let unk_id = checked.model.unk_token().and_then(|it| loaded.inner.token_to_id(it));
        let affixes = config.and_then(|it| affixes(it, &loaded.inner));
        Ok(Self {
            inner: loaded.inner,
            plain_model: loaded.plain_model,
            added: checked.added,
            matcher,
            control_ids,
            unk_id,
            tokens,
            vocabulary: Arc::new(vocabulary),
            affixes,
        })
    }

    /// Ids of a text in which control tokens are honoured, with what Hugging Face adds around it
    /// (`add_special_tokens=True`). Only for text that its author may steer the model with.
    ///
    /// # Errors
    /// [`TokensError::Failed`] if the tokenizer gives up.
    pub fn encode_raw(&self, text: &str) -> Result<Vec<u32>, TokensError> {
        let Some((before, after)) = &self.affixes else {
            return self.encode_honouring_all(text, true);
        };
        let ids = self.encode_honouring_all(text, false)?;
        Ok([before.as_slice(), &ids, after].concat())
    }

    /// Ids of a text that holds no control token, whatever it says.
    ///
    /// # Errors
    /// [`TokensError::Failed`] if the tokenizer gives up.
    pub fn encode_content(&self, text: &str) -> Result<Vec<u32>, TokensError> {
        self.encode_with(text, &[])
    }

    /// Ids of a rendered conversation: exactly the control tokens that the template wrote, and
    /// plain text between them. Where no message holds a control token's string, these are Hugging
    /// Face's ids.
    ///
    /// # Errors
    /// [`TokensError::Failed`] if the tokenizer gives up.
    pub fn encode_rendered(&self, rendered: &Rendered) -> Result<Vec<u32>, TokensError> {
        let text = rendered.text();
        let mut controls = Vec::new();
        for span in rendered.control_spans() {
            let token = self.added.iter().find(|it| it.content == text[span.clone()]);
            if let Some(token) = token.filter(|it| !it.single_word || stands_alone(text, span)) {
                controls.push((span.clone(), token));
            }
        }
        let found = self.matcher.find_iter(text).map(|it| it.range());
        if self.plain_model.is_none() && found.eq(controls.iter().map(|it| it.0.clone())) {
            let ids = self.encode_honouring_all(text, false)?;
            let count = ids.iter().filter(|id| self.control_ids.contains(id)).count();
            if count == controls.len() {
                return Ok(ids);
            }
        }
        self.encode_with(text, &controls)
    }

    /// Text of ids, control tokens printed.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.decode_with(ids, false)
    }

    /// Text of ids without special tokens (added tokens that are not special are printed).
    pub fn decode_skipping_special(&self, ids: &[u32]) -> String {
        self.decode_with(ids, true)
    }

    /// The tokenizer's own spelling of an id (`Ġthe`, `<0x0A>`), or nothing for a padding id.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize)?.as_deref()
    }

    /// The id of a token in the tokenizer's own spelling.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// What each id stands for.
    pub fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.vocabulary
    }

    /// The text of every control token, by id.
    pub fn control_tokens(&self) -> Vec<String> {
        self.added.iter().map(|it| it.content.clone()).collect()
    }

    fn encode_honouring_all(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TokensError> {
        guarded(|| self.inner.encode(text, add_special).map(|it| it.get_ids().to_vec()))
    }

    fn decode_with(&self, ids: &[u32], skip_special: bool) -> String {
        let decoded = guarded(|| self.inner.decode(ids, skip_special));
        decoded.unwrap_or_else(|_| {
            let bytes: Vec<u8> =
                ids.iter().flat_map(|id| self.vocabulary.bytes(*id)).copied().collect();
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }

    /// Encodes with `controls` as the only control tokens.
    fn encode_with(
        &self,
        text: &str,
        controls: &[(Range<usize>, &Added)],
    ) -> Result<Vec<u32>, TokensError> {
        let pieces = pieces(text, controls);
        let ids = guarded(|| {
            let mut split = PreTokenizedString::from(text);
            split.split(|_, whole| cut(&whole, &pieces))?;
            if let Some(normalizer) = self.inner.get_normalizer() {
                split.split(|_, mut piece| {
                    normalizer.normalize(&mut piece)?;
                    Ok([piece])
                })?;
            }
            if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut split)?;
            }
            let model = self.plain_model.as_ref().unwrap_or_else(|| self.inner.get_model());
            split.tokenize(|piece| model.tokenize(piece.get()))?;
            Ok(split.into_encoding(None, 0, OffsetType::None)?.get_ids().to_vec())
        })?;
        let stray = |id: &&u32| self.control_ids.contains(id) && Some(**id) != self.unk_id;
        let allowed = controls.iter().filter(|it| Some(it.1.id) != self.unk_id).count();
        if ids.iter().filter(stray).count() != allowed {
            return Err(TokensError::Failed("a text would have become a control token".into()));
        }
        Ok(ids)
    }
}

/// Splits a text into control tokens and the rest, with the spaces that tokens take with them.
fn pieces(text: &str, controls: &[(Range<usize>, &Added)]) -> Vec<(Range<usize>, Option<u32>)> {
    let mut pieces = Vec::with_capacity(2 * controls.len() + 1);
    let mut last = 0;
    for (span, token) in controls {
        let mut span = span.clone();
        if token.lstrip {
            let kept = text[..span.start].trim_end().len();
            span.start = kept.max(last);
        }
        if token.rstrip {
            span.end = text.len() - text[span.end..].trim_start().len();
        }
        // A neighbour may have taken this token's spaces, never the token.
        span.start = span.start.max(last);
        if last < span.start {
            pieces.push((last..span.start, None));
        }
        last = span.end;
        pieces.push((span, Some(token.id)));
    }
    if last < text.len() {
        pieces.push((last..text.len(), None));
    }
    pieces
}

type Split = (NormalizedString, Option<Vec<Token>>);

fn cut(
    whole: &NormalizedString,
    pieces: &[(Range<usize>, Option<u32>)],
) -> tokenizers::Result<Vec<Split>> {
    let slice = |range: &Range<usize>| {
        whole
            .slice(TextRange::Normalized(range.clone()))
            .ok_or("a control token's span cuts a character")
    };
    let mut parts = Vec::with_capacity(pieces.len());
    for (range, id) in pieces {
        let part = slice(range)?;
        let token = id.map(|id| vec![Token::new(id, part.get().to_owned(), (0, range.len()))]);
        parts.push((part, token));
    }
    Ok(parts)
}

/// Whether a token that must be a word of its own is one here.
fn stands_alone(text: &str, span: &Range<usize>) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    !text[..span.start].chars().next_back().is_some_and(is_word)
        && !text[span.end..].chars().next().is_some_and(is_word)
}

/// Runs the crate's code; a panic in it becomes an error. The guard should leave it no reason to.
pub(super) fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, TokensError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(TokensError::Failed(error.to_string())),
        Err(_) => Err(TokensError::Failed("it broke off in the middle of its work".into())),
    }
}

fn token_texts(checked: &guard::Checked, vocab_size: usize) -> Vec<Option<Box<str>>> {
    let mut tokens = vec![None; vocab_size];
    let added = checked.added.iter().map(|it| (it.content.as_str(), it.id));
    for (text, id) in checked.model.pieces().chain(added) {
        tokens[id as usize] = Some(text.into());
    }
    tokens
}

/// Llama's tokenizer class rebuilds what goes around a text from its configuration; other classes
/// take tokenizer.json's word.
fn affixes(config: &Value, inner: &tokenizers::Tokenizer) -> Option<(Vec<u32>, Vec<u32>)> {
    let class = config.get("tokenizer_class").and_then(Value::as_str)?;
    if !matches!(class.trim_end_matches("Fast"), "LlamaTokenizer" | "CodeLlamaTokenizer") {
        return None;
    }
    let flag = |name: &str| config.get(name).and_then(Value::as_bool);
    let id = |name: &str| token_text(config.get(name)?).and_then(|it| inner.token_to_id(it));
    let add_bos = flag("add_bos_token")?;
    let before = if add_bos { vec![id("bos_token")?] } else { Vec::new() };
    let after =
        if flag("add_eos_token").unwrap_or(false) { vec![id("eos_token")?] } else { Vec::new() };
    Some((before, after))
}

/// A token in tokenizer_config.json: a string, or an object with its `content`.
pub fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// Ids that end a text. generation_config.json decides if it names any; otherwise config.json's
/// and the tokenizer's `eos_token` together, because chat models end turns with the latter.
pub fn eos_ids(
    generation_config: Option<&Value>,
    config: &Value,
    tokenizer_config: Option<&Value>,
    tokenizer: Option<&Tokenizer>,
) -> Vec<u32> {
    let generation = generation_config.map(listed_ids).unwrap_or_default();
    if !generation.is_empty() {
        return generation;
    }
    let mut ids = listed_ids(config);
    let token = tokenizer_config.and_then(|it| token_text(it.get("eos_token")?));
    if let Some(id) = token.zip(tokenizer).and_then(|(token, tokenizer)| tokenizer.id_of(token))
        && !ids.contains(&id)
    {
        ids.push(id);
    }
    ids
}

fn listed_ids(config: &Value) -> Vec<u32> {
    let id = |it: &Value| it.as_u64().and_then(|it| u32::try_from(it).ok());
    match config.get("eos_token_id") {
        Some(Value::Array(items)) => items.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// Texts of added tokens by id, for loading.
pub(super) fn ids_by_text(added: &[Added]) -> HashMap<&str, u32> {
    added.iter().map(|it| (it.content.as_str(), it.id)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_generation_config_decides_what_ends_a_text() {
        let config = json!({"eos_token_id": 7});
        assert_eq!(eos_ids(Some(&json!({"eos_token_id": [1, 2]})), &config, None, None), [1, 2]);
        assert_eq!(eos_ids(Some(&json!({})), &config, None, None), [7]);
        assert_eq!(eos_ids(None, &json!({"eos_token_id": null}), None, None), [0u32; 0]);
    }
}
