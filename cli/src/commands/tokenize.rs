//! `minicrit tokenize`: text or messages to ids.

use minicrit_engine::{assemble, chat::ChatTemplate, tokens::Tokenizer};
use serde_json::json;

use super::Status;
use crate::{
    model, printer,
    prompt::{self, Conversation},
    settings::{ToTokenize, TokenizeSettings},
};

/// Prints ids and tokens. The weights are not touched.
///
/// # Errors
/// A model without a tokenizer or template; unreadable files.
pub fn tokenize(settings: &TokenizeSettings) -> anyhow::Result<Status> {
    let files = settings.model.files()?;
    let (tokenizer, template) = assemble::text_parts(&files)?;
    let tokenizer = tokenizer.ok_or_else(|| model::no_tokenizer(&settings.model.label()))?;
    let (text, ids) = encode(&settings.what, &tokenizer, template.as_ref())?;
    let token = |id: &u32| tokenizer.token(*id).unwrap_or_default().to_string();
    if settings.json {
        let tokens: Vec<String> = ids.iter().map(token).collect();
        printer::json(&json!({ "text": text, "token_ids": ids, "tokens": tokens }))?;
        return Ok(Status::Done);
    }
    let rows: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(at, id)| [at.to_string(), id.to_string(), token(id)])
        .collect();
    printer::data(&printer::table(["POSITION", "ID", "TOKEN"], &rows))?;
    printer::note(&format!("{} tokens", ids.len()));
    Ok(Status::Done)
}

fn encode(
    what: &ToTokenize,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
) -> anyhow::Result<(String, Vec<u32>)> {
    match what {
        ToTokenize::Text(text) => Ok((text.clone(), tokenizer.encode_raw(text)?)),
        ToTokenize::Messages { file, tools, generation_prompt } => {
            let mut conversation = Conversation::read(file)?;
            if let Some(tools) = tools {
                conversation.tools = Some(prompt::json_file(tools)?);
            }
            let rendered = conversation.render(template, *generation_prompt)?;
            let ids = tokenizer.encode_rendered(&rendered)?;
            Ok((rendered.text().to_string(), ids))
        }
    }
}
