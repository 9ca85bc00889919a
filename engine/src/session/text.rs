//! Tokens to pieces of text: whole characters, stop strings cut off, thinking told apart.

use std::sync::Arc;

use crate::{
    stop::StopMatcher,
    think::{Piece, ThinkSplitter},
    tokens::{Detokenizer, Vocabulary},
};

/// The way from token ids to text.
pub(super) struct TextStream {
    detokenizer: Detokenizer,
    stops: StopMatcher,
    thinking: ThinkSplitter,
}

impl TextStream {
    pub(super) fn new(vocabulary: Arc<Vocabulary>, stops: &[String], thinking: bool) -> Self {
        Self {
            detokenizer: Detokenizer::new(vocabulary),
            stops: StopMatcher::new(stops),
            thinking: ThinkSplitter::new(thinking),
        }
    }

    /// Feeds a token; returns the text that is now certain and the stop string that ends it.
    pub(super) fn push(&mut self, id: u32) -> (Vec<Piece>, Option<String>) {
        let text = self.detokenizer.push(id);
        self.feed(&text)
    }

    /// The rest of the text. Its very end can still complete a stop string.
    pub(super) fn finish(&mut self) -> (Vec<Piece>, Option<String>) {
        let text = self.detokenizer.finish();
        let (mut pieces, stopped_by) = self.feed(&text);
        if stopped_by.is_none() {
            pieces.extend(self.thinking.push(&self.stops.finish()));
            pieces.extend(self.thinking.finish());
        }
        (pieces, stopped_by)
    }

    fn feed(&mut self, text: &str) -> (Vec<Piece>, Option<String>) {
        let released = self.stops.push(text);
        let mut pieces = self.thinking.push(&released.text);
        if released.stopped_by.is_some() {
            pieces.extend(self.thinking.finish());
        }
        (pieces, released.stopped_by)
    }
}
