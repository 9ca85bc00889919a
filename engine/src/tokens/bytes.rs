//! The bytes behind each id, worked out from how the tokenizer decodes.

use std::collections::HashMap;

use serde_json::Value;

use super::{TokenKind, Vocabulary, guard::Checked};

/// What a decoder makes of one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Spelling {
    /// Each character stands for a byte (GPT-2's alphabet).
    ByteLevel,
    /// A mark stands for a space; `<0x41>` may stand for a byte (SentencePiece).
    Mark { replacements: Vec<(String, String)>, byte_fallback: bool },
    /// A prefix says that a piece goes on with the word; others start with a space.
    WordPiece { prefix: String },
    /// A suffix says that a word ends.
    WordEnd { suffix: String },
}

/// The table for a checked tokenizer, padded to `vocab_size` ids.
pub(super) fn vocabulary(checked: &Checked, vocab_size: usize) -> Vocabulary {
    let mut components = Vec::new();
    if let Some(decoder) = &checked.decoder {
        flatten(decoder, &mut components);
    }
    let (spelling, strips_space) = spelling(&components);
    let alphabet = byte_alphabet();
    let mut entries = vec![(Vec::new(), TokenKind::Unused); vocab_size];
    for (piece, id) in checked.model.pieces() {
        entries[id as usize] = (bytes(piece, &spelling, &alphabet), TokenKind::Text);
    }
    for token in &checked.added {
        entries[token.id as usize] = (token.content.clone().into_bytes(), TokenKind::Control);
    }
    let special = checked.added.iter().filter(|it| it.special).map(|it| it.id);
    Vocabulary::new(entries, strips_space).with_special(special)
}

fn flatten<'a>(decoder: &'a Value, components: &mut Vec<&'a Value>) {
    match decoder.get("decoders").and_then(Value::as_array) {
        Some(parts) => parts.iter().for_each(|it| flatten(it, components)),
        None => components.push(decoder),
    }
}

fn spelling(components: &[&Value]) -> (Spelling, bool) {
    let text = |value: &Value, field: &str, default: &str| {
        value.get(field).and_then(Value::as_str).unwrap_or(default).to_owned()
    };
    let mut replacements = Vec::new();
    let mut byte_fallback = false;
    let mut strips_space = false;
    for component in components {
        match component.get("type").and_then(Value::as_str).unwrap_or_default() {
            "ByteLevel" => return (Spelling::ByteLevel, false),
            "WordPiece" => {
                return (Spelling::WordPiece { prefix: text(component, "prefix", "##") }, true);
            }
            "BPEDecoder" => {
                return (Spelling::WordEnd { suffix: text(component, "suffix", "</w>") }, false);
            }
            "Metaspace" => {
                replacements.push((text(component, "replacement", "▁"), " ".to_owned()));
                strips_space |= text(component, "prepend_scheme", "always") != "never";
            }
            "Replace" => {
                if let Some(pattern) =
                    component.get("pattern").and_then(|it| it.get("String")?.as_str())
                {
                    replacements.push((pattern.to_owned(), text(component, "content", "")));
                }
            }
            "ByteFallback" => byte_fallback = true,
            "Strip" => {
                strips_space |= text(component, "content", "") == " "
                    && component.get("start") != Some(&0.into())
            }
            _ => {}
        }
    }
    (Spelling::Mark { replacements, byte_fallback }, strips_space)
}

fn bytes(piece: &str, spelling: &Spelling, alphabet: &HashMap<char, u8>) -> Vec<u8> {
    match spelling {
        Spelling::ByteLevel => {
            // A piece outside the alphabet stands for itself, as in the reference.
            let bytes: Option<Vec<u8>> = piece.chars().map(|c| alphabet.get(&c).copied()).collect();
            bytes.unwrap_or_else(|| piece.as_bytes().to_vec())
        }
        Spelling::Mark { replacements, byte_fallback } => {
            match byte_of(piece).filter(|_| *byte_fallback) {
                Some(byte) => vec![byte],
                None => replacements
                    .iter()
                    .fold(piece.to_owned(), |text, (mark, to)| text.replace(mark, to))
                    .into_bytes(),
            }
        }
        Spelling::WordPiece { prefix } => match piece.strip_prefix(prefix.as_str()) {
            Some(rest) => rest.as_bytes().to_vec(),
            None => format!(" {piece}").into_bytes(),
        },
        Spelling::WordEnd { suffix } => piece.replace(suffix.as_str(), " ").into_bytes(),
    }
}

/// `<0x41>` as a byte.
fn byte_of(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// GPT-2's alphabet: printable bytes stand for themselves, the others are moved to U+0100 and up.
pub(crate) fn byte_alphabet() -> HashMap<char, u8> {
    let mut moved = 0;
    (0..=u8::MAX)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => (char::from(byte), byte),
            _ => {
                moved += 1;
                let c = char::from_u32(0x100 + moved - 1)
                    .expect("invariant: 68 characters from U+0100 on exist");
                (c, byte)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabet_is_gpt2_s() {
        let alphabet = byte_alphabet();
        assert_eq!(alphabet.len(), 256);
        for (c, byte) in [('Ġ', b' '), ('Ċ', b'\n'), ('ĉ', b'\t'), ('a', b'a'), ('Ń', 0xAD)] {
            assert_eq!(alphabet.get(&c), Some(&byte), "{c}");
        }
    }
}
