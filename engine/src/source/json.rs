//! JSON of model folders, read strictly: a key that stands twice is refused, because readers
//! disagree on which one counts.
//!
//! A byte order mark at the start is tolerated. serde_json bounds the depth (128) and refuses
//! numbers that are not JSON (`NaN`, `Infinity`).

use std::{fmt, fs::File, io::Read, path::Path};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{
    Result, SourceError,
    error::{printable, quoted, unreadable},
};

/// Reads a file whole, if it is a regular file of at most `limit` bytes.
pub(super) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = |source| unreadable(path, source);
    let metadata = std::fs::metadata(path).map_err(io)?;
    let too_large =
        |bytes| SourceError::FileTooLarge { file: path.display().to_string(), bytes, limit };
    if !metadata.is_file() {
        return Err(io(std::io::Error::other("not a regular file")));
    }
    if metadata.len() > limit {
        return Err(too_large(metadata.len()));
    }
    // The file may grow while it is read, so the limit holds for the reading too.
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    Ok(bytes)
}

/// Parses `bytes`, which errors call `file`.
///
/// # Errors
/// [`SourceError::BadJson`], with line and column.
pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Value> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = UniqueKeys.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| SourceError::BadJson {
        file: file.to_owned(),
        problem: printable(&error.to_string()),
    })
}

/// As [`parse`], for a file that must hold an object.
pub(super) fn parse_object(file: &str, bytes: &[u8]) -> Result<Value> {
    let value = parse(file, bytes)?;
    match value.is_object() {
        true => Ok(value),
        false => Err(SourceError::BadJson {
            file: file.to_owned(),
            problem: "it is not an object".to_owned(),
        }),
    }
}

/// Builds a [`Value`] and fails at the first key that its object has already.
#[derive(Clone, Copy)]
struct UniqueKeys;

impl<'de> DeserializeSeed<'de> for UniqueKeys {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(self)? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> std::result::Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!(
                    "the key {} stands there twice",
                    quoted(&key)
                )));
            }
            object.insert(key, entries.next_value_seed(self)?);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_refused_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"\u0061":2}}]"#] {
            let error = parse("x.json", text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(r#"the key "a" stands there twice"#), "{error}");
        }
    }

    #[test]
    fn values_are_those_of_serde_json() {
        let text =
            r#"{"b":[1,-2,3.5,1e-6,true,null,"é\n"],"a":{"b":{}},"big":18446744073709551615}"#;
        assert_eq!(
            parse("x.json", text.as_bytes()).unwrap(),
            serde_json::from_str::<Value>(text).unwrap()
        );
    }

    #[test]
    fn broken_text_is_refused_with_its_place() {
        for text in ["", "{", "{} x", "[1,]", "NaN", "{\"a\":Infinity}", "\u{1}", &"[".repeat(1000)]
        {
            let error = parse("x.json", text.as_bytes()).unwrap_err().to_string();
            assert!(
                error.starts_with("`x.json` is not usable JSON: ") && error.contains("line"),
                "{error}"
            );
        }
        assert!(parse("x.json", b"\"\xff\"").is_err());
    }
}
