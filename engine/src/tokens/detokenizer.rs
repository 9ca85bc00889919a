//! Ids to text, one at a time, never splitting a character.

use std::sync::Arc;

use super::Vocabulary;

/// Turns a stream of ids into a stream of text. Bytes that do not yet form a whole character are
/// held back; bytes that never will become U+FFFD, as in a decode of the whole.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    vocabulary: Arc<Vocabulary>,
    pending: Vec<u8>,
    at_start: bool,
}

impl Detokenizer {
    /// A detokenizer at the start of a text.
    pub fn new(vocabulary: Arc<Vocabulary>) -> Self {
        Self { vocabulary, pending: Vec::new(), at_start: true }
    }

    /// A detokenizer for text that goes on after other text: a space in front of it is kept.
    pub fn continuing(vocabulary: Arc<Vocabulary>) -> Self {
        Self { vocabulary, pending: Vec::new(), at_start: false }
    }

    /// Like [`Detokenizer::push`], without the text of special tokens (Hugging Face's
    /// `skip_special_tokens`).
    pub fn push_skipping_special(&mut self, id: u32) -> String {
        if self.vocabulary.is_special(id) { String::new() } else { self.push(id) }
    }

    /// Feeds one id and returns the text that is now certain.
    pub fn push(&mut self, id: u32) -> String {
        let mut bytes = self.vocabulary.bytes(id);
        if self.at_start && !bytes.is_empty() {
            self.at_start = false;
            if self.vocabulary.strips_leading_space() {
                bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
            }
        }
        self.pending.extend_from_slice(bytes);
        self.take_certain()
    }

    /// The rest: what was held back, with U+FFFD for what is no character.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        rest
    }

    fn take_certain(&mut self) -> String {
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.pending.clear();
                    return text;
                }
                Err(error) => {
                    let (valid, rest) = self.pending.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(valid).expect("invariant: checked above"));
                    let bad = error.error_len();
                    let rest = rest[bad.unwrap_or(0)..].to_vec();
                    self.pending = rest;
                    match bad {
                        Some(_) => text.push('\u{FFFD}'),
                        None => return text,
                    }
                }
            }
        }
    }
}
