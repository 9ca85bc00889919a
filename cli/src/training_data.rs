//! The encoder of training data for a model that a user named.

use std::path::PathBuf;

use minicrit_engine::{assemble, chat::Isolation, source::ModelFiles, tokens};
use minicrit_lora::data::{EncodeOptions, Encoder};

use crate::model;

/// Tokenizer, chat template and ends of answers of a model, without a look at its weights. A
/// template that is not a known one runs in a process of its own.
///
/// # Errors
/// A model without a tokenizer, or with a broken one.
pub fn encoder(files: &ModelFiles, label: &str, options: EncodeOptions) -> anyhow::Result<Encoder> {
    let (tokenizer, template) = assemble::text_parts(files)?;
    let tokenizer = tokenizer.ok_or_else(|| model::no_tokenizer(label))?;
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("minicrit"));
    let template = template.map(|it| it.with_isolation(Isolation::Child { program }));
    let eos_ids = tokens::eos_ids(
        files.generation_config.as_ref(),
        &files.config,
        files.tokenizer_config.as_ref(),
        Some(&tokenizer),
    );
    Ok(Encoder::new(tokenizer, template, &eos_ids, options))
}
