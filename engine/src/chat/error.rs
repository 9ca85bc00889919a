//! What can go wrong between messages and text.

use crate::error::NamedError;

/// Errors of this module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// The template does not parse, or does something that no template may do.
    #[error("the chat template can't be used: {what}{}", at_line(*.line))]
    Invalid {
        /// What is wrong.
        what: String,
        /// Line of the template, where known.
        line: Option<usize>,
    },
    /// The template called `raise_exception`: it does not accept these messages.
    #[error("the chat template refuses these messages: {0}")]
    Refused(String),
    /// The template needs more time, memory or output than any honest one.
    #[error("the chat template costs too much: {0}")]
    TooCostly(String),
    /// The template is not a known one and there is no child process to run it in.
    #[error("the chat template is not a known one and may only run in a process of its own")]
    Untrusted,
    /// The process that renders templates could not be started or spoken to.
    #[error("can't run the template renderer: {0}")]
    Renderer(String),
    /// A list of messages has the wrong form.
    #[error("these messages can't be used: {0}")]
    Messages(String),
}

fn at_line(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(" (line {line})"))
}

impl NamedError for ChatError {
    fn name(&self) -> &'static str {
        match self {
            ChatError::Invalid { .. } => "template-invalid",
            ChatError::Refused(_) => "template-refused",
            ChatError::TooCostly(_) => "template-too-costly",
            ChatError::Untrusted => "template-untrusted",
            ChatError::Renderer(_) => "template-renderer",
            ChatError::Messages(_) => "messages-invalid",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ChatError::Invalid { .. } | ChatError::TooCostly(_) => {
                Some("give the prompt without a template, or use another model file".into())
            }
            ChatError::Refused(_) => Some("change the order or the roles of the messages".into()),
            _ => None,
        }
    }
}
