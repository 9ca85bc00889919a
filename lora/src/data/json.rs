//! JSON with places: every value knows where it stands in its record, and every key is kept, a
//! second one of the same name too.

use std::{borrow::Cow, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::problem::{Finding, Findings, Rule, quoted};

/// Deepest nesting that is read; rows of data have about six levels.
const MAX_DEPTH: usize = 100;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node<'a> {
    /// The byte where it begins, in the record.
    pub offset: usize,
    /// The value as it is written.
    pub raw: &'a str,
    /// What it is.
    pub value: Value<'a>,
}

/// What a value is. Numbers are left as they are written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Number,
    String(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

impl<'a> Node<'a> {
    /// Parses a whole record; a key that stands twice in an object is a finding.
    pub fn parse(text: &'a str, findings: &mut Findings) -> Result<Self, Finding> {
        let raw: &RawValue = parse_at(text, 0)?;
        let reader = Reader { text };
        reader.node(raw, 0, findings)
    }

    /// The value of a key, and nothing for a null.
    pub fn get(&self, key: &str) -> Option<&Node<'a>> {
        let Value::Object(fields) = &self.value else { return None };
        let found = fields.iter().find(|(name, _)| name == key).map(|(_, node)| node);
        found.filter(|it| it.value != Value::Null)
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The items, if it is an array.
    pub fn as_array(&self) -> Option<&[Node<'a>]> {
        match &self.value {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The fields, if it is an object.
    pub fn as_object(&self) -> Option<&[(Cow<'a, str>, Node<'a>)]> {
        match &self.value {
            Value::Object(fields) => Some(fields),
            _ => None,
        }
    }

    /// The value as templates take it.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::from_str(self.raw).unwrap_or_default()
    }

    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        }
    }
}

struct Reader<'a> {
    text: &'a str,
}

impl<'a> Reader<'a> {
    /// serde_json walks over raw values without bounding their depth; here the stack would end.
    fn node(
        &self,
        raw: &'a RawValue,
        depth: usize,
        findings: &mut Findings,
    ) -> Result<Node<'a>, Finding> {
        let raw = raw.get();
        let offset = raw.as_ptr() as usize - self.text.as_ptr() as usize;
        if depth > MAX_DEPTH {
            let what = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(Finding::error(Rule::BadJson, offset, what));
        }
        let value = match raw.as_bytes().first() {
            Some(b'{') => {
                let Fields(raws) = parse_at(raw, offset)?;
                Value::Object(self.fields(raws, depth + 1, findings)?)
            }
            Some(b'[') => {
                let Items(raws) = parse_at(raw, offset)?;
                let nodes = raws.into_iter().map(|it| self.node(it, depth + 1, findings));
                Value::Array(nodes.collect::<Result<_, _>>()?)
            }
            Some(b'"') => {
                let Text(text) = parse_at(raw, offset)?;
                Value::String(text)
            }
            Some(b't') => Value::Bool(true),
            Some(b'f') => Value::Bool(false),
            Some(b'n') => Value::Null,
            _ => Value::Number,
        };
        Ok(Node { offset, raw, value })
    }

    fn fields(
        &self,
        raws: Vec<(Cow<'a, str>, &'a RawValue)>,
        depth: usize,
        findings: &mut Findings,
    ) -> Result<Vec<(Cow<'a, str>, Node<'a>)>, Finding> {
        let mut fields: Vec<(Cow<'a, str>, Node<'a>)> = Vec::with_capacity(raws.len());
        let mut names = std::collections::HashSet::with_capacity(raws.len());
        for (name, raw) in raws {
            let node = self.node(raw, depth, findings)?;
            if !names.insert(name.clone()) {
                let what = format!("the key {} stands twice in this object", quoted(&name));
                findings.error(Rule::DuplicateKey, node.offset, what);
            }
            fields.push((name, node));
        }
        Ok(fields)
    }
}

fn parse_at<'a, T: Deserialize<'a>>(text: &'a str, offset: usize) -> Result<T, Finding> {
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let what = message.rsplit_once(" at line ").map_or(message.as_str(), |it| it.0);
        Finding::error(Rule::BadJson, offset + offset_of(text, &error), what)
    })
}

/// The byte that an error speaks of; it counts lines and columns from 1, and columns in bytes.
fn offset_of(text: &str, error: &serde_json::Error) -> usize {
    let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
    let start: usize = lines.map(str::len).sum();
    (start + error.column().saturating_sub(1)).min(text.len())
}

struct Text<'a>(Cow<'a, str>);
struct Items<'a>(Vec<&'a RawValue>);
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemsVisitor;
        impl<'de> Visitor<'de> for ItemsVisitor {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut raws = Vec::new();
                while let Some(raw) = items.next_element()? {
                    raws.push(raw);
                }
                Ok(Items(raws))
            }
        }
        deserializer.deserialize_seq(ItemsVisitor)
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
                let mut raws = Vec::new();
                while let Some((Text(name), raw)) = fields.next_entry()? {
                    raws.push((name, raw));
                }
                Ok(Fields(raws))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_place() {
        let text = r#" {"a": [1, "x\n\u00e9"], "b": {"c": null}}"#;
        let mut findings = Findings::default();
        let node = Node::parse(text, &mut findings).unwrap();
        let items = node.get("a").unwrap().as_array().unwrap();
        assert_eq!(items[1].as_str(), Some("x\né"));
        assert_eq!(&text[items[1].offset..][..4], "\"x\\n");
        assert_eq!(node.get("b").unwrap().get("c"), None);
        assert!(findings.0.is_empty());
    }

    #[test]
    fn a_key_that_stands_twice_is_found_at_any_depth() {
        let text = r#"{"a": [{"k": 1, "k": 2}]}"#;
        let mut findings = Findings::default();
        Node::parse(text, &mut findings).unwrap();
        assert_eq!(findings.0.len(), 1);
        assert_eq!(findings.0[0].rule, Rule::DuplicateKey);
        assert_eq!(&text[findings.0[0].offset..][..1], "2");
    }

    #[test]
    fn errors_have_places() {
        let check = |text: &str, offset: usize, what: &str| {
            let error = Node::parse(text, &mut Findings::default()).unwrap_err();
            assert_eq!(error.rule, Rule::BadJson);
            assert_eq!((error.offset, error.what.as_str()), (offset, what), "{text}");
        };
        check("{\"a\": }", 6, "expected value");
        check("{\"a\": 1} x", 9, "trailing characters");
        check("{\"a\": 1,}", 8, "key must be a string");
        check("{\"a\":\n [\"\\x\"]}", 10, "invalid escape");
        check("{\"a\": \"x", 7, "EOF while parsing a string");
        check("{\"a\": {\"b\": \"\\ud800\"}}", 19, "unexpected end of hex escape");
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        check(&deep, 101, "nested deeper than 100 levels");
    }
}
