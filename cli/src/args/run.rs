//! `minicrit run`.

use std::path::PathBuf;

use clap::Args;

use super::{ComputeArgs, SamplingArgs};

const EXAMPLES: &str = "\
Examples:
  minicrit run \"Is this argument sound? ...\"            the built-in model answers
  minicrit run ./model \"Name three rivers.\" -n 64       a model folder
  minicrit run model.gguf                               chat in the terminal
  cat notes.txt | minicrit run ./model                  the prompt from a pipe
  minicrit run ./model --messages chat.json --json      one JSON object, for programs
  minicrit run ./model \"Once\" --raw --draft ngram       no chat template, speculative drafts

MODEL is a folder in Hugging Face format, a GGUF file, `nano` (built in) or a name from `minicrit list`.
With one argument: it is the MODEL if it names one, else the PROMPT for the built-in model.
Without PROMPT: standard input is the prompt, or, in a terminal, a chat begins.";

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLES,
)]
pub struct RunArgs {
    /// Model: folder, GGUF file, `nano`, or a name from `minicrit list`
    #[arg(value_name = "MODEL")]
    pub first: Option<String>,

    /// What to answer [default: standard input, or a chat]
    #[arg(value_name = "PROMPT")]
    pub second: Option<String>,

    /// System message in front of the chat
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["raw", "ids"])]
    pub system: Option<String>,

    /// Chat messages from a JSON file instead of PROMPT
    #[arg(long, value_name = "FILE", conflicts_with_all = ["raw", "ids", "second", "system"])]
    pub messages: Option<PathBuf>,

    /// Token ids from a JSON array instead of PROMPT
    #[arg(long, value_name = "FILE", conflicts_with = "second")]
    pub ids: Option<PathBuf>,

    /// Give PROMPT to the model as it stands, without a chat template
    #[arg(long)]
    pub raw: bool,

    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,

    /// Print the answer when it is whole, not as it grows
    #[arg(long)]
    pub no_stream: bool,

    /// Say everything about time and memory after the answer
    #[arg(long, conflicts_with = "quiet")]
    pub verbose: bool,

    /// Print nothing but the answer
    #[arg(long, short)]
    pub quiet: bool,

    /// Draft tokens ahead: a small MODEL with the same tokenizer, or `ngram`
    #[arg(long, value_name = "MODEL|ngram")]
    pub draft: Option<String>,

    /// Tokens in each draft
    #[arg(long, value_name = "K", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub draft_tokens: u32,

    #[command(flatten)]
    pub sampling: SamplingArgs,

    #[command(flatten)]
    pub compute: ComputeArgs,
}
