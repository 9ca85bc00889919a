//! `minicrit tokenize`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

const EXAMPLES: &str = "\
Examples:
  minicrit tokenize nano --text \"Hello, world\"
  minicrit tokenize ./model --messages chat.json --json
  minicrit tokenize ./model --messages chat.json --tools tools.json --no-generation-prompt";

/// Arguments of `tokenize`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("input").required(true).args(["text", "messages"]))]
pub struct TokenizeArgs {
    /// Model: folder, GGUF file, `nano`, or a name from `minicrit list`
    pub model: String,

    /// Text to encode, without a chat template
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,

    /// Chat messages to render and encode: a JSON file
    #[arg(long, value_name = "FILE")]
    pub messages: Option<PathBuf>,

    /// Tools for the chat template: a JSON array
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    pub tools: Option<PathBuf>,

    /// Do not open the assistant's turn at the end
    #[arg(long, conflicts_with = "text")]
    pub no_generation_prompt: bool,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}
