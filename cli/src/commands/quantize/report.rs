//! The report of `quantize`: a written file against its source.

use std::{path::Path, sync::Arc, time::Instant};

use minicrit_engine::{
    assemble,
    language_model::LanguageModel,
    load::{LoadOptions, load_decoder},
    model::Decoder,
    quality::{self, Comparison, Reference},
    score::argmax,
    sequence::Sequence,
    source::ModelFiles,
};
use serde_json::{Value, json};

use super::texts::Texts;
use crate::{answer::rate, model::milliseconds_since, printer};

/// Memory for the reference's distributions.
const MOST_BYTES: usize = 512 << 20;

/// Tokens of the measurement of speed.
const PROMPT_LEN: usize = 64;
const GEN_LEN: usize = 16;

/// Measures the file at `output`, made of `files`, on `texts`.
///
/// # Errors
/// Those of loading and of the model.
pub fn measure(files: &ModelFiles, output: &Path, texts: Texts) -> anyhow::Result<Value> {
    let _progress = printer::Progress::start(format!("measuring on {}", texts.origin));
    let source = assemble::load(files, LoadOptions::default())?.decoder;
    let written = ModelFiles::open(output)?;
    let rounded = Arc::new(load_decoder(&written)?);
    let tokens = texts.tokens();
    let chosen = fitting(&texts, source.spec.vocab_size);
    let reference = Reference::measure(&source, &chosen)?;
    let whole = reference.compare(&rounded)?;
    let mut layers = Vec::new();
    for (index, layer) in rounded.layers.iter().enumerate() {
        let one = quality::with_layer(&source, index, layer.clone());
        let comparison = reference.compare(&Arc::new(one))?;
        layers.push(entry(&format!("layer {index}"), layer.weight_bytes(), comparison));
    }
    let ends =
        source.with_parts(rounded.embed.clone(), source.layers.clone(), rounded.head.clone());
    let ends_bytes = rounded.weight_bytes()
        - rounded.layers.iter().map(minicrit_engine::model::Layer::weight_bytes).sum::<usize>();
    layers.push(entry("embedding and head", ends_bytes, reference.compare(&Arc::new(ends))?));
    let measured: usize = chosen.iter().map(Vec::len).sum();
    Ok(json!({
        "data": texts.origin,
        "tokens": measured,
        "tokens_left_out": tokens - measured,
        "positions": reference.positions(),
        "reference_perplexity": reference.perplexity(),
        "whole": entry("whole", rounded.weight_bytes(), whole),
        "layers": layers,
        "speed": { "source": speed(&source)?, "written": speed(&rounded)? },
    }))
}

/// The texts whose distributions over `vocab_size` tokens fit into memory.
pub fn fitting(texts: &Texts, vocab_size: usize) -> Vec<Vec<u32>> {
    first_tokens(texts.ids.clone(), Reference::most_positions(vocab_size, MOST_BYTES))
}

/// The first texts, the last one cut, of together at most `most` tokens.
fn first_tokens(texts: Vec<Vec<u32>>, most: usize) -> Vec<Vec<u32>> {
    let mut left = most.max(2);
    let mut chosen = Vec::new();
    for mut text in texts {
        text.truncate(left);
        left -= text.len();
        if text.len() > 1 {
            chosen.push(text);
        }
        if left < 2 {
            break;
        }
    }
    chosen
}

fn entry(part: &str, bytes: usize, it: Comparison) -> Value {
    json!({
        "part": part,
        "bytes": bytes,
        "kl_mean": it.kl_mean,
        "kl_p999": it.kl_p999,
        "same_top1": it.same_top1,
        "perplexity": it.perplexity,
    })
}

/// Tokens a second, the better of two runs.
fn speed(decoder: &Arc<Decoder>) -> anyhow::Result<Value> {
    let limit = decoder.spec.max_tokens();
    let (prompt_len, gen_len) = (PROMPT_LEN.min(limit / 2).max(1), GEN_LEN.min(limit / 2));
    let vocab_size = decoder.spec.vocab_size;
    let ids: Vec<u32> = (0..prompt_len).map(|at| (at * 7919 % vocab_size) as u32).collect();
    let (mut prefill, mut decode) = (0.0f64, 0.0f64);
    for _ in 0..2 {
        let mut sequence = Sequence::new(Arc::clone(decoder), None);
        let start = Instant::now();
        let mut next = argmax(sequence.extend(&ids, 1)?.row(0));
        prefill = prefill.max(rate(prompt_len, milliseconds_since(start)));
        let start = Instant::now();
        for _ in 0..gen_len {
            next = argmax(sequence.extend(&[next], 1)?.row(0));
        }
        decode = decode.max(rate(gen_len, milliseconds_since(start)));
    }
    Ok(json!({ "prefill_tok_s": prefill, "decode_tok_s": decode }))
}

/// Prints a report as tables.
///
/// # Errors
/// A closed stream.
pub fn print(report: &Value) -> anyhow::Result<()> {
    let number = |it: &Value, key: &str| it[key].as_f64().unwrap_or(0.0);
    let row = |it: &Value| {
        [
            it["part"].as_str().unwrap_or_default().to_owned(),
            printer::bytes(it["bytes"].as_u64().unwrap_or(0)),
            format!("{:.5}", number(it, "kl_mean")),
            format!("{:.4}", number(it, "kl_p999")),
            format!("{:.2} %", 100.0 * number(it, "same_top1")),
            format!("{:.3}", number(it, "perplexity")),
        ]
    };
    let mut rows = vec![row(&report["whole"])];
    rows.extend(report["layers"].as_array().into_iter().flatten().map(row));
    let header = ["PART", "SIZE", "KL MEAN", "KL 99.9 %", "SAME TOP 1", "PERPLEXITY"];
    printer::data(&printer::table(header, &rows))?;
    let speed = &report["speed"];
    let ratio = |key: &str| number(&speed["written"], key) / number(&speed["source"], key);
    printer::data(&format!(
        "source: perplexity {:.3}; speed against it: prefill {:.2} times, decode {:.2} times",
        number(report, "reference_perplexity"),
        ratio("prefill_tok_s"),
        ratio("decode_tok_s"),
    ))?;
    let left_out = match report["tokens_left_out"].as_u64() {
        Some(0) | None => String::new(),
        Some(more) => format!(" ({more} more did not fit)"),
    };
    printer::data(&format!(
        "measured on {} tokens of {}{left_out}",
        report["tokens"],
        report["data"].as_str().unwrap_or_default(),
    ))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::first_tokens;

    #[test]
    fn what_does_not_fit_is_cut() {
        let texts = || vec![vec![1; 5], vec![2; 5], vec![3; 5]];
        let lens = |most| first_tokens(texts(), most).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lens(100), [5, 5, 5]);
        assert_eq!(lens(7), [5, 2]);
        assert_eq!(lens(6), [5]);
        assert_eq!(lens(1), [2]);
    }
}
