//! Labels and text from the engine in this process.

use std::sync::Arc;

use minicrit_engine::{
    adapter::Adapter,
    assemble::Model,
    chat::{ChatTemplate, RenderOptions},
    dist::SamplingParams,
    language_model::{LanguageModel, common_prefix},
    score::log_probability,
    sequence::Sequence,
    session::{Event, GenerateOptions, Session},
    tokens::Tokenizer,
};

use super::{Backend, Prompt, Sampling};
use crate::{Error, Result};

/// Makes a fresh sequence: the caller knows chunk, context and cancelling.
pub type NewSequence = Box<dyn Fn() -> Sequence>;

/// A model in this process. What two questions share from their start is computed once.
pub struct LocalBackend {
    name: String,
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    options: RenderOptions,
    eos_ids: Vec<u32>,
    sequence: Sequence,
    new_sequence: NewSequence,
}

impl LocalBackend {
    /// A backend on `model`, whose chat template may have been given its isolation by the caller.
    ///
    /// # Errors
    /// [`Error::NoTokenizer`].
    pub fn new(
        name: &str,
        model: &Model,
        template: Option<ChatTemplate>,
        options: RenderOptions,
        new_sequence: NewSequence,
    ) -> Result<Self> {
        let tokenizer = model.tokenizer.clone();
        let tokenizer = tokenizer.ok_or_else(|| Error::NoTokenizer { model: name.to_owned() })?;
        Ok(Self {
            name: name.to_owned(),
            tokenizer,
            template,
            options,
            eos_ids: model.generation.eos_ids.clone(),
            sequence: new_sequence(),
            new_sequence,
        })
    }

    /// A backend with the engine's own settings.
    ///
    /// # Errors
    /// As [`LocalBackend::new`].
    pub fn simple(
        name: &str,
        model: &Model,
        adapter: Option<Arc<dyn Adapter>>,
        options: RenderOptions,
    ) -> Result<Self> {
        let decoder = Arc::clone(&model.decoder);
        let new = move || Sequence::new(Arc::clone(&decoder), adapter.clone());
        Self::new(name, model, model.template.clone(), options, Box::new(new))
    }

    /// The conversation with the answer opened; a model without a template gets plain text.
    fn question_ids(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        if let Some(template) = &self.template {
            let rendered = template
                .render(&prompt.messages, &self.options)
                .map_err(minicrit_engine::Error::from)?;
            return Ok(self.tokenizer.encode_rendered(&rendered).map_err(engine)?);
        }
        let turns: Vec<&str> = prompt.messages.iter().filter_map(|it| it.content()).collect();
        let text = format!("{}\n\n", turns.join("\n\n"));
        let begin = self.tokenizer.encode_raw("").map_err(engine)?;
        Ok([begin, self.tokenizer.encode_content(&text).map_err(engine)?].concat())
    }

    fn content_ids(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.tokenizer.encode_content(text).map_err(engine)?)
    }
}

fn engine(error: impl Into<minicrit_engine::Error>) -> minicrit_engine::Error {
    error.into()
}

impl Backend for LocalBackend {
    fn name(&self) -> &str {
        &self.name
    }

    /// One prefill of the prompt, then all labels in one pass behind it.
    fn label_scores(&mut self, prompt: &Prompt, labels: &[&str]) -> Result<Vec<f64>> {
        if labels.is_empty() {
            return Ok(Vec::new());
        }
        // Tokens may reach over the border of answer and label, so each is encoded as a whole.
        let answers: Vec<Vec<u32>> = labels
            .iter()
            .map(|it| self.content_ids(&format!("{}{it}", prompt.answer)))
            .collect::<Result<_>>()?;
        // What labels share is fed once; a label's own tokens are scored even where all share them.
        let begun = self.content_ids(&prompt.answer)?;
        let shared = answers
            .iter()
            .map(|it| common_prefix(&begun, it).min(it.len().saturating_sub(1)))
            .min()
            .unwrap_or(0);
        let mut ids = self.question_ids(prompt)?;
        ids.extend_from_slice(&answers[0][..shared]);
        let Some((&last, head)) = ids.split_last() else {
            return Err(engine(minicrit_engine::session::SessionError::EmptyPrompt).into());
        };
        let reused = common_prefix(self.sequence.tokens(), head);
        self.sequence.truncate(reused);
        self.sequence.extend(&head[reused..], 0)?;
        // The last token of a label predicts nothing that is asked for.
        let fed: Vec<Vec<u32>> =
            answers.iter().map(|it| [&[last], &it[shared..it.len() - 1]].concat()).collect();
        let mut scores = vec![0.0; labels.len()];
        self.sequence.branch(&fed, &mut |index, row, logits| {
            scores[index] += log_probability(logits, answers[index][shared + row]);
            Ok(())
        })?;
        Ok(scores)
    }

    fn generate(&mut self, prompt: &Prompt, sampling: &Sampling) -> Result<String> {
        let mut ids = self.question_ids(prompt)?;
        ids.extend(self.content_ids(&prompt.answer)?);
        let target = Box::new((self.new_sequence)());
        let mut session = Session::new(target, Arc::clone(self.tokenizer.vocabulary()), None)?;
        let options = GenerateOptions {
            max_tokens: Some(sampling.max_tokens),
            sampling: SamplingParams {
                temperature: sampling.temperature,
                seed: sampling.seed,
                ..SamplingParams::greedy()
            },
            stop: sampling.stop.clone(),
            eos_ids: self.eos_ids.clone(),
            ..GenerateOptions::default()
        };
        let mut text = String::new();
        for event in session.generate(&ids, &options)? {
            if let Event::Text { text: piece, thinking: false } = event? {
                text += &piece;
            }
        }
        Ok(text)
    }
}
