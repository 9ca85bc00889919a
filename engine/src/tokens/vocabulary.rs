//! What each token id stands for, as bytes.

use std::collections::BTreeSet;

/// Whether a token is text or steers the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Plain text: its bytes are printed.
    Text,
    /// An added token (special or not) such as `<|im_end|>` or `<think>`: never made from content.
    Control,
    /// An id that the model has and the tokenizer does not (a padded vocabulary).
    Unused,
}

/// A table from id to bytes. Ids run from 0 to [`Vocabulary::len`] without holes.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    entries: Vec<Entry>,
    strip_leading_space: bool,
    special: BTreeSet<u32>,
}

#[derive(Debug, Clone)]
struct Entry {
    bytes: Vec<u8>,
    kind: TokenKind,
}

impl Vocabulary {
    /// A table of `(bytes, kind)` by id. `strip_leading_space`: SentencePiece's habit of adding a
    /// space in front of a text, which decoding takes away again.
    pub fn new(entries: Vec<(Vec<u8>, TokenKind)>, strip_leading_space: bool) -> Self {
        let entries = entries.into_iter().map(|(bytes, kind)| Entry { bytes, kind }).collect();
        Self { entries, strip_leading_space, special: BTreeSet::new() }
    }

    /// Says which control tokens a reader never sees: Hugging Face's special ones. Others, such as
    /// `<think>` in some models, are printed.
    #[must_use]
    pub fn with_special(mut self, ids: impl IntoIterator<Item = u32>) -> Self {
        self.special = ids.into_iter().collect();
        self
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no ids.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes that `id` stands for; empty for an id that the table does not hold.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.entries.get(id as usize).map_or(&[], |it| &it.bytes)
    }

    /// What `id` is; ids outside the table are [`TokenKind::Unused`].
    pub fn kind(&self, id: u32) -> TokenKind {
        self.entries.get(id as usize).map_or(TokenKind::Unused, |it| it.kind)
    }

    /// Whether `id` is a control token that decoding for a reader leaves out.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// Whether decoding drops one space at the start of a text.
    pub fn strips_leading_space(&self) -> bool {
        self.strip_leading_space
    }
}
