//! Texts to measure or to calibrate on: a JSONL file, or a built-in passage.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use minicrit_engine::{
    arch, assemble,
    chat::{ChatTemplate, Message},
    source::ModelFiles,
    tokens::Tokenizer,
};
use serde_json::Value;

use crate::{
    errors::{self, Failure},
    model,
    prompt::{Conversation, Prompt},
};

/// Longest piece of a text, in tokens: longer ones are cut and measured piece by piece.
const PIECE: usize = 512;

/// Longest line that is read.
const MOST_LINE_BYTES: u64 = 16 << 20;

/// Most problems that are listed.
const MOST_LISTED: usize = 20;

const BUILTIN: &str = include_str!("builtin_text.txt");

/// Token ids of texts.
#[derive(Debug, Clone)]
pub struct Texts {
    /// What to call them.
    pub origin: String,
    /// Pieces of at most 512 tokens.
    pub ids: Vec<Vec<u32>>,
}

impl Texts {
    /// Number of all tokens.
    pub fn tokens(&self) -> usize {
        self.ids.iter().map(Vec::len).sum()
    }
}

/// Reads `path`, lines of `{"text": ...}` or `{"messages": [...]}`, or the built-in passage.
///
/// # Errors
/// An unreadable file, every line that is of neither form, or a model without a tokenizer.
pub fn read(path: Option<&Path>, files: &ModelFiles) -> anyhow::Result<Texts> {
    let (tokenizer, template) = assemble::text_parts(files)?;
    let tokenizer = tokenizer.ok_or_else(|| model::no_tokenizer(&files.origin))?;
    let (origin, texts) = match path {
        Some(path) => (path.display().to_string(), lines(path, &tokenizer, template.as_ref())?),
        None => {
            let passages = BUILTIN.split("\n\n").map(str::trim).filter(|it| !it.is_empty());
            let ids = passages.map(|it| Ok(Prompt::plain(it, &tokenizer)?.ids));
            ("built-in text".to_owned(), ids.collect::<anyhow::Result<Vec<_>>>()?)
        }
    };
    let piece = PIECE.min(arch::spec_from_config(&files.config)?.max_tokens()).max(2);
    let cut = |ids: &Vec<u32>| ids.chunks(piece).map(<[u32]>::to_vec).collect::<Vec<_>>();
    let ids: Vec<Vec<u32>> = texts.iter().flat_map(cut).filter(|it| it.len() > 1).collect();
    if ids.is_empty() {
        let message = format!("there are no texts of two tokens or more in `{origin}`");
        return Err(Failure::failed("bad-data", message)
            .hint("give lines of {\"text\": \"...\"} or {\"messages\": [...]}")
            .into());
    }
    Ok(Texts { origin, ids })
}

fn lines(
    path: &Path,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
) -> anyhow::Result<Vec<Vec<u32>>> {
    let unreadable = |error: std::io::Error| errors::file("read", path, &error);
    let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
    let (mut texts, mut problems, mut wrong) = (Vec::new(), Vec::new(), 0);
    for number in 1.. {
        let mut line = Vec::new();
        reader
            .by_ref()
            .take(MOST_LINE_BYTES + 1)
            .read_until(b'\n', &mut line)
            .map_err(unreadable)?;
        if line.is_empty() {
            break;
        }
        if line.len() as u64 > MOST_LINE_BYTES {
            let message = format!(
                "line {number} has more than {MOST_LINE_BYTES} bytes: `{}`",
                path.display()
            );
            return Err(Failure::failed("bad-data", message).into());
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match one(&line, tokenizer, template) {
            Ok(ids) => texts.push(ids),
            Err(problem) => {
                wrong += 1;
                if problems.len() < MOST_LISTED {
                    problems.push(format!("\n  line {number}: {problem}"));
                }
            }
        }
    }
    if wrong == 0 {
        return Ok(texts);
    }
    let rest = wrong - problems.len();
    let more = if rest > 0 { format!("\n  and {rest} more") } else { String::new() };
    let message = format!("{wrong} bad lines in `{}`:{}{more}", path.display(), problems.concat());
    Err(Failure::failed("bad-data", message)
        .hint("give lines of {\"text\": \"...\"} or {\"messages\": [...]}")
        .into())
}

fn one(
    line: &[u8],
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
) -> anyhow::Result<Vec<u32>> {
    let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
    let value: Value = serde_json::from_slice(line)?;
    if let Some(text) = value.get("text").and_then(Value::as_str) {
        return Ok(Prompt::plain(text, tokenizer)?.ids);
    }
    if let Some(list) = value.get("messages") {
        let messages = Message::list(list)?;
        let tools = value.get("tools").filter(|it| !it.is_null()).cloned();
        let rendered = Conversation { messages, tools }.render(template, false)?;
        return Ok(tokenizer.encode_rendered(&rendered)?);
    }
    anyhow::bail!("it has neither `text` nor `messages`")
}
