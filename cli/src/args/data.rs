//! `minicrit data`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    critic_data::{DedupArgs, FlawsArgs, HardExamplesArgs, ScoreTextArgs, SplitArgs, StatsArgs},
    model_data::{ImproveArgs, PairsArgs},
};

const EXAMPLES: &str = "\
Examples:
  minicrit data check train.jsonl
  minicrit data hard-examples --count 10000 --output train.jsonl
  minicrit data hard-examples --count 600 --held-out --seed 2 --output heldout.jsonl
  minicrit data stats train.jsonl";

/// Arguments of `data`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DataArgs {
    /// What to do
    #[command(subcommand)]
    pub command: DataCommand,
}

/// One thing to do with data.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Find every problem in training data: syntax, roles, duplicates, leaks, lengths
    Check(DataCheckArgs),
    /// Generate labelled rationales on which critics go wrong
    HardExamples(Box<HardExamplesArgs>),
    /// Make preference pairs of a model's critiques
    PreferencePairs(Box<PairsArgs>),
    /// Let a model improve its critiques by principles
    Improve(Box<ImproveArgs>),
    /// Print the flaws that a critic can name
    Flaws(FlawsArgs),
    /// Remove repeated and nearly repeated rows
    Dedup(DedupArgs),
    /// Split a file without near duplicates on both sides
    Split(SplitArgs),
    /// Count labels, flaws, lengths and duplicates of a file
    Stats(StatsArgs),
    /// Score texts by rules and say why
    Score(ScoreTextArgs),
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
