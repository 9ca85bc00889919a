//! `minicrit finetune`: trains an adapter, or a whole model.

mod before;
mod build;
mod sampled;
mod watch;

use std::path::Path;

use minicrit_lora::{
    run::{Identity, Outcome, Plan, Run, newest, read_receipt},
    trainer::{Order, ReferenceLogProbs, Trainer, TrainingSettings},
};
use serde_json::json;

use self::{build::Built, watch::Watcher};
use super::Status;
use crate::{
    env::Environment,
    errors::Failure,
    journal, printer,
    settings::{Before, FinetuneSettings, Length},
    signals,
};

/// Trains, or does what was asked for instead.
///
/// # Errors
/// Those of the model, the data, the adapter, the checkpoint, and of the training itself.
pub fn finetune(settings: &FinetuneSettings, environment: &Environment) -> anyhow::Result<Status> {
    let drawn;
    let settings = match &settings.rejection {
        Some(rejection) => match sampled::sampled(settings, rejection)? {
            Some(settings) => {
                drawn = settings;
                &drawn
            }
            None => return Ok(Status::Interrupted),
        },
        None => settings,
    };
    let mut built = build::build(settings)?;
    if let Before::Explain(count) = settings.before {
        return before::explain(&built, count);
    }
    let plan = plan(settings, &built)?;
    let seed = settings.shuffle.then_some(settings.seed);
    let epochs = match settings.length {
        Length::Epochs(epochs) => Some(epochs),
        Length::Steps(_) => None,
    };
    let order = Order::new(std::mem::take(&mut built.units), seed, epochs);
    if settings.before == Before::DryRun {
        return before::dry_run(settings, built, &plan, order);
    }
    train(settings, built, plan, order, environment)
}

/// Steps and when what happens.
fn plan(settings: &FinetuneSettings, built: &Built) -> anyhow::Result<Plan> {
    let per_step = (settings.batch_size * settings.grad_accum) as u64;
    let units = built.units.len() as u64;
    let total_steps = match settings.length {
        Length::Steps(steps) => steps,
        Length::Epochs(epochs) => (units * epochs).div_ceil(per_step),
    };
    let course = &settings.course;
    if course.patience.is_some() && built.valid.is_none() {
        let message = "there is nothing to evaluate on: `--patience`";
        return Err(Failure::usage("usage", message).hint("pass --valid or --valid-split").into());
    }
    let epoch = units.div_ceil(per_step).max(1);
    Ok(Plan {
        total_steps,
        steps_per_epoch: units as f64 / per_step as f64,
        save_every: course.save_every,
        eval_every: built.valid.as_ref().map(|_| course.eval_every.unwrap_or(epoch)),
        patience: course.patience,
        keep: course.keep,
    })
}

/// How to train, once the number of steps is known.
fn training_settings(settings: &FinetuneSettings, plan: &Plan) -> TrainingSettings {
    let optimizer = &settings.optimizer;
    let warmup = optimizer.warmup.unwrap_or(plan.total_steps.div_ceil(20));
    TrainingSettings {
        method: settings.method,
        batch_size: settings.batch_size,
        grad_accum: settings.grad_accum,
        schedule: minicrit_lora::schedule::Schedule {
            peak: optimizer.peak,
            decay: optimizer.decay,
            warmup,
            total: plan.total_steps,
            floor: optimizer.floor,
        },
        optimizer: optimizer.method,
        clip: optimizer.clip,
        seed: settings.seed,
        dropout: optimizer.dropout,
    }
}

fn train(
    settings: &FinetuneSettings,
    built: Built,
    plan: Plan,
    order: Order,
    environment: &Environment,
) -> anyhow::Result<Status> {
    let Built { learner, data, valid, form, mut identity, notes, .. } = built;
    notes.iter().for_each(|it| printer::note(it));
    let training = training_settings(settings, &plan);
    let Plan { eval_every, patience, .. } = plan;
    identity.set("settings", format!("{training:?} {eval_every:?} {patience:?}"));
    identity.set("shuffle", settings.shuffle);
    // The first Ctrl-C ends the step and saves; the second one ends the program.
    let answering = signals::Answering::begin();
    let references =
        |data, name| reference(settings, &learner, data, (&identity, name), &answering);
    let Some(reference_log_probs) = references(&data, "train")? else {
        return Ok(Status::Interrupted);
    };
    let valid = match valid {
        Some(data) => match references(&data, "valid")? {
            Some(log_probs) => Some((data, log_probs)),
            None => return Ok(Status::Interrupted),
        },
        None => None,
    };
    let trainer = Trainer::new(learner, training, data, order, reference_log_probs);
    let parts = (form, identity, plan);
    let mut run = Run::open(trainer, parts, &settings.output, valid, settings.course.resume)?;
    if settings.course.resume {
        printer::note(&format!("goes on after step {}", run.trainer.steps_done()));
    }
    let before = evaluate(settings, &run)?;
    let mut watcher = Watcher::new(&plan, run.trainer.steps_done(), &answering);
    let outcome = run.train(&mut watcher);
    watcher.finish();
    let outcome = outcome?;
    let (steps, early) = match outcome {
        Outcome::Finished { steps, early } => (steps, early),
        Outcome::Interrupted { .. } => {
            printer::note(&format!("go on with: {}", resume_command()));
            return Ok(Status::Interrupted);
        }
    };
    let after = evaluate(settings, &run)?;
    if let (Some(before), Some(after)) = (before, after) {
        printer::note(&format!("loss of the evaluation: {before:.4} before, {after:.4} after"));
    }
    let output = settings.output.display().to_string();
    journal::note_if_failed(remember(settings, steps, environment));
    if settings.json {
        printer::json(&json!({
            "output": output,
            "steps": steps,
            "early": early,
            "first_loss": watcher.first_loss,
            "final_loss": watcher.last_loss,
            "eval_loss_before": before,
            "eval_loss_after": after,
            "best_eval_loss": run.best.map(|it| it.loss),
            "tok_s": watcher.mean_tok_s(),
            "peak_rss_bytes": crate::memory::peak_rss(),
        }))?;
    } else {
        printer::data(&output)?;
    }
    Ok(Status::Done)
}

/// Writes down what was trained, by the hashes of its receipt.
fn remember(
    settings: &FinetuneSettings,
    steps: u64,
    environment: &Environment,
) -> anyhow::Result<()> {
    let receipt = read_receipt(&settings.output)?;
    let parameters = receipt.as_ref().map(|it| it.parameters.as_str());
    let part = |name: &str| receipt.as_ref().and_then(|it| it.made_of.get(name));
    let fields = json!({
        "base": part("base"), "base_weights": part("base_weights"), "data": part("data"),
        "method": part("method"), "steps": steps, "parameters": parameters,
    });
    journal::record(environment, "train", fields)
}

fn evaluate(settings: &FinetuneSettings, run: &Run) -> anyhow::Result<Option<f64>> {
    match &run.valid {
        Some((data, reference)) if settings.course.eval_before_after => {
            Ok(Some(run.trainer.evaluate(data, reference)?.loss))
        }
        _ => Ok(None),
    }
}

/// Log-probabilities under the reference: those that an earlier run left beside its checkpoints, or
/// computed now. `None` where Ctrl-C came.
fn reference(
    settings: &FinetuneSettings,
    learner: &minicrit_lora::trainer::Learner,
    data: &minicrit_lora::trainer::TrainingData,
    (identity, name): (&Identity, &str),
    answering: &signals::Answering,
) -> anyhow::Result<Option<ReferenceLogProbs>> {
    if !settings.method.needs_reference() {
        return Ok(Some(ReferenceLogProbs::default()));
    }
    let key = build::reference_key(identity, data);
    let path = settings.output.join(format!("reference_{name}.bin"));
    if let Some(found) = build::read_reference(&path, &key, data.len()) {
        return Ok(Some(found));
    }
    if settings.course.resume && newest_exists(&settings.output) && learner.lora.is_none() {
        let message = "the log-probabilities of the reference are gone";
        return Err(Failure::failed("bad-resume", message)
            .hint("train into a new --output")
            .into());
    }
    let _progress = printer::Progress::start("log-probabilities of the reference".into());
    let batch_size = settings.batch_size;
    let mut go_on = |_done: usize| !answering.interrupted();
    let found = ReferenceLogProbs::compute(learner, data, batch_size, &mut go_on)?;
    if let Some(found) = &found {
        build::write_reference(&path, &key, found)?;
    }
    Ok(found)
}

fn newest_exists(output: &Path) -> bool {
    newest(output).is_ok_and(|it| it.is_some())
}

/// The command that was typed, with `--resume`.
fn resume_command() -> String {
    let quoted = |it: String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+".contains(c);
        if !it.is_empty() && it.chars().all(plain) {
            it
        } else {
            format!("'{}'", it.replace('\'', "'\\''"))
        }
    };
    let mut words: Vec<String> = std::env::args().skip(1).map(quoted).collect();
    if !words.iter().any(|it| it == "--resume") {
        words.push("--resume".into());
    }
    format!("minicrit {}", words.join(" "))
}
