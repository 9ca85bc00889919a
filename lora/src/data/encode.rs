//! Rows to token ids and weights.

use std::{ops::Range, sync::Arc};

use jiff::civil::{Date, date};
use minicrit_engine::{
    chat::{ChatTemplate, Message, RenderOptions, Rendered},
    tokens::{Tokenizer, TokensError},
};
use serde_json::{Map, Value as Json};

use super::{
    LabelledExample, PreferenceExample, SupervisedExample,
    mask::{Answer, Masker},
    problem::{Finding, Findings, Rule, quoted},
    rows::{Body, Row, Turn},
};

/// The day that templates are told in training. It does not change, so that the same data gives
/// the same ids tomorrow.
pub const TRAINING_DAY: Date = date(2024, 7, 26);

/// How texts become ids.
#[derive(Debug, Clone)]
pub struct EncodeOptions {
    /// Most ids of a sequence; longer ones lose their end, and that is told.
    pub max_seq_len: usize,
    /// Whether `prompt` and `completion` texts are turns of the chat template (where the model has
    /// one). Otherwise one follows the other as plain text.
    pub plain_as_chat: bool,
    /// Further variables of the template, such as `enable_thinking`.
    pub kwargs: Map<String, Json>,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self { max_seq_len: usize::MAX, plain_as_chat: true, kwargs: Map::new() }
    }
}

/// Turns rows into examples for one model.
#[derive(Debug)]
pub struct Encoder {
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    /// The template without control tokens: its renders are texts only.
    plain_template: Option<ChatTemplate>,
    eos_id: Option<u32>,
    end_texts: Vec<String>,
    controls: Vec<String>,
    options: EncodeOptions,
}

/// What a row became.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Encoded {
    Supervised(SupervisedExample),
    Preference(PreferenceExample),
    Labelled(LabelledExample),
}

impl Encoder {
    /// An encoder. The template (with its control tokens and its isolation) and the ids that end
    /// an answer are those of the model.
    pub fn new(
        tokenizer: Arc<Tokenizer>,
        template: Option<ChatTemplate>,
        eos_ids: &[u32],
        options: EncodeOptions,
    ) -> Self {
        let text = |id: &u32| tokenizer.token(*id).map(str::to_owned);
        let plain_template = template.clone().map(|it| it.with_control_tokens(Vec::new()));
        let controls = tokenizer.control_tokens();
        Self {
            end_texts: eos_ids.iter().filter_map(text).collect(),
            eos_id: eos_ids.first().copied(),
            plain_template,
            template,
            controls,
            options,
            tokenizer,
        }
    }

    /// Whether conversations can be rendered.
    pub fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// Texts of the tokenizer's control tokens.
    pub(super) fn control_texts(&self) -> &[String] {
        &self.controls
    }

    /// Ids and weights of a row.
    pub(super) fn encode(&self, row: &Row, line: u64, findings: &mut Findings) -> Option<Encoded> {
        let mut sequence = |body: &Body| {
            let made = self.sequence(body, line, findings);
            made.map_err(|it| findings.0.push(it)).ok()
        };
        match row {
            Row::Supervised(body) => Some(Encoded::Supervised(sequence(body)?)),
            Row::Labelled { answer, desirable } => {
                let answer = sequence(answer)?;
                let prompt_len = prompt_len(&answer);
                Some(Encoded::Labelled(LabelledExample {
                    answer,
                    prompt_len,
                    desirable: *desirable,
                }))
            }
            Row::Preference { chosen, rejected } => {
                let (chosen, rejected) = (sequence(chosen), sequence(rejected));
                let (chosen, rejected) = (chosen?, rejected?);
                let shared = chosen.ids.iter().zip(&rejected.ids).take_while(|(a, b)| a == b);
                let prompt_len = shared.count().min(prompt_len(&chosen)).min(prompt_len(&rejected));
                Some(Encoded::Preference(PreferenceExample { chosen, rejected, prompt_len }))
            }
        }
    }

    fn sequence(
        &self,
        body: &Body,
        line: u64,
        findings: &mut Findings,
    ) -> Result<SupervisedExample, Finding> {
        let (pieces, offset) = match body {
            Body::Dialog { turns, tools } => {
                let at = turns.first().map_or(0, |it| it.offset);
                (self.dialog(turns, tools.as_ref(), at, findings)?, at)
            }
            Body::Plain { prompt, completion, offset } => {
                if self.template.is_some() && self.options.plain_as_chat {
                    let turn = |role, text: &String, weight| Turn {
                        message: Message::new(role, text.as_str()),
                        weight,
                        offset: *offset,
                    };
                    let turns = [turn("user", prompt, 0.0), turn("assistant", completion, 1.0)];
                    (self.dialog(&turns, None, *offset, findings)?, *offset)
                } else {
                    let text = format!("{prompt}{completion}");
                    (self.text(&text, prompt.len(), *offset)?, *offset)
                }
            }
            Body::Text { text, trained_from, offset } => {
                (self.text(text, *trained_from, *offset)?, *offset)
            }
        };
        self.fit(pieces, line, offset, findings)
    }

    /// A conversation by the template.
    fn dialog(
        &self,
        turns: &[Turn],
        tools: Option<&Json>,
        offset: usize,
        findings: &mut Findings,
    ) -> Result<Weighted, Finding> {
        let (Some(template), Some(plain)) = (&self.template, &self.plain_template) else {
            let what = "this model has no chat template for a conversation";
            return Err(Finding::error(Rule::TemplateRefused, offset, what));
        };
        let mut options = RenderOptions::on(TRAINING_DAY);
        options.kwargs = self.options.kwargs.clone();
        options.tools = tools.cloned();
        let masker = Masker { template, plain, options, ends: &self.end_texts };
        let (rendered, answers) = masker.mask(turns, findings)?;
        let mut weighted = self.tokens(&rendered, &answers, offset)?;
        if let Some(last) = answers.last().filter(|it| !it.ended) {
            let what = "the chat template writes no token that ends the answer";
            findings.warning(Rule::NoEndOfTurn, offset, what);
            if let Some(id) = self.eos_id
                && last.bytes.end == rendered.text().trim_end().len()
            {
                weighted.push(&[id], last.weight);
            }
        }
        Ok(weighted)
    }

    /// A text as it is, with what the model puts in front of every text and its end.
    fn text(&self, text: &str, trained_from: usize, offset: usize) -> Result<Weighted, Finding> {
        let failed = |it: TokensError| Finding::error(Rule::Encoding, offset, it.to_string());
        let mut front = self.tokenizer.encode_raw("").map_err(failed)?;
        while front.last().is_some_and(|it| Some(*it) == self.eos_id) && front.len() > 1 {
            front.pop();
        }
        if front.last() == self.eos_id.as_ref() {
            front.clear();
        }
        let mut weighted = Weighted::default();
        weighted.push(&front, 0.0);
        let ids = self.tokenizer.encode_content(text).map_err(failed)?;
        let cuts = [0..trained_from, trained_from..text.len()];
        let encode = |range: Range<usize>| self.tokenizer.encode_content(&text[range]);
        for (index, ids) in self.cut(ids, &cuts, encode).map_err(failed)?.into_iter().enumerate() {
            weighted.push(&ids, if index == 0 { 0.0 } else { 1.0 });
        }
        if let Some(id) = self.eos_id {
            weighted.push(&[id], 1.0);
        }
        Ok(weighted)
    }

    /// The ids of a rendered conversation, cut where answers begin and end.
    fn tokens(
        &self,
        rendered: &Rendered,
        answers: &[Answer],
        offset: usize,
    ) -> Result<Weighted, Finding> {
        let failed = |it: TokensError| Finding::error(Rule::Encoding, offset, it.to_string());
        let (mut cuts, mut weights, mut end) = (Vec::new(), Vec::new(), 0);
        for answer in answers {
            cuts.extend([end..answer.bytes.start, answer.bytes.clone()]);
            weights.extend([0.0, answer.weight]);
            end = answer.bytes.end;
        }
        cuts.push(end..rendered.text().len());
        weights.push(0.0);
        let ids = self.tokenizer.encode_rendered(rendered).map_err(failed)?;
        let encode = |range: Range<usize>| self.tokenizer.encode_rendered(&rendered.slice(range));
        let mut weighted = Weighted::default();
        for (ids, weight) in self.cut(ids, &cuts, encode).map_err(failed)?.iter().zip(weights) {
            weighted.push(ids, weight);
        }
        Ok(weighted)
    }

    /// Ids of consecutive parts of a text whose ids as a whole are `whole`.
    ///
    /// Each part is encoded by itself: a model that runs has read exactly the prompt's ids when it
    /// begins to answer, so no token may reach across that border. Tokenizers that put a space in
    /// front of every text can't be used on a part; for them a token belongs to the part that it
    /// ends in.
    fn cut(
        &self,
        whole: Vec<u32>,
        parts: &[Range<usize>],
        encode: impl Fn(Range<usize>) -> Result<Vec<u32>, TokensError>,
    ) -> Result<Vec<Vec<u32>>, TokensError> {
        let apart: Vec<Vec<u32>> =
            parts.iter().map(|it| encode(it.clone())).collect::<Result<_, _>>()?;
        let joined = apart.concat();
        if joined == whole || self.tokenizer.decode(&joined) == self.tokenizer.decode(&whole) {
            return Ok(apart);
        }
        let mut cut = Vec::with_capacity(parts.len());
        let mut start = 0;
        for part in parts {
            let upto = encode(0..part.end)?;
            let shared = upto.iter().zip(&whole).take_while(|(a, b)| a == b).count();
            let is_last = part.end == parts.last().map_or(0, |it| it.end);
            let end = if is_last { whole.len() } else { shared.max(start) };
            cut.push(whole[start..end].to_vec());
            start = end;
        }
        Ok(cut)
    }

    /// Cuts what is too long, and says so.
    fn fit(
        &self,
        mut made: Weighted,
        line: u64,
        offset: usize,
        findings: &mut Findings,
    ) -> Result<SupervisedExample, Finding> {
        let most = self.options.max_seq_len;
        if made.ids.len() > most {
            let what = format!(
                "{} tokens, {} more than the limit of {most}: the end is cut off",
                made.ids.len(),
                made.ids.len() - most
            );
            findings.warning(Rule::TooLong, offset, what);
            made.ids.truncate(most);
            made.weights.truncate(most);
        }
        // Nothing predicts the first token.
        if let Some(first) = made.weights.first_mut() {
            *first = 0.0;
        }
        if made.weights.iter().all(|it| *it == 0.0) {
            let what = "no token is left that could be trained";
            return Err(Finding::error(Rule::NothingTrained, offset, what));
        }
        Ok(SupervisedExample { ids: made.ids, weights: made.weights, line })
    }
}

/// Control tokens that stand in contents as text: each is told once for each content.
pub(super) fn control_tokens_in(row: &Row, controls: &[String], findings: &mut Findings) {
    for body in row.bodies() {
        for (text, offset) in body.contents() {
            let found = controls.iter().find(|it| is_marker(it) && text.contains(it.as_str()));
            if let Some(token) = found
                && !findings.0.iter().any(|it| it.rule == Rule::ControlToken && it.offset == offset)
            {
                let what = format!("{} stands in the text, where it is no token", quoted(token));
                findings.warning(Rule::ControlToken, offset, what);
            }
        }
    }
}

/// Some tokenizers keep spaces or single letters as added tokens: these are no sign of anything.
fn is_marker(token: &str) -> bool {
    token.len() > 2 && token.chars().any(|it| !it.is_alphanumeric() && !it.is_whitespace())
}

/// Ids in front of the first trained one.
fn prompt_len(example: &SupervisedExample) -> usize {
    example.weights.iter().take_while(|it| **it == 0.0).count()
}

#[derive(Debug, Default)]
struct Weighted {
    ids: Vec<u32>,
    weights: Vec<f32>,
}

impl Weighted {
    fn push(&mut self, ids: &[u32], weight: f32) {
        self.ids.extend_from_slice(ids);
        self.weights.resize(self.ids.len(), weight);
    }
}
