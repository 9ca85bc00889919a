//! Tells a model's thinking from its answer while text streams.
//!
//! Reasoning models write `<think>...</think>` before they answer; some templates open the tag
//! already in the prompt. The tags arrive as control tokens or as plain text, and plain text can
//! be cut anywhere. This module looks at text only and must not know tokens.
//!
//! ```
//! use minicrit_engine::think::{ThinkSplitter, Piece};
//!
//! let mut splitter = ThinkSplitter::new(false);
//! let mut pieces = splitter.push("<thi");
//! pieces.extend(splitter.push("nk>hm</think>yes"));
//! pieces.extend(splitter.finish());
//! assert_eq!(pieces, [Piece::thinking("hm"), Piece::answer("yes")]);
//! ```

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// A stretch of text of one kind; never empty, never with a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The text.
    pub text: String,
    /// Whether it is thinking.
    pub thinking: bool,
}

impl Piece {
    /// A stretch of thinking.
    pub fn thinking(text: impl Into<String>) -> Self {
        Self { text: text.into(), thinking: true }
    }

    /// A stretch of the answer.
    pub fn answer(text: impl Into<String>) -> Self {
        Self { text: text.into(), thinking: false }
    }
}

/// Splits one stream. What could be the beginning of a tag is held back until it is clear.
#[derive(Debug, Clone)]
pub struct ThinkSplitter {
    thinking: bool,
    held: String,
}

impl ThinkSplitter {
    /// A splitter for what follows a prompt; `open` says that the prompt ends inside of thinking.
    pub fn new(open: bool) -> Self {
        Self { thinking: open, held: String::new() }
    }

    /// A splitter for what follows `prompt`: whether its last tag is an open one decides.
    pub fn after(prompt: &str) -> Self {
        let open = match (prompt.rfind(OPEN), prompt.rfind(CLOSE)) {
            (Some(open), Some(close)) => open > close,
            (open, _) => open.is_some(),
        };
        // A tag further up belongs to a message; only what a template wrote last can still be open.
        let at_end = prompt.trim_end().ends_with(OPEN);
        Self::new(open && at_end)
    }

    /// Whether the stream is inside of thinking now.
    pub fn is_thinking(&self) -> bool {
        self.thinking
    }

    /// Takes the next text and gives what is certain.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        loop {
            let tag = self.awaited();
            if let Some(start) = self.held.find(tag) {
                self.emit(start, &mut pieces);
                self.held.drain(..tag.len());
                self.thinking = !self.thinking;
                continue;
            }
            let certain = self.held.len() - possible_start(&self.held, tag);
            self.emit(certain, &mut pieces);
            return pieces;
        }
    }

    /// The end of the stream: what was held back is text after all.
    pub fn finish(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        self.emit(self.held.len(), &mut pieces);
        pieces
    }

    fn awaited(&self) -> &'static str {
        if self.thinking { CLOSE } else { OPEN }
    }

    fn emit(&mut self, len: usize, pieces: &mut Vec<Piece>) {
        if len > 0 {
            let text = self.held.drain(..len).collect();
            pieces.push(Piece { text, thinking: self.thinking });
        }
    }
}

/// Length of the longest end of `text` that is the beginning of `tag`.
fn possible_start(text: &str, tag: &str) -> usize {
    (1..tag.len()).rev().find(|len| text.ends_with(&tag[..*len])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Joins neighbours of one kind.
    fn joined(pieces: Vec<Piece>) -> Vec<Piece> {
        let mut joined: Vec<Piece> = Vec::new();
        for piece in pieces {
            match joined.last_mut() {
                Some(last) if last.thinking == piece.thinking => last.text.push_str(&piece.text),
                _ => joined.push(piece),
            }
        }
        joined
    }

    /// However the text is cut, the result is the same.
    fn check(open: bool, text: &str, expect: &[Piece]) {
        let ends: Vec<usize> = text.char_indices().map(|it| it.0).chain([text.len()]).collect();
        for step in 1..=ends.len() {
            let mut splitter = ThinkSplitter::new(open);
            let mut pieces = Vec::new();
            let mut start = 0;
            for end in ends
                .iter()
                .copied()
                .skip(1)
                .enumerate()
                .filter(|it| it.0 % step == step - 1)
                .map(|it| it.1)
            {
                pieces.extend(splitter.push(&text[start..end]));
                start = end;
            }
            pieces.extend(splitter.push(&text[start..]));
            pieces.extend(splitter.finish());
            assert_eq!(joined(pieces), expect, "{text:?} in steps of {step}");
        }
    }

    #[test]
    fn tags_are_found_wherever_the_text_is_cut() {
        check(false, "plain <b> text", &[Piece::answer("plain <b> text")]);
        check(
            false,
            "<think>\nhm\n</think>\n\nyes",
            &[Piece::thinking("\nhm\n"), Piece::answer("\n\nyes")],
        );
        check(true, "hm</think>yes", &[Piece::thinking("hm"), Piece::answer("yes")]);
        check(true, "hm <think> again", &[Piece::thinking("hm <think> again")]);
        check(false, "a<think></think>b", &[Piece::answer("ab")]);
        check(
            false,
            "a<<think>é<</think><th",
            &[Piece::answer("a<"), Piece::thinking("é<"), Piece::answer("<th")],
        );
        check(false, "</think>x", &[Piece::answer("</think>x")]);
    }

    #[test]
    fn a_prompt_says_whether_thinking_is_open() {
        assert!(ThinkSplitter::after("<|im_start|>assistant\n<think>\n").is_thinking());
        assert!(!ThinkSplitter::after("<think>\n\n</think>\n\n").is_thinking());
        assert!(!ThinkSplitter::after("what is <think>? <|im_start|>assistant\n").is_thinking());
        assert!(!ThinkSplitter::after("").is_thinking());
    }
}
