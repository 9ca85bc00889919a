//! The Jinja dialect that transformers gives to chat templates.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::civil::{Date, Time};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Value, syntax::SyntaxConfig, value::Serde,
};
use serde_json::{Map, Value as Json};

use super::{ChatError, python};

/// Steps a template may take; real ones take a few thousand.
const FUEL: u64 = 1_000_000;
/// Nested macro calls; far below what the stack bears.
const MAX_RECURSION: usize = 120;
/// Longest text a template may write.
pub(super) const MAX_OUTPUT: usize = 4 << 20;

/// Renders `source` once. The text of `raise_exception` becomes [`ChatError::Refused`].
pub(super) fn render(
    source: &str,
    context: &Map<String, Json>,
    today: Date,
) -> Result<String, ChatError> {
    let refusal = Arc::new(Mutex::new(None));
    let environment = environment(today, Arc::clone(&refusal));
    let mut out = CappedWriter { bytes: Vec::new() };
    let result =
        environment.template_from_named_str("chat_template", source).and_then(|template| {
            template.render_captured_to(Value::from(Serde(context)), &mut out).map(drop)
        });
    if let Some(message) = refusal.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(ChatError::Refused(message));
    }
    match result {
        Ok(()) => String::from_utf8(out.bytes)
            .map_err(|_| ChatError::Invalid { what: "the output is not UTF-8".into(), line: None }),
        Err(error) => Err(explain(&error)),
    }
}

fn explain(error: &Error) -> ChatError {
    match error.kind() {
        ErrorKind::OutOfFuel => ChatError::TooCostly(format!("more than {FUEL} steps")),
        ErrorKind::WriteFailure => {
            ChatError::TooCostly(format!("more than {} MiB of text", MAX_OUTPUT >> 20))
        }
        kind => {
            let what = match error.detail() {
                Some(detail) => format!("{kind}: {detail}"),
                None => kind.to_string(),
            };
            ChatError::Invalid { what: shorten(&what), line: error.line() }
        }
    }
}

/// Messages of errors can quote values of any size.
pub(super) fn shorten(text: &str) -> String {
    const MAX_CHARS: usize = 300;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}

fn environment(today: Date, refusal: Arc<Mutex<Option<String>>>) -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("invariant: jinja's own delimiters do not clash"));
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(|out, _, value| match value.as_str() {
        Some(text) => out.write_str(text).map_err(Error::from),
        None => out.write_str(&python::to_str(value)?).map_err(Error::from),
    });
    environment.add_filter("tojson", python::tojson);
    environment.add_filter("string", |value: Value| python::to_str(&value));
    environment.add_function("raise_exception", move |message: Value| -> Result<String, Error> {
        let message = shorten(&python::to_str(&message)?);
        *refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.clone());
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", move |format: &str| {
        let now = today.to_datetime(Time::midnight());
        jiff::fmt::strtime::format(format, now).map_err(|error| {
            Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}"))
        })
    });
    environment
}

struct CappedWriter {
    bytes: Vec<u8>,
}

impl io::Write for CappedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other("output limit"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `{% generation %}` marks the assistant's text for training masks; jinja knows it by an
/// extension. Here the tags become an `if true`, which keeps their whitespace rules.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let tag = &rest[start..];
        match generation_tag(tag) {
            Some((len, statement)) => {
                out.push_str(&rest[..start]);
                out.push_str(&statement);
                rest = &tag[len..];
            }
            None => {
                out.push_str(&rest[..start + 2]);
                rest = &tag[2..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// Length of a generation tag at the start of `text`, and what replaces it.
fn generation_tag(text: &str) -> Option<(usize, String)> {
    let end = text.find("%}")?;
    let inside = &text[2..end];
    let (left, word) = match inside.chars().next()? {
        sign @ ('-' | '+') => (sign.to_string(), &inside[1..]),
        _ => (String::new(), inside),
    };
    let (right, word) = match word.chars().next_back()? {
        sign @ ('-' | '+') => (sign.to_string(), &word[..word.len() - 1]),
        _ => (String::new(), word),
    };
    let statement = match word.trim() {
        "generation" => "if true",
        "endgeneration" => "endif",
        _ => return None,
    };
    Some((end + 2, format!("{{%{left} {statement} {right}%}}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn check(source: &str, expect: &str) {
        assert_eq!(render(source, &Map::new(), jiff::civil::date(2026, 11, 20)).unwrap(), expect);
    }

    #[test]
    fn dialect_is_python_s() {
        check("{{ none }} {{ true }} {{ [1, 'a'] }}", "None True [1, 'a']");
        check("{{ strftime_now('%d %b %Y') }}", "20 Nov 2026");
        check("{{ undefined_name }}|{{ undefined_name is defined }}", "|False");
        check(
            "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}",
            "01",
        );
    }

    #[test]
    fn generation_tags_keep_whitespace_control() {
        assert_eq!(without_generation_tags("a {%- generation -%} b"), "a {%- if true -%} b");
        assert_eq!(
            without_generation_tags("{% endgeneration %}{% if x %}"),
            "{% endif %}{% if x %}"
        );
        assert_eq!(without_generation_tags("{% set generation = 1 %}"), "{% set generation = 1 %}");
    }
}
