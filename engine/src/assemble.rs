//! A model ready for use: decoder, tokenizer, chat template and defaults, out of its files.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    Result, arch,
    chat::ChatTemplate,
    load::{LoadOptions, load_decoder_with},
    model::Decoder,
    source::ModelFiles,
    tokens::{self, Tokenizer},
};

/// Everything that a command needs of a model.
#[derive(Debug)]
pub struct Model {
    /// The decoder.
    pub decoder: Arc<Decoder>,
    /// The tokenizer, where the files have one.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// The chat template, where the files have one.
    pub template: Option<ChatTemplate>,
    /// What generation_config.json asks for.
    pub generation: GenerationDefaults,
    /// What errors call it.
    pub origin: String,
}

/// Settings of generation_config.json; what it leaves open is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GenerationDefaults {
    /// Whether to draw rather than take the most probable token.
    pub do_sample: bool,
    /// Temperature.
    pub temperature: Option<f64>,
    /// Number of tokens kept; 0 keeps all.
    pub top_k: Option<usize>,
    /// Probability kept.
    pub top_p: Option<f64>,
    /// Least probability kept, relative to the best token.
    pub min_p: Option<f64>,
    /// Typical probability kept.
    pub typical_p: Option<f64>,
    /// Divides or multiplies logits of tokens seen before.
    pub repetition_penalty: Option<f64>,
    /// Tokens that end an answer.
    pub eos_ids: Vec<u32>,
}

impl GenerationDefaults {
    fn read(files: &ModelFiles, tokenizer: Option<&Tokenizer>) -> Self {
        let config = files.generation_config.as_ref();
        let number = |key: &str| config?.get(key)?.as_f64();
        Self {
            do_sample: config.and_then(|it| it.get("do_sample")?.as_bool()).unwrap_or(false),
            temperature: number("temperature"),
            top_k: config.and_then(|it| it.get("top_k")?.as_u64()).map(|it| it as usize),
            top_p: number("top_p"),
            min_p: number("min_p"),
            typical_p: number("typical_p"),
            repetition_penalty: number("repetition_penalty"),
            eos_ids: tokens::eos_ids(
                config,
                &files.config,
                files.tokenizer_config.as_ref(),
                tokenizer,
            ),
        }
    }
}

/// Tokenizer and chat template, without a look at the weights.
///
/// # Errors
/// Those of either file.
pub fn text_parts(files: &ModelFiles) -> Result<(Option<Arc<Tokenizer>>, Option<ChatTemplate>)> {
    let vocab_size = files.config.get("vocab_size").and_then(Value::as_u64).unwrap_or(0) as usize;
    let config = files.tokenizer_config.as_ref();
    let tokenizer = match &files.tokenizer {
        Some(json) => Some(Arc::new(Tokenizer::from_json(json, config, vocab_size)?)),
        None => None,
    };
    let special = |name: &str| config.and_then(|it| tokens::token_text(it.get(name)?));
    let template = match &files.chat_template {
        Some(source) => {
            let template = ChatTemplate::new(source, special("bos_token"), special("eos_token"))?;
            let control = tokenizer.as_ref().map(|it| it.control_tokens()).unwrap_or_default();
            Some(template.with_control_tokens(control))
        }
        None => None,
    };
    Ok((tokenizer, template))
}

/// Loads everything.
///
/// # Errors
/// Those of the parts.
pub fn load(files: &ModelFiles, options: LoadOptions) -> Result<Model> {
    // A model that can't run at all is told before its tokenizer is compared with it.
    arch::spec_from_config(&files.config)?;
    // A vocabulary takes as long to read as packed weights: one thread of its own, beside those that
    // the loader's loops run on.
    let (parts, decoder) = std::thread::scope(|scope| {
        let parts = scope.spawn(|| text_parts(files));
        let decoder = load_decoder_with(files, options);
        (parts.join(), decoder)
    });
    let (tokenizer, template) = parts.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok(Model {
        decoder: Arc::new(decoder?),
        generation: GenerationDefaults::read(files, tokenizer.as_deref()),
        tokenizer,
        template,
        origin: files.origin.clone(),
    })
}
