//! Which stretches of a rendered conversation are the assistant's.
//!
//! Two ways to find out, without a change to any chat template. A conversation is rendered whole
//! and once more up to each answer: where the shorter text is the start of the longer one, the
//! answer begins at its end. Templates that change earlier turns afterwards (Qwen3 removes old
//! reasoning) break that; then the answer is replaced by a word that occurs nowhere else, and what
//! stands in front of that word and behind it frames the answer. Where neither frame fits, the row
//! is refused: a mask is never guessed.

use std::ops::Range;

use minicrit_engine::chat::{ChatError, ChatTemplate, Message, RenderOptions, Rendered};

use super::{
    problem::{Finding, Findings, Rule},
    rows::Turn,
};

/// An answer in a rendered text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// Its bytes, with the token that ends the turn.
    pub bytes: Range<usize>,
    /// How much it counts.
    pub weight: f32,
    /// Whether the template wrote a token that ends the turn.
    pub ended: bool,
}

/// Renders turns by a chat template and finds the trained ones.
pub(super) struct Masker<'a> {
    /// The template with its control tokens.
    pub template: &'a ChatTemplate,
    /// The same without: it renders once instead of twice, and only the text counts.
    pub plain: &'a ChatTemplate,
    /// Day and variables; tools come with each row.
    pub options: RenderOptions,
    /// Texts of the tokens that end an answer.
    pub ends: &'a [String],
}

impl Masker<'_> {
    /// The rendered turns and their trained answers, in order.
    pub fn mask(
        &self,
        turns: &[Turn],
        findings: &mut Findings,
    ) -> Result<(Rendered, Vec<Answer>), Finding> {
        let messages: Vec<Message> = turns.iter().map(|it| it.message.clone()).collect();
        let at = turns.first().map_or(0, |it| it.offset);
        let options = RenderOptions { add_generation_prompt: false, ..self.options.clone() };
        let whole = self.template.render(&messages, &options).map_err(|it| refused(&it, at))?;
        let mut answers: Vec<Answer> = Vec::new();
        for (index, turn) in turns.iter().enumerate().filter(|(_, it)| it.is_trained()) {
            let from = answers.last().map_or(0, |it| it.bytes.end);
            let bytes = self.answer(&messages, index, &whole, turn.offset, findings)?;
            if bytes.start < from || bytes.is_empty() {
                return Err(unclear(turn.offset, index));
            }
            let (end, ended) = end_of_turn(&whole, &bytes, self.ends);
            answers.push(Answer { bytes: bytes.start..end, weight: turn.weight, ended });
        }
        Ok((whole, answers))
    }

    /// From the answer's first byte to whatever the template writes behind it.
    fn answer(
        &self,
        messages: &[Message],
        index: usize,
        whole: &Rendered,
        offset: usize,
        findings: &mut Findings,
    ) -> Result<Range<usize>, Finding> {
        let text = whole.text();
        let opening =
            self.text(&messages[..index], true).filter(|it| text.starts_with(it.as_str()));
        let closing = match index + 1 == messages.len() {
            true => Some(text.len()),
            false => {
                let closing = self.text(&messages[..=index], false);
                closing.filter(|it| text.starts_with(it.as_str())).map(|it| it.len())
            }
        };
        if let (Some(opening), Some(end)) = (&opening, closing) {
            return Ok(opening.len()..end.max(opening.len()));
        }
        let frame = self.frame(messages, index, text).ok_or_else(|| unclear(offset, index))?;
        let start = match &opening {
            Some(opening) => opening.len(),
            None => {
                let what = format!(
                    "the template opens answer {} otherwise than where a model runs",
                    index + 1
                );
                if index > 0 {
                    findings.warning(Rule::OpeningDiffers, offset, what);
                }
                frame.start.ok_or_else(|| unclear(offset, index))?
            }
        };
        let end = closing.or(frame.end).filter(|end| *end >= start);
        Ok(start..end.ok_or_else(|| unclear(offset, index))?)
    }

    /// What stands in front of an answer and behind it, found by a word in its place.
    fn frame(&self, messages: &[Message], index: usize, text: &str) -> Option<Frame> {
        let word = (0..).map(|it| format!("qzanswer{it}qz")).find(|it| !text.contains(it))?;
        let mut replaced = messages.to_vec();
        replaced[index] = Message::new(messages[index].role(), word.as_str());
        let framed = self.text(&replaced, false)?;
        let (before, behind) = framed.split_once(&word)?;
        // A template that repeats the answer elsewhere has no one place for it.
        if behind.contains(&word) {
            return None;
        }
        let start = text.starts_with(before).then_some(before.len());
        let end = text.ends_with(behind).then(|| text.len() - behind.len());
        Some(Frame { start, end })
    }

    fn text(&self, messages: &[Message], add_generation_prompt: bool) -> Option<String> {
        let options = RenderOptions { add_generation_prompt, ..self.options.clone() };
        self.plain.render(messages, &options).ok().map(|it| it.text().to_owned())
    }
}

struct Frame {
    start: Option<usize>,
    end: Option<usize>,
}

/// Where an answer ends: behind the token that ends the turn, in front of the line break that some
/// templates write after it.
fn end_of_turn(whole: &Rendered, bytes: &Range<usize>, ends: &[String]) -> (usize, bool) {
    let text = whole.text();
    let spans = whole.control_spans();
    // The last token of the stretch, if nothing but white space follows it.
    let inside = spans.iter().rfind(|it| bytes.start <= it.start && it.end <= bytes.end);
    if let Some(last) = inside
        && text[last.end..bytes.end].trim().is_empty()
    {
        return (last.end, true);
    }
    // The frame of an answer leaves its end outside.
    let behind = spans.iter().find(|it| it.start >= bytes.end);
    if let Some(next) = behind {
        let between = &text[bytes.end..next.start];
        let known = ends.iter().any(|it| *it == text[next.clone()]);
        if between.is_empty() || (known && between.trim().is_empty()) {
            return (next.end, true);
        }
    }
    (bytes.end, false)
}

fn refused(error: &ChatError, offset: usize) -> Finding {
    Finding::error(Rule::TemplateRefused, offset, error.to_string())
}

fn unclear(offset: usize, index: usize) -> Finding {
    let what = format!(
        "turn {} can't be found in what the chat template makes of this conversation",
        index + 1
    );
    Finding::error(Rule::MaskUnclear, offset, what)
}
