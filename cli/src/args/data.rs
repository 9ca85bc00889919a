//! `minicrit data`.

use clap::{Args, Subcommand};

use super::{
    critic_data::{DedupArgs, FlawsArgs, HardExamplesArgs, ScoreTextArgs, SplitArgs, StatsArgs},
    model_data::{ImproveArgs, PairsArgs},
};

const EXAMPLES: &str = "\
Examples:
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
    /// Generate labelled rationales on which critics go wrong
    HardExamples(HardExamplesArgs),
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
