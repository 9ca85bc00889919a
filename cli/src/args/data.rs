//! `minicrit data`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

const EXAMPLES: &str = "\
Examples:
  minicrit data check train.jsonl
  minicrit data check ./data --model ./Qwen2.5-0.5B-Instruct --max-seq-len 2048";

/// Arguments of `data`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DataArgs {
    /// What to do with it
    #[command(subcommand)]
    pub command: DataCommand,
}

/// What can be done with training data.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Find every problem in training data: syntax, roles, duplicates, leaks, lengths
    Check(DataCheckArgs),
}

const CHECK_EXAMPLES: &str = "\
Examples:
  minicrit data check train.jsonl
  minicrit data check train.jsonl --valid valid.jsonl --rejected bad.jsonl
  minicrit data check ./data --model ./Qwen2.5-0.5B-Instruct --max-seq-len 2048 --json

Exit codes: 0 no problem, 1 problems found, 3 no such file";

/// Arguments of `data check`.
#[derive(Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub struct DataCheckArgs {
    /// A JSONL or JSON file, or a folder with train.jsonl and perhaps valid.jsonl
    pub data: PathBuf,

    /// Validation data: also looks for prompts that are in both
    #[arg(long, value_name = "FILE")]
    pub valid: Option<PathBuf>,

    /// Also check with this model's tokenizer and chat template
    #[arg(long)]
    pub model: Option<String>,

    /// Tokens that a sequence may have; what is longer is counted as cut
    #[arg(long, value_name = "N", requires = "model", value_parser = clap::value_parser!(u32).range(2..))]
    pub max_seq_len: Option<u32>,

    /// Write rows that can't be used to this file
    #[arg(long, value_name = "FILE")]
    pub rejected: Option<PathBuf>,

    /// Problems to show of each rule [default: 5, with --json all]
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,

    /// Print one JSON object instead of a report
    #[arg(long)]
    pub json: bool,
}
