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

#[cfg(test)]
mod tests {
    use super::super::TokenKind;
    use super::*;

    fn vocabulary() -> Arc<Vocabulary> {
        let entries = [" a", "é", "<x>", "<y>"].map(str::as_bytes);
        let mut entries: Vec<_> = entries.iter().map(|it| (it.to_vec(), TokenKind::Text)).collect();
        entries[2].1 = TokenKind::Control;
        entries[3].1 = TokenKind::Control;
        entries.push((vec![0xC3], TokenKind::Text));
        entries.push((vec![0xA9], TokenKind::Text));
        Arc::new(Vocabulary::new(entries, true).with_special([2]))
    }

    #[test]
    fn only_the_start_of_a_text_loses_its_space() {
        let mut start = Detokenizer::new(vocabulary());
        assert_eq!(start.push(0) + &start.push(0), "a a");
        assert_eq!(Detokenizer::continuing(vocabulary()).push(0), " a");
    }

    #[test]
    fn characters_stay_whole_and_broken_ones_show() {
        let mut detokenizer = Detokenizer::new(vocabulary());
        assert_eq!(detokenizer.push(4), "");
        assert_eq!(detokenizer.push(5), "é");
        assert_eq!(detokenizer.push(4), "");
        assert_eq!(detokenizer.push(1), "\u{FFFD}é");
        assert_eq!(detokenizer.push(4), "");
        assert_eq!(detokenizer.finish(), "\u{FFFD}");
    }

    #[test]
    fn special_tokens_can_be_left_out() {
        let mut detokenizer = Detokenizer::new(vocabulary());
        let text: String = [2, 1, 3].map(|id| detokenizer.push_skipping_special(id)).concat();
        assert_eq!(text, "é<y>");
    }
}
