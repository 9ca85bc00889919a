//! What can be seen before training: examples with their mask, and what a run would take.

use std::time::Instant;

use anstyle::{AnsiColor, Style};
use minicrit_engine::assemble;
use minicrit_lora::trainer::{Order, ReferenceLogProbs, Trainer};
use serde_json::json;

use super::{Built, Plan, training_settings};
use crate::{commands::Status, memory, model, printer, settings::FinetuneSettings};

const TRAINED: Style = AnsiColor::Green.on_default().bold();
const GIVEN: Style = Style::new().dimmed();

/// Prints the first `count` examples: what carries loss is green, or stands in ⟦ ⟧ where there are
/// no colours.
///
/// # Errors
/// A model without tokenizer; that of the stream.
pub fn explain(built: &Built, count: usize) -> anyhow::Result<Status> {
    let (tokenizer, _) = assemble::text_parts(&built.files)?;
    let tokenizer = tokenizer.ok_or_else(|| model::no_tokenizer(&built.files.origin))?;
    let colour = printer::stdout_is_terminal();
    for example in 0..count.min(built.data.len()) {
        for sequence in built.data.sequences(&[example]) {
            let trained = sequence.weights.iter().filter(|it| **it != 0.0).count();
            printer::data(&format!(
                "line {}: {} tokens, {trained} trained",
                sequence.line,
                sequence.ids.len()
            ))?;
            let mut text = String::new();
            let mut start = 0;
            while start < sequence.ids.len() {
                let on = sequence.weights[start] != 0.0;
                let same = sequence.weights[start..].iter().take_while(|it| (**it != 0.0) == on);
                let end = start + same.count();
                let piece = printer::clean(&tokenizer.decode(&sequence.ids[start..end]));
                match (colour, on) {
                    (true, true) => text.push_str(&format!("{TRAINED}{piece}{TRAINED:#}")),
                    (true, false) => text.push_str(&format!("{GIVEN}{piece}{GIVEN:#}")),
                    (false, true) => text.push_str(&format!("⟦{piece}⟧")),
                    (false, false) => text.push_str(&piece),
                }
                start = end;
            }
            printer::data(&text)?;
            printer::data("")?;
        }
    }
    Ok(Status::Done)
}

/// Does two steps in memory, one of them the largest, and says what all of them would take.
///
/// # Errors
/// Those of the steps.
pub fn dry_run(
    settings: &FinetuneSettings,
    built: Built,
    plan: &Plan,
    mut order: Order,
) -> anyhow::Result<Status> {
    let Built { learner, data, valid, notes, weight_bytes, .. } = built;
    notes.iter().for_each(|it| printer::note(it));
    let per_step = settings.batch_size * settings.grad_accum;
    let tokens_of = |units: &[Vec<usize>]| -> usize {
        data.sequences(&units.concat()).iter().map(|it| it.ids.len()).sum()
    };
    let (mut total, mut largest, mut largest_step) = (0usize, 0, 0);
    for step in 0..plan.total_steps {
        let units = order.units(step * per_step as u64, per_step);
        total += tokens_of(&units);
        let pass = units.chunks(settings.batch_size).map(tokens_of).max().unwrap_or(0);
        if pass > largest {
            (largest, largest_step) = (pass, step);
        }
    }
    let trained: usize = learner.params().iter().map(|it| it.len()).sum();
    let (examples, epoch_tokens, carrying) = (data.len(), data.num_tokens(), data.weight());
    let reference = match settings.method.needs_reference() {
        true => ReferenceLogProbs::zeros(&data),
        false => ReferenceLogProbs::default(),
    };
    let training = training_settings(settings, plan);
    let mut trainer = Trainer::new(learner, training, data, order, reference);
    let moments = trainer.moments().to_vec();
    let (mut seconds, mut tokens) = (0.0, 0);
    // The first step also pays for pages that were never touched.
    for step in [largest_step, 0, plan.total_steps / 2] {
        trainer.restore(step, moments.clone())?;
        let start = Instant::now();
        let report = trainer.step()?;
        if step != largest_step || plan.total_steps == 1 {
            seconds += start.elapsed().as_secs_f64();
            tokens += report.tokens;
        }
    }
    let per_token = seconds / tokens.max(1) as f64;
    // A pass without gradients costs about a third of one with them.
    let forward_tokens = match settings.method.needs_reference() {
        true => epoch_tokens,
        false => 0,
    } + valid.as_ref().map_or(0, |it| it.num_tokens())
        * plan.eval_every.map_or(0, |it| (plan.total_steps / it) as usize);
    let estimate = per_token * (total as f64 + forward_tokens as f64 / 3.0);
    let peak = memory::peak_rss().unwrap_or(0);
    if settings.json {
        printer::json(&json!({
            "examples": examples,
            "steps": plan.total_steps,
            "epoch_tokens": epoch_tokens,
            "trained_tokens": carrying,
            "tokens": total,
            "parameters": trained,
            "weight_bytes": weight_bytes,
            "peak_rss_bytes": peak,
            "seconds": estimate,
            "tok_s": 1.0 / per_token.max(1e-12),
        }))?;
        return Ok(Status::Done);
    }
    let rows = [
        ["examples".to_string(), examples.to_string()],
        ["tokens of an epoch".into(), format!("{epoch_tokens}, {carrying} of them trained")],
        ["steps".into(), plan.total_steps.to_string()],
        ["tokens of the run".into(), total.to_string()],
        ["trained parameters".into(), trained.to_string()],
        ["weights".into(), printer::bytes(weight_bytes)],
        ["memory (peak)".into(), printer::bytes(peak)],
        ["time".into(), duration(estimate)],
        ["speed".into(), format!("{:.0} tok/s", 1.0 / per_token.max(1e-12))],
    ];
    printer::data(&printer::table(["", ""], &rows))?;
    Ok(Status::Done)
}

fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}
