//! The files of a finished run.

use std::path::Path;

use minicrit_engine::source::ModelFiles;
use serde_json::{Value, json};

use super::{
    Best, Plan, card,
    checkpoint::{write_file, write_folder},
    plot,
    receipt::{RECEIPT_FILE, Receipt},
};
use crate::{
    LoraError, Result,
    peft::{self, AdapterConfig, CONFIG_FILE, TENSORS_FILE},
    trainer::Trainer,
};

/// Weights of a whole model.
pub(super) const MODEL_FILE: &str = "model.safetensors";
/// The best result so far.
const BEST_FOLDER: &str = "best";

/// What is written.
pub enum Form {
    /// An adapter in PEFT's format.
    Adapter(Box<AdapterConfig>),
    /// A whole model in Hugging Face's format; all but the weights is taken from these files.
    Model(Box<ModelFiles>),
}

/// Name of the file that holds the trained tensors.
pub fn weights_file(trainer: &Trainer) -> &'static str {
    if trainer.learner.lora.is_some() { TENSORS_FILE } else { MODEL_FILE }
}

/// Writes the trained tensors and what is needed to load them into `folder`.
///
/// # Errors
/// Files that can't be written.
pub fn write_weights(folder: &Path, form: &Form, trainer: &Trainer) -> Result<()> {
    let tensors: Vec<_> =
        trainer.learner.params().iter().map(|it| (it.name.clone(), it.tensor().clone())).collect();
    write_file(&folder.join(weights_file(trainer)), &peft::safetensors_bytes(&tensors)?)?;
    match form {
        Form::Adapter(config) => {
            write_file(&folder.join(CONFIG_FILE), peft::config_json(config).as_bytes())
        }
        Form::Model(files) => write_model_files(folder, files),
    }
}

fn write_model_files(folder: &Path, files: &ModelFiles) -> Result<()> {
    let mut config = files.config.clone();
    if let Value::Object(map) = &mut config {
        // The weights are written in float32, whatever they were read from.
        map.remove("torch_dtype");
        map.insert("dtype".into(), json!("float32"));
    }
    let json = |name: &str, value: &Value| {
        let text = serde_json::to_vec_pretty(value).unwrap_or_default();
        write_file(&folder.join(name), &text)
    };
    if let Some(bytes) = &files.tokenizer {
        write_file(&folder.join("tokenizer.json"), bytes)?;
    }
    if let Some(value) = &files.tokenizer_config {
        json("tokenizer_config.json", value)?;
    }
    if let Some(value) = &files.generation_config {
        json("generation_config.json", value)?;
    }
    if let Some(template) = &files.chat_template {
        write_file(&folder.join("chat_template.jinja"), template.as_bytes())?;
    }
    json("config.json", &config)
}

/// Writes the best result so far below `output`.
///
/// # Errors
/// Files that can't be written.
pub fn write_best(output: &Path, form: &Form, trainer: &Trainer) -> Result<()> {
    write_folder(&output.join(BEST_FOLDER), |folder| write_weights(folder, form, trainer))
}

/// Writes the result into `output`: the last parameters, or the best ones where `best` says so.
///
/// # Errors
/// Files that can't be written.
pub fn write(output: &Path, form: &Form, trainer: &Trainer, best: Option<Best>) -> Result<()> {
    if best.is_none() {
        return write_weights(output, form, trainer);
    }
    let folder = output.join(BEST_FOLDER);
    let entries = std::fs::read_dir(&folder).map_err(|it| LoraError::file("read", &folder, it))?;
    for entry in entries {
        let path = entry.map_err(|it| LoraError::file("read", &folder, it))?.path();
        let bytes = std::fs::read(&path).map_err(|it| LoraError::file("read", &path, it))?;
        if let Some(name) = path.file_name() {
            write_file(&output.join(name), &bytes)?;
        }
    }
    Ok(())
}

/// Writes what people and other tools read beside the weights.
///
/// # Errors
/// Files that can't be written.
pub fn write_reports(
    output: &Path,
    form: &Form,
    receipt: &Receipt,
    history: &[Value],
    plan: &Plan,
) -> Result<()> {
    let is_adapter = matches!(form, Form::Adapter(_));
    let state = json!({
        "best_metric": receipt.best_eval_loss,
        "epoch": history.iter().rev().find_map(|it| it["epoch"].as_f64()),
        "global_step": receipt.steps,
        "is_local_process_zero": true,
        "is_world_process_zero": true,
        "log_history": history,
        "max_steps": plan.total_steps,
    });
    let text = serde_json::to_vec_pretty(&state).unwrap_or_default();
    write_file(&output.join("trainer_state.json"), &text)?;
    write_file(&output.join("training_loss.svg"), plot::loss_curve(history).as_bytes())?;
    write_file(&output.join("README.md"), card::model_card(receipt, is_adapter).as_bytes())?;
    let text = serde_json::to_vec_pretty(receipt).unwrap_or_default();
    write_file(&output.join(RECEIPT_FILE), &text)
}
