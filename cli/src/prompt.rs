//! What a model is given: files of ids and messages, and the chat template.

use std::path::{Path, PathBuf};

use minicrit_engine::{
    chat::{ChatTemplate, Isolation, Message, RenderOptions, Rendered},
    think::ThinkSplitter,
    tokens::Tokenizer,
};
use serde_json::Value;

use crate::errors::{self, Failure};

/// The largest JSON file of ids or messages that is read.
const MOST_BYTES: u64 = 256 << 20;

/// What a model is fed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Whether it ends inside of the model's thinking: some templates open it themselves.
    pub thinking: bool,
}

impl Prompt {
    /// A text as it stands, control tokens and all.
    ///
    /// # Errors
    /// A tokenizer that gives up.
    pub fn raw(text: &str, tokenizer: &Tokenizer) -> anyhow::Result<Self> {
        Ok(Self { ids: tokenizer.encode_raw(text)?, thinking: ends_in_thinking(text) })
    }

    /// A text to continue, as a tokenizer would begin it, but never a control token made of it.
    ///
    /// # Errors
    /// A tokenizer that gives up.
    pub fn plain(text: &str, tokenizer: &Tokenizer) -> anyhow::Result<Self> {
        let ids = [tokenizer.encode_raw("")?, tokenizer.encode_content(text)?].concat();
        Ok(Self { ids, thinking: false })
    }

    /// Ids as they stand; without a tokenizer nobody can tell whether they end in thinking.
    pub fn of_ids(ids: Vec<u32>, tokenizer: Option<&Tokenizer>) -> Self {
        // The mark is a control token, or a few tokens of plain text.
        let end = &ids[ids.len().saturating_sub(16)..];
        let thinking = tokenizer.is_some_and(|it| ends_in_thinking(&it.decode(end)));
        Self { ids, thinking }
    }
}

fn ends_in_thinking(text: &str) -> bool {
    ThinkSplitter::after(text).is_thinking()
}

/// Messages, and the tools that the same file may hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conversation {
    /// The turns so far.
    pub messages: Vec<Message>,
    /// Tools as JSON schemas.
    pub tools: Option<Value>,
}

impl Conversation {
    /// A JSON array of messages, or an object with `messages` and perhaps `tools`.
    ///
    /// # Errors
    /// An unreadable file, or the messages that are not of the form, all at once.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let mut value = json_file(path)?;
        let tools = value.get_mut("tools").map(Value::take).filter(|it| !it.is_null());
        let list = match value.get_mut("messages") {
            Some(list) => list.take(),
            None => value,
        };
        let messages = Message::list(&list)
            .map_err(|error| anyhow::Error::new(error).context(format!("`{}`", path.display())))?;
        if messages.is_empty() {
            let message = format!("there is no message in `{}`", path.display());
            return Err(Failure::failed("messages-invalid", message).into());
        }
        Ok(Self { messages, tools })
    }

    /// Renders the chat template, which is nobody's trusted program: an unknown one runs in a
    /// process of its own.
    ///
    /// # Errors
    /// No template, or the template's own refusal.
    pub fn render(
        &self,
        template: Option<&ChatTemplate>,
        generation_prompt: bool,
    ) -> anyhow::Result<Rendered> {
        let template = template.ok_or_else(|| {
            Failure::failed("no-chat-template", "this model has no chat template")
                .hint("give plain text: --raw with run, --text with tokenize")
        })?;
        let options = RenderOptions {
            tools: self.tools.clone(),
            add_generation_prompt: generation_prompt,
            ..RenderOptions::on(jiff::Zoned::now().date())
        };
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("minicrit"));
        let template = template.clone().with_isolation(Isolation::Child { program });
        Ok(template.render(&self.messages, &options)?)
    }

    /// The rendered conversation, with the assistant's turn opened.
    ///
    /// # Errors
    /// As [`Conversation::render`].
    pub fn encode(
        &self,
        template: Option<&ChatTemplate>,
        tokenizer: &Tokenizer,
    ) -> anyhow::Result<Prompt> {
        let rendered = self.render(template, true)?;
        let ids = tokenizer.encode_rendered(&rendered)?;
        Ok(Prompt { ids, thinking: ends_in_thinking(rendered.text()) })
    }
}

/// A JSON array of token ids.
///
/// # Errors
/// An unreadable file, something else than ids, or none at all.
pub fn ids(path: &Path) -> anyhow::Result<Vec<u32>> {
    let value = json_file(path)?;
    let bad = |what: String| {
        Failure::failed("ids-invalid", format!("{what}: `{}`", path.display()))
            .hint("expected a JSON array of token ids, such as [1, 2, 3]")
    };
    let items = value.as_array().ok_or_else(|| bad("not an array".into()))?;
    if items.is_empty() {
        return Err(bad("no ids".into()).into());
    }
    let id = |it: &Value| it.as_u64().and_then(|it| u32::try_from(it).ok());
    let wrong: Vec<String> = items
        .iter()
        .enumerate()
        .filter(|(_, it)| id(it).is_none())
        .map(|(index, it)| format!("item {index} is {it}"))
        .collect();
    if !wrong.is_empty() {
        let shown = wrong.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
        return Err(bad(format!("{} of {} are no ids ({shown})", wrong.len(), items.len())).into());
    }
    Ok(items.iter().filter_map(id).collect())
}

/// A whole JSON file.
///
/// # Errors
/// `file-not-found`, `file`, `file-too-large` or `bad-json`.
pub fn json_file(path: &Path) -> anyhow::Result<Value> {
    let read = |error: std::io::Error| errors::file("read", path, &error);
    let file = std::fs::File::open(path).map_err(read)?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MOST_BYTES + 1), &mut bytes)
        .map_err(read)?;
    if bytes.len() as u64 > MOST_BYTES {
        let message = format!("`{}` has more than {MOST_BYTES} bytes", path.display());
        return Err(Failure::failed("file-too-large", message).into());
    }
    // Editors on Windows begin a file with a mark that JSON does not know.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    serde_json::from_slice(bytes).map_err(|error| {
        Failure::failed("bad-json", format!("{error}: `{}`", path.display())).into()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn all_bad_ids_are_listed() {
        assert_eq!(ids(file("[1, 0, 4294967295]").path()).unwrap(), [1, 0, u32::MAX]);
        let error = ids(file("[1, -2, 3.5, \"x\", 4294967296]").path()).unwrap_err().to_string();
        for part in ["4 of 5", "item 1 is -2", "item 2 is 3.5", "item 3", "item 4"] {
            assert!(error.contains(part), "{error}");
        }
        for bad in ["", "{}", "[]", "[1", "null", "[[1]]"] {
            assert!(ids(file(bad).path()).is_err(), "{bad}");
        }
    }

    #[test]
    fn messages_come_bare_or_in_an_object() {
        let bare = file(r#"[{"role": "user", "content": "hi"}]"#);
        let object = file(
            "\u{feff}{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"tools\": null}",
        );
        assert_eq!(
            Conversation::read(bare.path()).unwrap(),
            Conversation::read(object.path()).unwrap()
        );
        for bad in ["[]", "{\"messages\": []}", "[3]", "{}", "\"x\"", "[{\"content\": 1}]"] {
            assert!(Conversation::read(file(bad).path()).is_err(), "{bad}");
        }
    }
}
