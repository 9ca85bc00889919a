//! `minicrit score`: exact log-probabilities of given tokens.

use std::{io::Write, path::Path};

use minicrit_engine::{
    language_model::LanguageModel,
    score::{self, Scored},
    sequence::Sequence,
};
use minicrit_hub::atomic_file;
use serde_json::{Value, json};

use super::Status;
use crate::{
    errors::{self, Failure},
    model::Loaded,
    printer, prompt,
    settings::{ScoreSettings, Source},
};

/// Scores and prints.
///
/// # Errors
/// Those of the files, the model and the stream.
pub fn score(settings: &ScoreSettings) -> anyhow::Result<Status> {
    let loaded = Loaded::open(&settings.model, &settings.compute)?;
    let ids = match &settings.source {
        Source::Ids(file) => prompt::ids(file)?,
        Source::Text(text) => loaded.tokenizer()?.encode_raw(text)?,
    };
    if ids.is_empty() {
        let failure = Failure::failed("empty-prompt", "there is nothing to score");
        return Err(failure.hint("give --text or --ids at least one token").into());
    }
    let mut sequence = loaded.sequence();
    if !settings.continuations.is_empty() {
        return continuations(settings, &loaded, &mut sequence, &ids);
    }
    let scored = match &settings.logits {
        Some(path) => score_to_file(path, &mut sequence, &ids)?,
        None => score::score(&mut sequence, &ids, &mut |_, _| Ok(()))?,
    };
    if settings.json {
        let Scored { token_ids, logprobs, top1_ids } = &scored;
        let value = json!({ "token_ids": token_ids, "logprobs": logprobs, "top1_ids": top1_ids });
        printer::json(&value)?;
    } else {
        print_tokens(&loaded, &scored)?;
    }
    Ok(Status::Done)
}

fn print_tokens(loaded: &Loaded, scored: &Scored) -> anyhow::Result<()> {
    let token = |id: u32| token_text(loaded, id);
    let rows: Vec<_> = scored
        .token_ids
        .iter()
        .enumerate()
        .map(|(at, &id)| {
            // A row of logits decides the token after it.
            let expected =
                at.checked_sub(1).and_then(|before| scored.top1_ids.get(before)).copied();
            [
                at.to_string(),
                id.to_string(),
                token(id),
                scored.logprobs[at].map_or_else(String::new, |it| format!("{it:.4}")),
                expected.filter(|it| *it != id).map_or_else(String::new, token),
            ]
        })
        .collect();
    let header = ["POSITION", "ID", "TOKEN", "LOGPROB", "MODEL EXPECTED"];
    printer::data(&printer::table(header, &rows))?;
    let known: Vec<f64> = scored.logprobs.iter().copied().flatten().collect();
    if !known.is_empty() {
        let sum: f64 = known.iter().sum();
        let perplexity = (-sum / known.len() as f64).exp();
        printer::data(&format!(
            "sum {sum:.4} over {} tokens, perplexity {perplexity:.3}",
            known.len()
        ))?;
    }
    Ok(())
}

fn token_text(loaded: &Loaded, id: u32) -> String {
    loaded.tokenizer().ok().and_then(|it| it.token(id)).unwrap_or_default().to_string()
}

fn continuations(
    settings: &ScoreSettings,
    loaded: &Loaded,
    sequence: &mut Sequence,
    prompt_ids: &[u32],
) -> anyhow::Result<Status> {
    let tokenizer = loaded.tokenizer()?;
    let mut ids = Vec::new();
    for text in &settings.continuations {
        let these = tokenizer.encode_content(text)?;
        if these.is_empty() {
            let failure =
                Failure::usage("usage", "a continuation can't be empty: `--continuation`");
            return Err(failure.into());
        }
        ids.push(these);
    }
    let scored = score::score_continuations(sequence, prompt_ids, &ids)?;
    if settings.json {
        let list: Vec<Value> = std::iter::zip(&settings.continuations, &scored)
            .map(|(text, it)| {
                json!({
                    "text": text,
                    "token_ids": it.token_ids,
                    "logprobs": it.logprobs,
                    "logprob": it.total(),
                })
            })
            .collect();
        printer::json(&json!({ "prompt_token_ids": prompt_ids, "continuations": list }))?;
        return Ok(Status::Done);
    }
    let rows: Vec<_> = std::iter::zip(&settings.continuations, &scored)
        .map(|(text, it)| {
            let sum = it.total();
            let each = sum / it.logprobs.len() as f64;
            [
                format!("{text:?}"),
                it.token_ids.len().to_string(),
                format!("{sum:.4}"),
                format!("{each:.4}"),
            ]
        })
        .collect();
    printer::data(&printer::table(["CONTINUATION", "TOKENS", "LOGPROB", "PER TOKEN"], &rows))?;
    Ok(Status::Done)
}

/// Scores, and writes the logits of every row as one safetensors file. They go there row by row:
/// `[T, V]` float32 need not fit into memory.
fn score_to_file(path: &Path, sequence: &mut Sequence, ids: &[u32]) -> anyhow::Result<Scored> {
    let header = safetensors_header(ids.len(), sequence.vocab_size())?;
    let mut scored = None;
    atomic_file::write::<anyhow::Error>(path, atomic_file::Readers::Umask, |file| {
        file.write_all(&header)?;
        // The engine's callback speaks of the engine's errors; a full disk is remembered here.
        let mut failure = None;
        let outcome = score::score(sequence, ids, &mut |_, row| {
            let bytes = row.iter().flat_map(|it| it.to_le_bytes()).collect::<Vec<u8>>();
            if failure.is_none() {
                failure = file.write_all(&bytes).err();
            }
            Ok(())
        })?;
        scored = Some(outcome);
        failure.map_or(Ok(()), |it| Err(it.into()))
    })
    .map_err(|error| match error.downcast::<std::io::Error>() {
        Ok(error) => errors::file("write", path, &error).into(),
        Err(error) => error,
    })?;
    Ok(scored.expect("invariant: the file is written after all rows are scored"))
}

/// The length and the JSON header of a file with one tensor; the JSON is padded so that the values
/// begin at a multiple of eight.
fn safetensors_header(rows: usize, cols: usize) -> anyhow::Result<Vec<u8>> {
    let bytes = rows.checked_mul(cols).and_then(|it| it.checked_mul(4));
    let bytes =
        bytes.ok_or_else(|| Failure::no_room("no-space", "the logits are too large to write"))?;
    let header = json!({
        "logits": { "dtype": "F32", "shape": [rows, cols], "data_offsets": [0, bytes] }
    });
    let mut header = header.to_string();
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    Ok(file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::safetensors_header;

    #[test]
    fn the_header_is_one_that_readers_accept() {
        for (rows, cols) in [(2, 3), (1, 1), (12, 151_936)] {
            let mut file = safetensors_header(rows, cols).unwrap();
            assert_eq!(file.len() % 8, 0);
            file.resize(file.len() + rows * cols * 4, 0);
            let read = safetensors::SafeTensors::deserialize(&file).unwrap();
            let logits = read.tensor("logits").unwrap();
            assert_eq!(logits.shape(), [rows, cols]);
            assert_eq!(logits.dtype(), safetensors::Dtype::F32);
        }
        assert!(safetensors_header(usize::MAX, 2).is_err());
    }
}
