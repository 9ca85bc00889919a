//! `minicrit bench`: speed and memory of a model on this machine.

use std::time::Instant;

use minicrit_engine::{Error, language_model::LanguageModel, model::ModelError, score::argmax};
use minicrit_quant::roofline;
use serde::Serialize;
use serde_json::{Value, json};

use super::Status;
use crate::{
    answer::rate,
    memory,
    model::{Loaded, milliseconds_since},
    printer,
    settings::BenchSettings,
};

/// Median, least and most of the repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
        let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
        let last = values.len().saturating_sub(1);
        Self { median: f64::midpoint(at(low), at(high)), min: at(0), max: at(last) }
    }

    fn show(self, unit: &str) -> String {
        let Self { median, min, max } = self;
        format!("{median:.1} {unit}  (min {min:.1}, max {max:.1})")
    }
}

/// What one repetition took.
#[derive(Debug, Clone, Copy)]
struct Measured {
    load_ms: f64,
    prefill_tok_s: f64,
    ttft_ms: f64,
    decode_tok_s: f64,
}

/// Measures and prints.
///
/// # Errors
/// Those of loading; a context that the lengths do not fit.
pub fn bench(settings: &BenchSettings) -> anyhow::Result<Status> {
    let mut all = Vec::new();
    let mut last = None;
    for _ in 0..settings.reps {
        // The model before is dropped first: two at once would count twice in the peak.
        drop(last.take());
        let loaded = Loaded::open(&settings.model, &settings.compute)?;
        all.push(measure(&loaded, settings)?);
        last = Some(loaded);
    }
    let Some(loaded) = last else { return Ok(Status::Done) };
    let mut report = report(settings, &loaded, &all);
    let costs = row_costs(&loaded, settings)?;
    if !costs.is_empty() {
        report["rows"] = json!(costs);
    }
    if settings.json {
        printer::json(&report)?;
    } else {
        print_table(&report, &all, &costs)?;
    }
    Ok(Status::Done)
}

/// One load is done; one prompt and one greedy decode follow.
fn measure(loaded: &Loaded, settings: &BenchSettings) -> anyhow::Result<Measured> {
    let BenchSettings { prompt_len, gen_len, depth, compute, .. } = settings;
    let mut sequence = loaded.sequence();
    let (needed, limit) = (depth + prompt_len + gen_len, sequence.context_len());
    if needed > limit {
        return Err(Error::from(ModelError::ContextOverflow { needed, limit }).into());
    }
    let ids = synthetic_ids(depth + prompt_len, sequence.vocab_size());
    let (before, prompt) = ids.split_at(*depth);
    for ids in before.chunks(compute.chunk) {
        sequence.extend(ids, 1)?;
    }
    let start = Instant::now();
    let mut next = 0;
    for ids in prompt.chunks(compute.chunk) {
        next = argmax(sequence.extend(ids, 1)?.row(0));
    }
    let ttft_ms = milliseconds_since(start);
    let start = Instant::now();
    for _ in 0..*gen_len {
        next = argmax(sequence.extend(&[next], 1)?.row(0));
    }
    let decode_ms = milliseconds_since(start);
    Ok(Measured {
        load_ms: loaded.load_ms,
        prefill_tok_s: rate(*prompt_len, ttft_ms),
        ttft_ms,
        decode_tok_s: rate(*gen_len, decode_ms),
    })
}

/// The time of one step of several rows, logits of all of them included.
#[derive(Debug, Clone, Copy, Serialize)]
struct RowCost {
    rows: usize,
    ms: Spread,
    /// The median beside that of one row.
    cost: f64,
}

/// Steps of each number of rows in turn, after `depth` tokens; each is undone before the next.
fn row_costs(loaded: &Loaded, settings: &BenchSettings) -> anyhow::Result<Vec<RowCost>> {
    /// Steps of each kind in one repetition.
    const STEPS: usize = 8;
    if settings.rows.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<usize> = std::iter::once(1).chain(settings.rows.iter().copied()).collect();
    let most = rows.iter().copied().max().unwrap_or(1);
    let mut sequence = loaded.sequence();
    let before = settings.depth + settings.prompt_len;
    let (needed, limit) = (before + most, sequence.context_len());
    if needed > limit {
        return Err(Error::from(ModelError::ContextOverflow { needed, limit }).into());
    }
    let ids = synthetic_ids(needed, sequence.vocab_size());
    for ids in ids[..before].chunks(settings.compute.chunk) {
        sequence.extend(ids, 1)?;
    }
    let mut times = vec![Vec::new(); rows.len()];
    // One round to warm up.
    for round in 0..=settings.reps * STEPS {
        for (&rows, times) in rows.iter().zip(&mut times) {
            let start = Instant::now();
            sequence.extend(&ids[before..before + rows], rows)?;
            if round > 0 {
                times.push(milliseconds_since(start));
            }
            sequence.truncate(before);
        }
    }
    let spreads: Vec<Spread> = times.into_iter().map(Spread::of).collect();
    let one = spreads[0].median;
    let cost = |(&rows, &ms): (&usize, &Spread)| RowCost { rows, ms, cost: ms.median / one };
    Ok(rows.iter().zip(&spreads).map(cost).collect())
}

fn report(settings: &BenchSettings, loaded: &Loaded, all: &[Measured]) -> Value {
    let spread = |of: fn(&Measured) -> f64| Spread::of(all.iter().map(of).collect());
    let decode = spread(|it| it.decode_tok_s);
    let peak_rss = memory::peak_rss();
    let bandwidth = 1e9 * roofline::read_bandwidth(settings.compute.threads);
    // Half of the generated tokens are in the cache on average.
    let cached = settings.depth + settings.prompt_len + settings.gen_len / 2;
    let bytes_per_token = loaded.decode_bytes + loaded.kv_bytes_per_token * cached as u64;
    json!({
        "model": loaded.label,
        "prompt_len": settings.prompt_len,
        "gen_len": settings.gen_len,
        "depth": settings.depth,
        "threads": settings.compute.threads,
        "reps": settings.reps,
        "prefill_tok_s": spread(|it| it.prefill_tok_s),
        "decode_tok_s": decode,
        "ttft_ms": spread(|it| it.ttft_ms),
        "load_ms": spread(|it| it.load_ms),
        "peak_rss_bytes": peak_rss,
        "weight_bytes": loaded.weight_bytes,
        "decode_bytes_per_token": bytes_per_token,
        "read_bandwidth_bytes_s": bandwidth,
        "fraction_of_bandwidth": decode.median * bytes_per_token as f64 / bandwidth,
    })
}

fn print_table(report: &Value, all: &[Measured], costs: &[RowCost]) -> anyhow::Result<()> {
    let spread = |of: fn(&Measured) -> f64| Spread::of(all.iter().map(of).collect());
    let size = |key: &str| report[key].as_u64().map_or("unknown".into(), printer::bytes);
    let number = |key: &str| report[key].as_f64().unwrap_or(0.0);
    let used = format!(
        "{:.0} % of {:.1} GB/s read bandwidth",
        100.0 * number("fraction_of_bandwidth"),
        number("read_bandwidth_bytes_s") / 1e9
    );
    let rows = [
        ("load", spread(|it| it.load_ms).show("ms")),
        ("prefill", spread(|it| it.prefill_tok_s).show("tok/s")),
        ("time to first token", spread(|it| it.ttft_ms).show("ms")),
        ("decode", spread(|it| it.decode_tok_s).show("tok/s")),
        ("decode reads", used),
        ("weights", size("weight_bytes")),
        ("peak memory", size("peak_rss_bytes")),
    ];
    let title = format!(
        "{}: {} + {} tokens at depth {}, {} threads, {} repetitions",
        report["model"].as_str().unwrap_or_default(),
        report["prompt_len"],
        report["gen_len"],
        report["depth"],
        report["threads"],
        report["reps"]
    );
    printer::note(&title);
    let mut rows = rows.map(|(name, value)| [name.to_string(), value]).to_vec();
    rows.extend(costs.iter().map(|it| {
        let name = format!("{} row{}", it.rows, if it.rows == 1 { "" } else { "s" });
        [name, format!("{}, {:.2} times one row", it.ms.show("ms"), it.cost)]
    }));
    printer::data(&printer::table(["", ""], &rows))?;
    Ok(())
}

/// Ids that are all over the vocabulary and the same on every machine.
fn synthetic_ids(count: usize, vocab_size: usize) -> Vec<u32> {
    (0..count)
        .map(|at| (at.wrapping_mul(7919).wrapping_add(13) % vocab_size.max(1)) as u32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        let spread = |values: &[f64]| Spread::of(values.to_vec());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(spread(&[4.0, 1.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(spread(&[7.0]), Spread { median: 7.0, min: 7.0, max: 7.0 });
    }

    #[test]
    fn synthetic_ids_stay_in_the_vocabulary() {
        assert!(synthetic_ids(1000, 17).into_iter().all(|it| it < 17));
    }
}
