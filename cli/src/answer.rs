//! One answer: options from flags and the model's defaults, events into text and figures.

use std::time::Instant;

use minicrit_engine::{
    assemble::GenerationDefaults,
    dist::SamplingParams,
    draft::{Drafter, ModelDrafter, NgramDrafter},
    session::{self, Event, FinishReason, Finished, GenerateOptions, Session},
    tokens::{TokenKind, Vocabulary},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    errors::Failure,
    memory,
    model::{Loaded, milliseconds_since},
    printer,
    settings::{Compute, Drafting, Sampling},
    signals::Answering,
};

/// The finish reason of an answer that Ctrl-C ended.
const INTERRUPTED: &str = "interrupted";

/// The engine's options: flags win over the model's defaults, those over greedy.
pub fn options(
    flags: &Sampling,
    model: &GenerationDefaults,
    draft_tokens: usize,
) -> GenerateOptions {
    let greedy = SamplingParams::greedy();
    let base = match model.do_sample {
        false => greedy.clone(),
        true => SamplingParams {
            temperature: model.temperature.unwrap_or(1.0),
            top_k: model.top_k.unwrap_or(greedy.top_k),
            top_p: model.top_p.unwrap_or(greedy.top_p),
            min_p: model.min_p.unwrap_or(greedy.min_p),
            typical_p: model.typical_p.unwrap_or(greedy.typical_p),
            ..greedy.clone()
        },
    };
    // The penalty is no matter of chance: transformers applies it to greedy decoding too.
    let repetition_penalty = model.repetition_penalty.unwrap_or(greedy.repetition_penalty);
    GenerateOptions {
        sampling: SamplingParams {
            temperature: flags.temperature.unwrap_or(base.temperature),
            top_k: flags.top_k.unwrap_or(base.top_k),
            top_p: flags.top_p.unwrap_or(base.top_p),
            min_p: flags.min_p.unwrap_or(base.min_p),
            typical_p: flags.typical_p.unwrap_or(base.typical_p),
            repetition_penalty: flags.repeat_penalty.unwrap_or(repetition_penalty),
            presence_penalty: flags.presence_penalty.unwrap_or(base.presence_penalty),
            frequency_penalty: flags.frequency_penalty.unwrap_or(base.frequency_penalty),
            no_repeat_ngram: base.no_repeat_ngram,
            seed: flags.seed,
        },
        max_tokens: flags.max_tokens,
        stop: flags.stop.clone(),
        eos_ids: model.eos_ids.clone(),
        ignore_eos: flags.ignore_eos,
        draft_len: draft_tokens,
        logprobs: false,
        thinking: false,
    }
}

/// A word to the user whose filters do nothing, because without a temperature the most probable
/// token is taken.
pub fn idle_filters(flags: &Sampling, options: &GenerateOptions) -> Option<String> {
    if options.sampling.temperature > 0.0 {
        return None;
    }
    let given = [
        ("--top-k", flags.top_k.is_some()),
        ("--top-p", flags.top_p.is_some()),
        ("--min-p", flags.min_p.is_some()),
        ("--typical-p", flags.typical_p.is_some()),
    ];
    let idle: Vec<&str> = given.into_iter().filter(|it| it.1).map(|it| it.0).collect();
    if idle.is_empty() {
        return None;
    }
    Some(format!("greedy decoding ignores {}: add --temperature", idle.join(", ")))
}

/// A session in front of `loaded`, with the drafter that the user wants.
///
/// # Errors
/// Those of loading the draft model.
pub fn session(loaded: &Loaded, drafting: &Drafting, compute: &Compute) -> anyhow::Result<Session> {
    let drafter: Option<Box<dyn Drafter>> = match drafting {
        Drafting::Off => None,
        Drafting::Ngram => Some(Box::new(NgramDrafter::default())),
        Drafting::Model(model) => {
            // It may be made for another context than the one asked for.
            let compute = Compute { context: None, adapter: None, ..compute.clone() };
            let draft =
                Loaded::open(model, &compute).map_err(|error| error.context("the draft model"))?;
            check_tokenizers(&loaded.vocabulary(), &draft.vocabulary())?;
            Some(Box::new(ModelDrafter::new(Box::new(draft.sequence()))))
        }
    };
    Ok(Session::new(Box::new(loaded.sequence()), loaded.vocabulary(), drafter)?)
}

/// Drafts of a model that means other text by its ids would be wrong each time, and slow.
fn check_tokenizers(target: &Vocabulary, draft: &Vocabulary) -> Result<(), Failure> {
    let both = target.len().min(draft.len()) as u32;
    let used = |it: &Vocabulary, id| it.kind(id) != TokenKind::Unused;
    let differs =
        |&id: &u32| used(target, id) && used(draft, id) && target.bytes(id) != draft.bytes(id);
    match (0..both).find(differs) {
        None => Ok(()),
        Some(id) => {
            let text = |it: &Vocabulary| String::from_utf8_lossy(it.bytes(id)).into_owned();
            let message = format!(
                "the draft model has another tokenizer: token {id} is {:?}, not {:?}",
                text(draft),
                text(target)
            );
            let failure = Failure::failed("draft-mismatch", message);
            Err(failure.hint("take a smaller model of the same family, or --draft ngram"))
        }
    }
}

/// Times and rates of one answer.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[allow(missing_docs)]
pub struct Timings {
    pub load_ms: f64,
    pub prompt_ms: f64,
    pub ttft_ms: f64,
    pub decode_ms: f64,
    pub prompt_tok_s: f64,
    pub decode_tok_s: f64,
}

/// One answer and its figures.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The answer without thinking.
    pub text: String,
    /// What the model thought, without its marks.
    pub thinking: String,
    /// Every token that was generated.
    pub token_ids: Vec<u32>,
    /// The prompt.
    pub prompt_token_ids: Vec<u32>,
    /// `stop`, `length` or `interrupted`.
    pub finish_reason: &'static str,
    /// Prompt tokens that the cache held already.
    pub reused_tokens: usize,
    /// Times and rates.
    pub timings: Timings,
    /// Tokens that a drafter proposed.
    pub drafted: usize,
    /// Those that the model agreed with.
    pub accepted: usize,
}

impl Answer {
    /// Whether Ctrl-C ended it.
    pub fn was_interrupted(&self) -> bool {
        self.finish_reason == INTERRUPTED
    }

    /// The machine form.
    pub fn to_json(&self) -> Value {
        let (prompt, completion) = (self.prompt_token_ids.len(), self.token_ids.len());
        let mut value = json!({
            "text": self.text,
            "token_ids": self.token_ids,
            "prompt_token_ids": self.prompt_token_ids,
            "finish_reason": self.finish_reason,
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            },
            "timings": self.timings,
            "speculation": { "drafted": self.drafted, "accepted": self.accepted },
        });
        if !self.thinking.is_empty() {
            value["thinking"] = self.thinking.clone().into();
        }
        value
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let Timings { ttft_ms, prompt_tok_s, decode_tok_s, .. } = self.timings;
        let mut parts = vec![
            format!("{} tokens", self.token_ids.len()),
            format!("{decode_tok_s:.1} tok/s"),
            format!("prompt {prompt_tok_s:.0} tok/s"),
            format!("ttft {}", printer::milliseconds(ttft_ms)),
        ];
        if let Some(peak) = memory::peak_rss() {
            parts.push(format!("peak {}", printer::bytes(peak)));
        }
        if self.drafted > 0 {
            parts.push(format!("drafts {}/{} accepted", self.accepted, self.drafted));
        }
        parts.join(" · ")
    }

    /// A block for people who want to know.
    pub fn details(&self) -> String {
        let Timings { load_ms, prompt_ms, ttft_ms, decode_ms, prompt_tok_s, decode_tok_s } =
            self.timings;
        let mut rows = vec![
            ["finished by".into(), self.finish_reason.into()],
            ["load".into(), printer::milliseconds(load_ms)],
            [
                "prompt".into(),
                format!(
                    "{} tokens ({} from the cache), {}, {prompt_tok_s:.1} tok/s",
                    self.prompt_token_ids.len(),
                    self.reused_tokens,
                    printer::milliseconds(prompt_ms)
                ),
            ],
            ["time to first token".into(), printer::milliseconds(ttft_ms)],
            [
                "answer".into(),
                format!(
                    "{} tokens, {}, {decode_tok_s:.1} tok/s",
                    self.token_ids.len(),
                    printer::milliseconds(decode_ms)
                ),
            ],
        ];
        if self.drafted > 0 {
            let share = 100.0 * self.accepted as f64 / self.drafted as f64;
            let text = format!("{} of {} accepted ({share:.0} %)", self.accepted, self.drafted);
            rows.push(["drafts".into(), text]);
        }
        if let Some(peak) = memory::peak_rss() {
            rows.push(["peak memory".into(), printer::bytes(peak)]);
        }
        printer::table(["", ""], &rows)
    }
}

/// Generates one answer; `on_text` gets each piece and whether it is thinking. Ctrl-C ends it early.
///
/// # Errors
/// Those of the engine and of `on_text`.
pub fn generate(
    session: &mut Session,
    prompt_ids: &[u32],
    options: &GenerateOptions,
    load_ms: f64,
    mut on_text: impl FnMut(&str, bool) -> std::io::Result<()>,
) -> anyhow::Result<Answer> {
    let answering = Answering::begin();
    let start = Instant::now();
    let mut first_token_ms = None;
    let (mut text, mut thinking, mut token_ids) = (String::new(), String::new(), Vec::new());
    let mut finished: Option<Finished> = None;
    for event in session.generate(prompt_ids, options)? {
        // A prefill that Ctrl-C called off is an answer without a word, not a failure.
        if event.is_err() && answering.interrupted() {
            break;
        }
        match event? {
            Event::Token { id, .. } => {
                first_token_ms.get_or_insert_with(|| milliseconds_since(start));
                token_ids.push(id);
            }
            Event::Text { text: piece, thinking: is_thought } => {
                if is_thought { &mut thinking } else { &mut text }.push_str(&piece);
                on_text(&piece, is_thought)?;
            }
            Event::Done(it) => finished = Some(it),
        }
        if finished.is_none() && answering.interrupted() {
            break;
        }
    }
    let finished = finished.unwrap_or_else(|| {
        let ttft_ms = first_token_ms.unwrap_or_else(|| milliseconds_since(start));
        cut_short(prompt_ids.len(), token_ids.len(), start, ttft_ms)
    });
    let session::Timings { prompt_ms, ttft_ms, decode_ms } = finished.timings;
    let computed = prompt_ids.len().saturating_sub(finished.reused_tokens);
    Ok(Answer {
        text,
        thinking,
        prompt_token_ids: prompt_ids.to_vec(),
        finish_reason: match answering.interrupted() {
            true => INTERRUPTED,
            false => finished.reason.as_str(),
        },
        reused_tokens: finished.reused_tokens,
        timings: Timings {
            load_ms,
            prompt_ms,
            ttft_ms,
            decode_ms,
            prompt_tok_s: rate(computed, prompt_ms),
            decode_tok_s: rate(token_ids.len().saturating_sub(1), decode_ms),
        },
        drafted: finished.speculation.drafted,
        accepted: finished.speculation.accepted,
        token_ids,
    })
}

/// What the engine can't say of an answer that Ctrl-C ended.
fn cut_short(prompt_tokens: usize, generated: usize, start: Instant, ttft_ms: f64) -> Finished {
    Finished {
        reason: FinishReason::Length,
        prompt_tokens,
        reused_tokens: 0,
        generated_tokens: generated,
        speculation: session::Speculation::default(),
        timings: session::Timings {
            prompt_ms: ttft_ms,
            ttft_ms,
            decode_ms: milliseconds_since(start) - ttft_ms,
        },
    }
}

/// Things per second; 0 where there was nothing to time.
pub fn rate(count: usize, milliseconds: f64) -> f64 {
    if count == 0 || milliseconds <= 0.0 { 0.0 } else { count as f64 * 1000.0 / milliseconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> Sampling {
        Sampling {
            temperature: None,
            top_k: None,
            top_p: None,
            min_p: None,
            typical_p: None,
            repeat_penalty: None,
            presence_penalty: None,
            frequency_penalty: None,
            seed: 5,
            max_tokens: Some(9),
            stop: Vec::new(),
            ignore_eos: false,
        }
    }

    #[test]
    fn flags_win_over_the_model_and_the_model_over_greedy() {
        let model = GenerationDefaults {
            do_sample: true,
            temperature: Some(0.7),
            top_k: Some(20),
            repetition_penalty: Some(1.1),
            ..GenerationDefaults::default()
        };
        let set = Sampling { temperature: Some(0.2), ..flags() };
        let sampling = options(&set, &model, 4).sampling;
        assert_eq!((sampling.temperature, sampling.top_k, sampling.top_p), (0.2, 20, 1.0));
        assert_eq!((sampling.repetition_penalty, sampling.seed), (1.1, 5));

        let quiet = GenerationDefaults { do_sample: false, ..model };
        let sampling = options(&flags(), &quiet, 4).sampling;
        assert_eq!((sampling.temperature, sampling.top_k), (0.0, 0));
    }

    #[test]
    fn filters_without_a_temperature_are_pointed_out() {
        let model = GenerationDefaults::default();
        let set = Sampling { top_p: Some(0.9), ..flags() };
        let word = idle_filters(&set, &options(&set, &model, 4));
        assert!(word.is_some_and(|it| it.contains("--top-p")));
        let warm = Sampling { temperature: Some(1.0), ..set };
        assert_eq!(idle_filters(&warm, &options(&warm, &model, 4)), None);
    }

    #[test]
    fn a_draft_must_mean_the_same_by_its_ids() {
        let table = |tokens: &[&str]| {
            let entry = |it: &&str| (it.as_bytes().to_vec(), TokenKind::Text);
            Vocabulary::new(tokens.iter().map(entry).collect(), false)
        };
        assert!(check_tokenizers(&table(&["a", "b"]), &table(&["a", "b", "c"])).is_ok());
        let failure = check_tokenizers(&table(&["a", "b"]), &table(&["a", "x"]));
        assert!(failure.is_err_and(|it| it.message.contains("token 1")));
    }

    #[test]
    fn nothing_timed_is_no_rate() {
        assert_eq!((rate(0, 5.0), rate(5, 0.0), rate(10, 1000.0)), (0.0, 0.0, 10.0));
    }
}
