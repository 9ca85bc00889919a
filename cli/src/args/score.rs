//! `minicrit score`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::ComputeArgs;

const EXAMPLES: &str = "\
Examples:
  minicrit score nano --text \"Two and two is four.\"
  minicrit score ./model --text \"The claim is\" --continuation \" valid\" --continuation \" flawed\" --json
  minicrit score ./model --ids ids.json --logits logits.safetensors";

/// Arguments of `score`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("input").required(true).args(["text", "ids"]))]
pub struct ScoreArgs {
    /// Model: folder, GGUF file, `nano`, or a name from `minicrit list`
    pub model: String,

    /// Text to score, without a chat template; control tokens in it count as such
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,

    /// Token ids to score: a JSON array
    #[arg(long, value_name = "FILE")]
    pub ids: Option<PathBuf>,

    /// Score this text after the given one; may be repeated
    #[arg(long = "continuation", value_name = "TEXT", allow_hyphen_values = true)]
    pub continuations: Vec<String>,

    /// Write float32 `logits` [tokens, vocabulary] to this safetensors file
    #[arg(long, value_name = "FILE", conflicts_with = "continuations")]
    pub logits: Option<PathBuf>,

    /// Print one JSON object instead of a table: `logprobs` are of the tokens in their order,
    /// `top1_ids` are the most probable tokens after each of them
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub compute: ComputeArgs,
}
