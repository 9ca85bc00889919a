//! `minicrit data`: what needs a model.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::{ComputeArgs, critique::CriticArgs};

const PAIRS: &str = "\
Examples:
  minicrit data preference-pairs --input cases.jsonl --candidates 4 --output pairs.jsonl
  minicrit data preference-pairs --input cases.jsonl --judge ./big-model --output pairs.jsonl
  minicrit data preference-pairs --input cases.jsonl --score-command ./score.sh --output pairs.jsonl

The best and the worst of several critiques become a pair for `finetune --method dpo`. By rules, the
true verdict and flaw of the case count most. A command gets {\"case\": ..., \"text\": ...} on standard
input and prints a number. A run that was stopped goes on where it was.";

/// Arguments of `data preference-pairs`.
#[derive(Debug, Args)]
#[command(after_help = PAIRS, group = ArgGroup::new("scorer").args(["judge", "score_command"]))]
pub struct PairsArgs {
    /// Cases, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,

    /// Where the pairs go
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,

    /// Critiques of each case
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=64))]
    pub candidates: u32,

    /// Temperature at which they are drawn
    #[arg(long, value_name = "X", default_value_t = 0.8)]
    pub temperature: f64,

    #[command(flatten)]
    pub scoring: ScoringArgs,

    #[command(flatten)]
    pub critic: CriticArgs,

    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// How critiques get points.
#[derive(Debug, Clone, Args)]
pub struct ScoringArgs {
    /// Let this model give the points instead of the rules
    #[arg(long, value_name = "MODEL")]
    pub judge: Option<String>,

    /// Let this program give the points instead of the rules
    #[arg(long, value_name = "PROGRAM")]
    pub score_command: Option<PathBuf>,

    /// Least difference of points between the two of a pair
    #[arg(long, value_name = "X", default_value_t = 0.5)]
    pub margin: f64,

    /// Seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

const IMPROVE: &str = "\
Examples:
  minicrit data improve --input cases.jsonl --model ./model --output pairs.jsonl
  minicrit data improve --input cases.jsonl --constitution principles.txt --output pairs.jsonl

The model writes a critique, says which principles it does not keep, and writes it again; the two become
a pair only if the second has more points.";

/// Arguments of `data improve`.
#[derive(Debug, Args)]
#[command(after_help = IMPROVE, group = ArgGroup::new("scorer").args(["judge", "score_command"]))]
pub struct ImproveArgs {
    /// Cases, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,

    /// Where the pairs go
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,

    /// Principles of a good critique, one a line [default: built in]
    #[arg(long, value_name = "FILE")]
    pub constitution: Option<PathBuf>,

    #[command(flatten)]
    pub scoring: ScoringArgs,

    #[command(flatten)]
    pub critic: CriticArgs,

    #[command(flatten)]
    pub compute: ComputeArgs,
}
