//! From checked parts to the `tokenizers` crate's objects.

use std::{
    collections::{HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokenizers::{
    AddedToken, DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper,
    PreTokenizerWrapper,
    models::bpe::{BPE, Vocab},
};

use super::{
    TokensError,
    guard::{Bpe, Checked, ModelPart},
    tokenizer::ids_by_text,
};

/// The crate's tokenizer, and a model without control tokens if the first one's model could
/// produce them from text.
pub(super) struct Loaded {
    pub inner: tokenizers::Tokenizer,
    pub plain_model: Option<ModelWrapper>,
}

pub(super) fn load(checked: &Checked) -> Result<Loaded, TokensError> {
    match catch_unwind(AssertUnwindSafe(|| assemble(checked))) {
        Ok(Ok(loaded)) => Ok(loaded),
        Ok(Err(problem)) => Err(TokensError::invalid(problem)),
        Err(_) => Err(TokensError::invalid("the tokenizers library can't load it")),
    }
}

fn assemble(checked: &Checked) -> Result<Loaded, String> {
    let model = match &checked.model {
        ModelPart::Bpe(bpe) => build_bpe(bpe)?,
        ModelPart::Words { section, .. } | ModelPart::Unigram { section, .. } => {
            part("model", section)?
        }
    };
    let mut inner = tokenizers::Tokenizer::new(model);
    let text = |error: tokenizers::Error| error.to_string();
    inner
        .with_normalizer(optional::<NormalizerWrapper>("normalizer", checked.normalizer.as_ref())?)
        .map_err(text)?
        .with_pre_tokenizer(optional::<PreTokenizerWrapper>(
            "pre_tokenizer",
            checked.pre_tokenizer.as_ref(),
        )?)
        .with_post_processor(optional::<PostProcessorWrapper>(
            "post_processor",
            checked.post_processor.as_ref(),
        )?)
        .with_decoder(optional::<DecoderWrapper>("decoder", checked.decoder.as_ref())?);
    let added = checked.added.iter().map(|it| AddedToken {
        content: it.content.clone(),
        single_word: it.single_word,
        lstrip: it.lstrip,
        rstrip: it.rstrip,
        normalized: it.normalized,
        special: it.special,
    });
    inner.add_tokens(added).map_err(text)?;
    for token in &checked.added {
        let got = inner.token_to_id(&token.content);
        if got != Some(token.id) {
            // The crate numbers added tokens itself, one after the other.
            let text = token.content.escape_debug();
            return Err(format!(
                "added token `{text}` has id {}, but its place is {got:?}",
                token.id
            ));
        }
    }
    Ok(Loaded { plain_model: plain_model(checked)?, inner })
}

fn part<T: DeserializeOwned>(name: &str, section: &Value) -> Result<T, String> {
    T::deserialize(section).map_err(|error| format!("{name}: {error}"))
}

fn optional<T: DeserializeOwned>(name: &str, section: Option<&Value>) -> Result<Option<T>, String> {
    section.map(|it| part(name, it)).transpose()
}

/// Built from the very lists that were checked; the crate's own reader never sees them.
fn build_bpe(bpe: &Bpe) -> Result<ModelWrapper, String> {
    let vocab: Vocab = bpe.vocab.iter().cloned().collect();
    let mut builder = BPE::builder()
        .vocab_and_merges(vocab, bpe.merges.clone())
        .fuse_unk(bpe.fuse_unk)
        .byte_fallback(bpe.byte_fallback)
        .ignore_merges(bpe.ignore_merges);
    if let Some(unk) = &bpe.unk_token {
        builder = builder.unk_token(unk.clone());
    }
    if let Some(prefix) = &bpe.continuing_subword_prefix {
        builder = builder.continuing_subword_prefix(prefix.clone());
    }
    if let Some(suffix) = &bpe.end_of_word_suffix {
        builder = builder.end_of_word_suffix(suffix.clone());
    }
    builder.build().map(ModelWrapper::BPE).map_err(|error| format!("model: {error}"))
}

fn plain_model(checked: &Checked) -> Result<Option<ModelWrapper>, String> {
    let controls = ids_by_text(&checked.added);
    let unk = checked.model.unk_token();
    if !checked.model.pieces().any(|(piece, _)| controls.contains_key(piece) && Some(piece) != unk)
    {
        return Ok(None);
    }
    match &checked.model {
        ModelPart::Bpe(bpe) => plain_bpe(bpe, &controls),
        ModelPart::Words { section, .. } => {
            let mut section = section.clone();
            if let Some(vocab) = section.get_mut("vocab").and_then(Value::as_object_mut) {
                vocab.retain(|piece, _| {
                    !controls.contains_key(piece.as_str()) || Some(piece.as_str()) == unk
                });
            }
            part("model", &section).map(Some)
        }
        ModelPart::Unigram { section, .. } => {
            let mut section = section.clone();
            // Places are ids here, so a piece can't go; it becomes one that no text holds.
            for (id, entry) in section
                .get_mut("vocab")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
                .enumerate()
            {
                let is_control = entry[0]
                    .as_str()
                    .is_some_and(|it| controls.contains_key(it) && Some(it) != unk);
                if is_control {
                    entry[0] = format!("\u{10FFFF}control {id}\u{10FFFF}").into();
                }
            }
            part("model", &section).map(Some)
        }
    }
}

/// Byte-pair encoding makes a control token only through a merge, from a single character, or
/// where whole words are looked up first.
fn plain_bpe(bpe: &Bpe, controls: &HashMap<&str, u32>) -> Result<Option<ModelWrapper>, String> {
    let is_control =
        |piece: &str| controls.contains_key(piece) && Some(piece) != bpe.unk_token.as_deref();
    let merges_to_control = |(left, right): &(String, String)| {
        bpe.merged(left, right).is_some_and(|it| is_control(&it))
    };
    let single = bpe.vocab.iter().any(|(piece, _)| is_control(piece) && piece.chars().count() == 1);
    if !bpe.ignore_merges && !single && !bpe.merges.iter().any(merges_to_control) {
        return Ok(None);
    }
    let mut plain = bpe.clone();
    plain.vocab.retain(|(piece, _)| !is_control(piece));
    let known: HashSet<&str> = plain.vocab.iter().map(|it| it.0.as_str()).collect();
    plain.merges.retain(|(left, right)| {
        let merged = bpe.merged(left, right);
        [Some(left.as_str()), Some(right.as_str()), merged.as_deref()]
            .iter()
            .all(|it| it.is_some_and(|it| known.contains(it)))
    });
    build_bpe(&plain).map(Some)
}
