//! What the fuzz targets of tokens and templates call; see bodies.rs.
#![allow(dead_code, reason = "each fuzz target uses one body of this file")]

use minicrit_engine::{chat, tokens};

/// A tokenizer.json; one that is accepted must also encode and decode.
pub fn tokenizer_guard(data: &[u8]) -> bool {
    const VOCAB_SIZE: usize = 1024;
    let Ok(tokenizer) = tokens::Tokenizer::from_json(data, None, VOCAB_SIZE) else {
        return false;
    };
    // The last one makes a pattern that backtracks take exponential time.
    let many = "a".repeat(64);
    for text in ["", "Hello, world", "<|im_start|>", "a\u{301}\u{1f600}\r\n\t \0", &many] {
        if let Ok(ids) = tokenizer.encode_content(text) {
            tokenizer.decode(&ids);
        }
    }
    true
}

/// A chat template, rendered in this process with a short dialog.
pub fn template(data: &[u8]) -> bool {
    let Ok(source) = std::str::from_utf8(data) else { return false };
    let messages =
        [chat::Message::new("system", "Be brief."), chat::Message::new("user", "Hello <|im_end|>")];
    let options = chat::RenderOptions::on(jiff::civil::date(2026, 1, 2));
    let template = chat::ChatTemplate::new(source, Some("<s>"), Some("</s>"))
        .map(|it| it.with_isolation(chat::Isolation::InProcess));
    template.is_ok_and(|it| it.render(&messages, &options).is_ok())
}
