//! `minicrit critique`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::ComputeArgs;

const EXAMPLES: &str = "\
Examples:
  minicrit critique \"Last 3 trades won, so I'm 95% sure the 4th will.\"
  minicrit critique --file memo.txt --explain --model ./Qwen2.5-0.5B-Instruct
  cat memo.txt | minicrit critique - --json --fail-on flawed
  minicrit critique --batch rationales.jsonl -o critiques.jsonl --adapter ./critic-trading

Verdict and flaw come from the exact probabilities of the labels, in one prefill; an explanation is
written only with --explain. Without it, a flaw is described in the words of the taxonomy.";

/// Arguments of `critique`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("input").args(["text", "file", "batch"]))]
pub struct CritiqueArgs {
    /// The argument to judge, or `-` for standard input
    pub text: Option<String>,

    /// The argument to judge, in a text file
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Many arguments: a file of lines like {"rationale": "..."}; further fields are kept
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub batch: Option<PathBuf>,

    /// Where the critiques of --batch go [default: standard output]
    #[arg(long, short, value_name = "FILE", requires = "batch")]
    pub output: Option<PathBuf>,

    /// Write an explanation and a fix
    #[arg(long)]
    pub explain: bool,

    /// Exit with code 10 if a verdict is this one
    #[arg(long, value_name = "VERDICT", value_parser = ["flawed"])]
    pub fail_on: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub critic: CriticArgs,

    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Which critic.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Critic")]
pub struct CriticArgs {
    /// Model: folder, GGUF file, `nano`, or a name from `minicrit list` [default: nano] [env: MINICRIT_MODEL]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,

    /// Ask an OpenAI-compatible server at this address instead, such as http://127.0.0.1:8000/v1;
    /// --model is the model's name there [env: MINICRIT_ENDPOINT_KEY]
    #[arg(long, value_name = "URL", requires = "model", conflicts_with = "adapter")]
    pub endpoint: Option<String>,

    /// How the argument is put to the model: rationale, analyze, expert or cot [default: rationale
    /// for the built-in model and with --adapter, else expert]
    #[arg(long, value_name = "STYLE")]
    pub prompt: Option<String>,
}
