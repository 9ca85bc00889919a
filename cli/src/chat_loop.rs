//! The interactive chat: lines in, answers out.
//!
//! This file reads lines; [`lines`] says what a line means, [`chat`](mod@chat) does it.

mod chat;
mod lines;

use std::{borrow::Cow, path::PathBuf};

use reedline::{
    FileBackedHistory, Prompt, PromptEditMode, PromptHistorySearch, Reedline, Signal,
    ValidationResult, Validator,
};

use crate::{
    commands::{Status, banner},
    data_folder,
    env::Environment,
    printer,
    settings::{RunSettings, Talk},
};
use chat::{Chat, Flow};

/// Lines that the history keeps.
const HISTORY_LINES: usize = 1000;

/// Chats until Ctrl-D or /bye.
///
/// # Errors
/// Those of loading, and of the terminal. What goes wrong in a turn is told, and the chat goes on.
pub fn chat(settings: &RunSettings, environment: &Environment) -> anyhow::Result<Status> {
    let mut chat = Chat::open(settings.clone(), environment.clone())?;
    banner(settings);
    if settings.talk != Talk::Quiet {
        printer::dim_note("Send a message (/help for commands, Ctrl-D to leave)");
    }
    let mut editor = editor(data_folder::history_file(environment))?;
    loop {
        match editor.read_line(&Marks)? {
            Signal::Success(line) if chat.take(&line)? == Flow::Leave => return Ok(Status::Done),
            Signal::CtrlD => return Ok(Status::Done),
            Signal::CtrlC => printer::dim_note("Ctrl-D or /bye leaves"),
            _ => {}
        }
    }
}

fn editor(history: Option<PathBuf>) -> anyhow::Result<Reedline> {
    let editor = Reedline::create().with_validator(Box::new(TripleQuotes));
    Ok(match history {
        Some(file) => {
            let history = FileBackedHistory::with_file(HISTORY_LINES, file)?;
            editor.with_history(Box::new(history))
        }
        None => editor,
    })
}

/// A line that opens `"""` goes on until the line that closes it.
struct TripleQuotes;

impl Validator for TripleQuotes {
    fn validate(&self, line: &str) -> ValidationResult {
        match lines::is_open(line) {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Complete,
        }
    }
}

/// What stands in front of a line.
struct Marks;

impl Prompt for Marks {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed(">>> ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("... ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Owned(format!("(search: {}) ", search.term))
    }
}
