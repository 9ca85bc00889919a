//! Text to token ids and back.
//!
//! Two rules: text from a user, a data row or a persona never becomes a control token
//! ([`Tokenizer::encode_content`]); and a tokenizer file is checked before the `tokenizers` crate
//! sees it ([`guard`]), because crafted files make that crate panic.

mod detokenizer;
mod error;
pub mod guard;
mod tokenizer;
mod vocabulary;

pub use detokenizer::Detokenizer;
pub use error::TokensError;
pub use tokenizer::Tokenizer;
pub use vocabulary::{TokenKind, Vocabulary};
