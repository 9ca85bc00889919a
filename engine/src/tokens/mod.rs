//! Text to token ids and back.
//!
//! Two rules: text from a user, a data row or a persona never becomes a control token
//! ([`Tokenizer::encode_content`]); and a tokenizer file is checked before the `tokenizers` crate
//! sees it (`guard.rs`), because crafted files make that crate panic.

mod bytes;
mod detokenizer;
mod error;
mod guard;
mod loader;
mod tokenizer;
mod vocabulary;

pub use detokenizer::Detokenizer;
pub use error::TokensError;
pub use tokenizer::{Tokenizer, eos_ids, token_text};
pub use vocabulary::{TokenKind, Vocabulary};
