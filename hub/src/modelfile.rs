//! Modelfiles: a model of one's own out of a base, an adapter, a system message and settings, in the
//! form that Ollama made known. What that form has and this program has not is refused by name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// The longest file that is read.
const MOST_BYTES: usize = 4 << 20;

/// A model of one's own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Definition {
    /// `FROM`: the base, as it would be typed.
    pub from: String,
    /// `ADAPTER`: folder of an adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// `DRAFT`: a smaller model, or `ngram`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<String>,
    /// `SYSTEM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// `TEMPLATE`: a chat template in Jinja.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// `LICENSE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// `MESSAGE`: turns that stand before every chat, as (role, text).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<(String, String)>,
    /// `PARAMETER`: numbers by the name of their flag.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, f64>,
    /// `PARAMETER stop`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
}

/// Parameters: the file's name, ours, least, most, whether it is a whole number.
const PARAMETERS: [(&str, &str, f64, f64, bool); 12] = [
    ("temperature", "temperature", 0.0, 100.0, false),
    ("top_k", "top_k", 0.0, 4_294_967_295.0, true),
    ("top_p", "top_p", 0.0, 1.0, false),
    ("min_p", "min_p", 0.0, 1.0, false),
    ("typical_p", "typical_p", 0.0, 1.0, false),
    ("repeat_penalty", "repeat_penalty", 0.01, 100.0, false),
    ("presence_penalty", "presence_penalty", -100.0, 100.0, false),
    ("frequency_penalty", "frequency_penalty", -100.0, 100.0, false),
    ("seed", "seed", 0.0, 9_007_199_254_740_992.0, true),
    ("num_predict", "max_tokens", 1.0, 4_294_967_295.0, true),
    ("num_ctx", "ctx", 1.0, 4_294_967_295.0, true),
    ("draft_num_predict", "draft_tokens", 1.0, 64.0, true),
];

impl Definition {
    /// Reads a Modelfile.
    ///
    /// # Errors
    /// `modelfile`, with every problem and its line.
    pub fn parse(text: &str) -> Result<Self> {
        let mut definition = Self::default();
        let mut problems = Vec::new();
        if text.len() > MOST_BYTES {
            problems.push(format!("it is too long: {} bytes", text.len()));
            return Err(Error::Modelfile { problems });
        }
        for instruction in instructions(text) {
            let outcome = instruction.and_then(|(line, word, value)| {
                definition.take(&word, value).map_err(|problem| (line, problem))
            });
            if let Err((line, problem)) = outcome {
                problems.push(format!("line {line}: {problem}"));
            }
        }
        if definition.from.is_empty() && problems.is_empty() {
            problems.push("it has no FROM: name the model that it begins with".to_owned());
        }
        if problems.is_empty() { Ok(definition) } else { Err(Error::Modelfile { problems }) }
    }

    fn take(&mut self, word: &str, value: String) -> std::result::Result<(), String> {
        let once = |slot: &mut Option<String>, value: String| match slot {
            Some(_) => Err(format!("a second {word}")),
            None => {
                *slot = Some(value);
                Ok(())
            }
        };
        if value.is_empty() {
            return Err(format!("{word} without a value"));
        }
        match word {
            "FROM" if self.from.is_empty() => {
                self.from = value;
                Ok(())
            }
            "FROM" => Err("a second FROM".to_owned()),
            "ADAPTER" => once(&mut self.adapter, value),
            "DRAFT" => once(&mut self.draft, value),
            "SYSTEM" => once(&mut self.system, value),
            "TEMPLATE" if is_go_template(&value) => Err(
                "TEMPLATE is in the language of Go; write it in Jinja, as tokenizer_config.json has it"
                    .to_owned(),
            ),
            "TEMPLATE" => once(&mut self.template, value),
            "LICENSE" => match &mut self.license {
                Some(license) => {
                    license.push('\n');
                    license.push_str(&value);
                    Ok(())
                }
                slot => once(slot, value),
            },
            "MESSAGE" => self.message(&value),
            "PARAMETER" => self.parameter(&value),
            "SCHEMA" => Err("SCHEMA needs constrained decoding, which is not built yet".to_owned()),
            _ => Err(format!(
                "unknown instruction `{word}`; known are FROM, ADAPTER, DRAFT, SYSTEM, TEMPLATE, \
                 PARAMETER, MESSAGE, LICENSE"
            )),
        }
    }

    fn message(&mut self, value: &str) -> std::result::Result<(), String> {
        let (role, text) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
        let text = unquoted(text.trim());
        match role {
            "system" | "user" | "assistant" if !text.is_empty() => {
                self.messages.push((role.to_owned(), text));
                Ok(())
            }
            "system" | "user" | "assistant" => Err(format!("MESSAGE {role} without a text")),
            _ => Err(format!("MESSAGE of `{role}`; roles are system, user and assistant")),
        }
    }

    fn parameter(&mut self, value: &str) -> std::result::Result<(), String> {
        let (name, text) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
        let text = unquoted(text.trim());
        if name == "stop" {
            return match text.is_empty() {
                true => Err("PARAMETER stop without a text".to_owned()),
                false => {
                    self.stop.push(text);
                    Ok(())
                }
            };
        }
        let Some((_, ours, least, most, whole)) = PARAMETERS.iter().find(|it| it.0 == name) else {
            let known: Vec<&str> = PARAMETERS.iter().map(|it| it.0).collect();
            return Err(format!(
                "unknown PARAMETER `{name}`; known are stop, {}",
                known.join(", ")
            ));
        };
        let number = text.parse::<f64>().ok().filter(|it| {
            it.is_finite() && (*least..=*most).contains(it) && (!whole || it.fract() == 0.0)
        });
        let number = number.ok_or_else(|| {
            let kind = if *whole { "a whole number" } else { "a number" };
            format!("PARAMETER {name} must be {kind} from {least} to {most}: `{text}`")
        })?;
        match self.parameters.insert((*ours).to_owned(), number) {
            None => Ok(()),
            Some(_) => Err(format!("a second PARAMETER {name}")),
        }
    }

    /// The Modelfile that gives this definition.
    pub fn to_modelfile(&self) -> String {
        let mut text = format!("FROM {}\n", self.from);
        let mut add = |word: &str, value: &str| {
            let value = match value.contains(['\n', '"', '#']) {
                true => format!("\"\"\"{value}\"\"\""),
                false => value.to_owned(),
            };
            text += &format!("{word} {value}\n");
        };
        let single = [
            ("ADAPTER", &self.adapter),
            ("DRAFT", &self.draft),
            ("SYSTEM", &self.system),
            ("TEMPLATE", &self.template),
            ("LICENSE", &self.license),
        ];
        for (word, value) in single {
            value.iter().for_each(|it| add(word, it));
        }
        for (ours, number) in &self.parameters {
            let name = PARAMETERS.iter().find(|it| it.1 == ours).map_or(ours.as_str(), |it| it.0);
            add("PARAMETER", &format!("{name} {number}"));
        }
        self.stop
            .iter()
            .for_each(|it| add("PARAMETER", &format!("stop {}", Value::from(it.as_str()))));
        for (role, message) in &self.messages {
            add("MESSAGE", &format!("{role} {}", Value::from(message.as_str())));
        }
        text
    }
}

/// `{{ .System }}` and its like.
fn is_go_template(text: &str) -> bool {
    text.split("{{").skip(1).any(|it| {
        let inside = it.trim_start_matches('-').trim_start();
        [".", "if ", "range ", "end", "else", "$"].iter().any(|it| inside.starts_with(it))
    })
}

/// A text in JSON's or in plain quotes, without them.
fn unquoted(text: &str) -> String {
    match serde_json::from_str(text) {
        Ok(Value::String(text)) => text,
        _ => text.to_owned(),
    }
}

type Instruction = (usize, String, String);

/// Instructions with their lines: a word and the rest of the line, or all between `"""`.
fn instructions(text: &str) -> Vec<std::result::Result<Instruction, (usize, String)>> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let (word, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
        let rest = rest.trim();
        let word = word.to_ascii_uppercase();
        let Some((before, opened)) = rest.split_once("\"\"\"") else {
            let value = match word.as_str() {
                "MESSAGE" | "PARAMETER" => rest.to_owned(),
                _ => unquoted(rest),
            };
            found.push(Ok((at + 1, word, value)));
            continue;
        };
        let mut value = opened.to_owned();
        let mut closed = value.ends_with("\"\"\"");
        while !closed && let Some((_, line)) = lines.next() {
            value.push('\n');
            value.push_str(line);
            closed = line.trim_end().ends_with("\"\"\"");
        }
        match closed {
            true => {
                let value = value.trim_end();
                let value = &value[..value.len() - 3];
                found.push(Ok((at + 1, word, format!("{before}{value}"))));
            }
            false => found.push(Err((at + 1, format!("{word} opens \"\"\" and never closes it")))),
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
# A critic of trades.
FROM qwen2.5:0.5b
ADAPTER ./critic
SYSTEM """You judge trades.
Be brief."""
PARAMETER temperature 0.2
PARAMETER num_predict 200
PARAMETER stop "<end>"
parameter stop ###
MESSAGE user Is it sound?
MESSAGE assistant "No.\nIt is not."
DRAFT ngram
LICENSE MIT
"#;

    #[test]
    fn a_modelfile_is_read_and_written_back() {
        let it = Definition::parse(GOOD).unwrap();
        assert_eq!(it.from, "qwen2.5:0.5b");
        assert_eq!(it.system.as_deref(), Some("You judge trades.\nBe brief."));
        assert_eq!(it.parameters["max_tokens"], 200.0);
        assert_eq!(it.stop, ["<end>", "###"]);
        assert_eq!(it.messages[1], ("assistant".into(), "No.\nIt is not.".into()));
        assert_eq!(Definition::parse(&it.to_modelfile()).unwrap(), it);
        let json = serde_json::to_string(&it).unwrap();
        assert_eq!(serde_json::from_str::<Definition>(&json).unwrap(), it);
    }

    #[test]
    fn all_problems_are_told_with_their_lines() {
        let text = "FROM a\nFROM b\nFLY high\nPARAMETER top_p 2\nPARAMETER x 1\nPARAMETER top_k 1.5\n\
                    MESSAGE robot hi\nTEMPLATE {{ .Prompt }}\nSCHEMA x\nSYSTEM\nPARAMETER seed NaN\n\
                    SYSTEM \"\"\"open";
        match Definition::parse(text) {
            Err(Error::Modelfile { problems }) => {
                let lines: Vec<&str> =
                    problems.iter().map(|it| it.split(':').next().unwrap()).collect();
                let expected: Vec<String> = (2..=12).map(|it| format!("line {it}")).collect();
                assert_eq!(lines, expected, "{problems:#?}");
            }
            other => panic!("{other:?}"),
        }
        assert!(Definition::parse("").is_err() && Definition::parse("SYSTEM x").is_err());
    }
}
