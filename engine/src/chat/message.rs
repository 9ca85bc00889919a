//! One turn of a conversation.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ChatError;

/// Names that a template may build a control token from, as in `'<|' + message.role + '|>'`.
/// Any other role is text like content: it is printed, but never becomes part of a control token.
pub const ROLES: &[&str] = &[
    "system",
    "user",
    "assistant",
    "tool",
    "developer",
    "function",
    "ipython",
    "model",
    "observation",
    "tool_call",
    "tool_response",
    "tool_result",
    "tool_results",
];

/// One turn: `role`, `content` and whatever else a template may read (`tool_calls`, `name`,
/// `reasoning_content`, ...), kept as it was given and in its order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Message {
    fields: Map<String, Value>,
}

impl Message {
    /// A turn of plain text.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        let mut fields = Map::new();
        fields.insert("role".into(), role.into());
        fields.insert("content".into(), content.into().into());
        Self { fields }
    }

    /// The same turn with one more field.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.fields.insert(field.into(), value);
        self
    }

    /// A JSON array of messages.
    ///
    /// # Errors
    /// [`ChatError::Messages`], which lists every message that is not an object with a role.
    pub fn list(value: &Value) -> Result<Vec<Self>, ChatError> {
        let Some(items) = value.as_array() else {
            return Err(ChatError::Messages("expected a JSON array of messages".into()));
        };
        let mut problems = Vec::new();
        let mut messages = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item.as_object() {
                Some(fields) if fields.get("role").is_some_and(Value::is_string) => {
                    messages.push(Self { fields: fields.clone() });
                }
                Some(_) => problems.push(format!("message {index} has no `role`")),
                None => problems.push(format!("message {index} is not an object")),
            }
        }
        if problems.is_empty() {
            Ok(messages)
        } else {
            Err(ChatError::Messages(problems.join("; ")))
        }
    }

    /// Who speaks.
    pub fn role(&self) -> &str {
        self.fields.get("role").and_then(Value::as_str).unwrap_or_default()
    }

    /// The text, where the content is one.
    pub fn content(&self) -> Option<&str> {
        self.fields.get("content").and_then(Value::as_str)
    }

    /// The same turn with a content of text parts (`[{"type": "text", "text": ...}]`, as the OpenAI
    /// interface has it) joined into one text, for templates that know no parts.
    ///
    /// # Errors
    /// The type of the first part that is no text.
    pub(super) fn with_joined_parts(&self) -> Result<Self, String> {
        let Some(parts) = self.fields.get("content").and_then(Value::as_array) else {
            return Ok(self.clone());
        };
        let mut text = String::new();
        for part in parts {
            match (part.get("type").and_then(Value::as_str), part.get("text")) {
                (Some("text") | None, Some(Value::String(it))) => text.push_str(it),
                (kind, _) => return Err(kind.unwrap_or("unknown").to_owned()),
            }
        }
        Ok(self.clone().with("content", text.into()))
    }

    /// Every field.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn all_bad_messages_are_named_at_once() {
        let error = Message::list(&json!([{"role": "user", "content": "a"}, 3, {"content": "b"}]))
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("message 1 is not an object"), "{text}");
        assert!(text.contains("message 2 has no `role`"), "{text}");
    }

    #[test]
    fn text_parts_become_one_text() {
        let messages = Message::list(&json!([
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "c"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
        ]))
        .unwrap();
        assert_eq!(messages[0].with_joined_parts().unwrap().content(), Some("ab"));
        assert_eq!(messages[1].with_joined_parts().unwrap(), messages[1]);
        assert_eq!(messages[2].with_joined_parts().unwrap_err(), "image_url");
    }

    #[test]
    fn unknown_fields_stay() {
        let messages =
            Message::list(&json!([{"role": "tool", "name": "f", "content": null, "x": [1]}]))
                .unwrap();
        assert_eq!(
            messages[0].fields().keys().collect::<Vec<_>>(),
            ["role", "name", "content", "x"]
        );
        assert_eq!(messages[0].content(), None);
    }
}
