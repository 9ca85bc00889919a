//! A chat template and what it renders to.

use std::{ops::Range, path::PathBuf};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    ChatError, Message, child, environment, known,
    provenance::{self, Written},
};

/// Longest template source; real ones have up to 12 KiB.
const MAX_SOURCE: usize = 128 << 10;

/// Where a template may run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Known templates run here, others are refused.
    #[default]
    KnownOnly,
    /// Known templates run here, others in a child process: `program render-template`, which must
    /// call [`super::render_child`].
    Child {
        /// The program, as a rule the running one.
        program: PathBuf,
    },
    /// Every template runs here. Only for templates that are trusted: one of a few lines can use up
    /// all memory, which ends the process.
    InProcess,
}

/// What a render needs besides messages.
#[derive(Debug, Clone)]
pub struct RenderOptions {
    /// Tools as JSON schemas; `None` is Python's `None`.
    pub tools: Option<Value>,
    /// Whether to open the assistant's turn.
    pub add_generation_prompt: bool,
    /// Further variables, such as `enable_thinking`.
    pub kwargs: Map<String, Value>,
    /// The day that `strftime_now` tells (at midnight).
    pub today: Date,
}

impl RenderOptions {
    /// Opens the assistant's turn, without tools or further variables.
    pub fn on(today: Date) -> Self {
        Self { tools: None, add_generation_prompt: true, kwargs: Map::new(), today }
    }
}

/// A chat template with the tokens it may write.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
    control_tokens: Vec<String>,
    isolation: Isolation,
}

/// A rendered conversation. The spans are the control tokens that the template wrote; any other
/// control token's string in the text is plain text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendered {
    text: String,
    control_spans: Vec<Range<usize>>,
}

impl Rendered {
    /// The text, as transformers renders it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Byte ranges of the text that are control tokens; in order, without overlaps.
    pub fn control_spans(&self) -> &[Range<usize>] {
        &self.control_spans
    }

    /// A part of the text with the control tokens that lie wholly inside of it; `range` must not
    /// cut a character.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        let inside = |span: &&Range<usize>| range.start <= span.start && span.end <= range.end;
        let moved = |span: &Range<usize>| span.start - range.start..span.end - range.start;
        let control_spans = self.control_spans.iter().filter(inside).map(moved).collect();
        Self { text: self.text[range.clone()].to_owned(), control_spans }
    }

    /// Whether the ranges are ranges of the text.
    pub(super) fn is_sound(&self) -> bool {
        let mut last = 0;
        self.control_spans.iter().all(|span| {
            let ordered = last <= span.start && span.start < span.end;
            last = span.end;
            ordered && self.text.get(span.clone()).is_some()
        })
    }
}

impl ChatTemplate {
    /// A template's source and the text of the model's first and last token, where it has them.
    ///
    /// # Errors
    /// [`ChatError::Invalid`] if the source is longer than any honest one. Its syntax is only
    /// looked at by [`ChatTemplate::render`].
    pub fn new(
        source: &str,
        bos_token: Option<&str>,
        eos_token: Option<&str>,
    ) -> Result<Self, ChatError> {
        if source.len() > MAX_SOURCE {
            let what = format!("it has {} bytes, more than {MAX_SOURCE}", source.len());
            return Err(ChatError::Invalid { what, line: None });
        }
        Ok(Self {
            source: environment::without_generation_tags(source),
            bos_token: bos_token.map(str::to_owned),
            eos_token: eos_token.map(str::to_owned),
            control_tokens: Vec::new(),
            isolation: Isolation::default(),
        })
    }

    /// The tokenizer's control tokens. Without them a [`Rendered`] has no control tokens at all.
    #[must_use]
    pub fn with_control_tokens(mut self, tokens: Vec<String>) -> Self {
        self.control_tokens = tokens;
        self
    }

    /// Where the template may run; [`Isolation::KnownOnly`] unless told otherwise.
    #[must_use]
    pub fn with_isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// The source, without generation tags.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Messages to text.
    ///
    /// # Errors
    /// [`ChatError::Refused`] with the template's own words, or that the template is broken or
    /// costs too much.
    pub fn render(
        &self,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<Rendered, ChatError> {
        let request = self.request(&self.readable(messages)?, options);
        match &self.isolation {
            Isolation::InProcess => request.render(),
            _ if known::contains(&self.source) => request.render(),
            Isolation::Child { program } => child::render(program, &request),
            Isolation::KnownOnly => Err(ChatError::Untrusted),
        }
    }

    /// The messages in the form that this template reads: most know a content that is one text.
    fn readable(&self, messages: &[Message]) -> Result<Vec<Message>, ChatError> {
        if self.loops_over_content() {
            return Ok(messages.to_vec());
        }
        let joined = |(index, message): (usize, &Message)| {
            message.with_joined_parts().map_err(|kind| {
                ChatError::Messages(format!(
                    "message {index} has a part of type `{kind}`, but this model reads text alone"
                ))
            })
        };
        messages.iter().enumerate().map(joined).collect()
    }

    /// Whether the source has a loop over the parts of a content.
    fn loops_over_content(&self) -> bool {
        self.source.split("{%").skip(1).any(|tag| {
            let tag = tag.split("%}").next().unwrap_or_default();
            let tag = tag.trim_start_matches(['-', '+']).trim_start();
            tag.strip_prefix("for ")
                .and_then(|it| it.split_once(" in "))
                .is_some_and(|(_, list)| list.contains("content"))
        })
    }

    fn request(&self, messages: &[Message], options: &RenderOptions) -> Request {
        let mut context = Map::new();
        let messages = messages.iter().map(|it| Value::Object(it.fields().clone())).collect();
        context.insert("messages".into(), Value::Array(messages));
        context.insert("tools".into(), options.tools.clone().unwrap_or(Value::Null));
        context.insert("documents".into(), Value::Null);
        context.insert("add_generation_prompt".into(), options.add_generation_prompt.into());
        let mut variables = Vec::new();
        for (name, token) in [("bos_token", &self.bos_token), ("eos_token", &self.eos_token)] {
            if let Some(token) = token {
                variables.push(name.to_owned());
                context.insert(name.into(), token.clone().into());
            }
        }
        variables.retain(|it| !options.kwargs.contains_key(it));
        context.extend(options.kwargs.clone());
        Request {
            source: self.source.clone(),
            context,
            variables,
            control_tokens: self.control_tokens.clone(),
            today: options.today,
        }
    }
}

/// Everything that one render needs; what a child process gets to read.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    source: String,
    context: Map<String, Value>,
    /// Names in `context` whose values are the template's own tokens.
    variables: Vec<String>,
    control_tokens: Vec<String>,
    #[serde(with = "iso_date")]
    today: Date,
}

/// A date as `2026-11-20`.
mod iso_date {
    use jiff::civil::Date;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(date: &Date, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(date)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Date, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Request {
    /// Renders here and now.
    pub(super) fn render(&self) -> Result<Rendered, ChatError> {
        let text = environment::render(&self.source, &self.context, self.today)?;
        let mut texts = vec![self.source.clone()];
        for name in &self.variables {
            texts.push(
                self.context.get(name).and_then(Value::as_str).unwrap_or_default().to_owned(),
            );
        }
        let mut inputs: Vec<&str> = vec![&self.source, &text];
        inputs.extend(self.control_tokens.iter().map(String::as_str));
        for (key, value) in &self.context {
            inputs.push(key);
            collect_texts(value, &mut inputs);
        }
        let control_spans = provenance::control_spans(
            &Written { texts },
            &inputs,
            &self.control_tokens,
            &text,
            |written| {
                let mut context = self.context.clone();
                for (name, value) in self.variables.iter().zip(&written.texts[1..]) {
                    context.insert(name.clone(), value.clone().into());
                }
                environment::render(&written.texts[0], &context, self.today)
            },
        );
        Ok(Rendered { text, control_spans })
    }
}

fn collect_texts<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|it| collect_texts(it, texts)),
        Value::Object(fields) => {
            for (key, value) in fields {
                texts.push(key);
                collect_texts(value, texts);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
