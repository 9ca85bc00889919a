//! `minicrit run`: one answer, or a chat.

use std::io::Read;

use minicrit_engine::{chat::Message, session::GenerateOptions, session::Session};

use super::Status;
use crate::{
    answer::{self, Answer},
    chat_loop,
    env::Environment,
    errors::Failure,
    model::{Loaded, ModelRef},
    printer::{self, AnswerPrinter},
    prompt::{self, Conversation, Prompt},
    settings::{Input, Output, RunSettings, Talk},
};

/// The longest prompt that is read from standard input.
const MOST_STDIN_BYTES: u64 = 64 << 20;

/// What the model is asked, before it has a tokenizer to ask it with.
#[derive(Debug)]
enum Question {
    Ids(Vec<u32>),
    Text(String),
    Conversation(Conversation),
}

/// Answers, or chats.
///
/// # Errors
/// Those of the files, the model and the stream.
pub fn run(settings: &RunSettings, environment: &Environment) -> anyhow::Result<Status> {
    if settings.input == Input::Chat {
        return chat_loop::chat(settings, environment);
    }
    // A mistake in a small file is told before a large one is loaded.
    let question = read(settings)?;
    let loaded = Loaded::open(&settings.model, &settings.compute)?;
    banner(settings);
    let prompt = encode(&question, &loaded, settings)?;
    let mut session = answer::session(&loaded, &settings.drafting, &settings.compute)?;
    let defaults = &loaded.model.generation;
    let mut options = answer::options(&settings.sampling, defaults, settings.draft_tokens);
    options.thinking = prompt.thinking;
    if settings.talk != Talk::Quiet
        && let Some(word) = answer::idle_filters(&settings.sampling, &options)
    {
        printer::note(&format!("note: {word}"));
    }
    let answer = give(settings, &mut session, &prompt.ids, &options, loaded.load_ms)?;
    Ok(if answer.was_interrupted() { Status::Interrupted } else { Status::Done })
}

/// Generates and prints in the form that is wanted.
fn give(
    settings: &RunSettings,
    session: &mut Session,
    ids: &[u32],
    options: &GenerateOptions,
    load_ms: f64,
) -> anyhow::Result<Answer> {
    let mut printer = AnswerPrinter::new();
    let answer = match settings.output {
        Output::Stream => answer::generate(session, ids, options, load_ms, |text, thinking| {
            printer.piece(text, thinking)
        })?,
        Output::Json | Output::Whole => {
            answer::generate(session, ids, options, load_ms, |_, _| Ok(()))?
        }
    };
    match settings.output {
        Output::Json => printer::json(&answer.to_json())?,
        Output::Whole => {
            printer.piece(&answer.thinking, true)?;
            printer.piece(&answer.text, false)?;
            printer.finish()?;
        }
        Output::Stream => printer.finish()?,
    }
    tell_figures(settings, &answer);
    Ok(answer)
}

/// The line or block of figures after an answer.
pub fn tell_figures(settings: &RunSettings, answer: &Answer) {
    match settings.talk {
        Talk::Verbose => printer::note(&answer.details()),
        Talk::Short if printer::stdout_is_terminal() && printer::stderr_is_terminal() => {
            printer::dim_note(&answer.summary());
        }
        Talk::Short | Talk::Quiet => {}
    }
}

/// Says what the built-in model is, so that nobody takes it for more.
pub fn banner(settings: &RunSettings) {
    let wanted = settings.talk != Talk::Quiet && settings.output != Output::Json;
    if wanted && settings.model == ModelRef::Builtin && printer::stderr_is_terminal() {
        printer::dim_note(
            "nano: a small demonstration model, built in; for real work pass a model folder or GGUF file",
        );
    }
}

fn read(settings: &RunSettings) -> anyhow::Result<Question> {
    Ok(match &settings.input {
        Input::Ids(file) => Question::Ids(prompt::ids(file)?),
        Input::Messages(file) => Question::Conversation(Conversation::read(file)?),
        Input::Prompt(text) => Question::Text(text.clone()),
        Input::Stdin | Input::Chat => Question::Text(stdin(settings.raw)?),
    })
}

/// All of standard input. In front of a chat template the newline that ends a piped text is no part
/// of the message.
fn stdin(raw: bool) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(MOST_STDIN_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_STDIN_BYTES {
        let message = format!("standard input has more than {MOST_STDIN_BYTES} bytes");
        return Err(Failure::failed("prompt-too-large", message).into());
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::failed("bad-text", format!("standard input is not UTF-8 at byte {at}"))
    })?;
    if !raw && text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err(Failure::usage("no-prompt", "there is no prompt: standard input is empty")
            .hint("minicrit run MODEL \"your prompt\"")
            .into());
    }
    Ok(text)
}

fn encode(question: &Question, loaded: &Loaded, settings: &RunSettings) -> anyhow::Result<Prompt> {
    let template = loaded.model.template.as_ref();
    let conversation = match question {
        Question::Ids(ids) => {
            return Ok(Prompt::of_ids(ids.clone(), loaded.model.tokenizer.as_deref()));
        }
        Question::Conversation(conversation) => conversation.clone(),
        Question::Text(text) => {
            let plain =
                template.is_none() && settings.system.is_none() && settings.opening.is_empty();
            if plain && !settings.raw && settings.talk != Talk::Quiet {
                printer::note(
                    "note: this model has no chat template: the prompt is continued as it stands",
                );
            }
            if settings.raw {
                return Prompt::raw(text, loaded.tokenizer()?);
            }
            if plain {
                return Prompt::plain(text, loaded.tokenizer()?);
            }
            let system = settings.system.iter().map(|it| Message::new("system", it.as_str()));
            let opening = settings.opening.iter().cloned();
            let user = Message::new("user", text.as_str());
            let messages = system.chain(opening).chain([user]).collect();
            Conversation { messages, tools: None }
        }
    };
    conversation.encode(template, loaded.tokenizer()?)
}
