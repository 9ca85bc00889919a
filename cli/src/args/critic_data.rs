//! `minicrit data`: what makes, cleans and counts data for critics.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{ComputeArgs, critique::CriticArgs};

const HARD_EXAMPLES: &str = "\
Examples:
  minicrit data hard-examples --count 10000 --output train.jsonl
  minicrit data hard-examples --kinds subtle-flaw,mixed-signals --domains cyber --count 50
  minicrit data hard-examples --from cases.jsonl --count 500 --output more.jsonl
  minicrit data hard-examples --count 500 --model ./big-model --output rephrased.jsonl

Kinds: subtle-flaw, sophisticated-valid, mixed-signals, cognitive-bias, overconfident-wrong, uncertain-correct.
Domains: trading, defense, cyber, medical, general.
With --model the model says each rationale in its own words; where a check is not sure that the label
is still true, the item stays as it was made. A run that was stopped goes on where it was.
The same seed gives the same items. With all kinds, half are valid and half flawed. Each line serves
`eval` and, by its `messages`, `finetune`.";

/// Patterns of argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PatternsArg {
    /// Those of every field
    Common,
    /// Those of the item's own field
    Domain,
    /// Both, in equal parts
    All,
}

/// Arguments of `data hard-examples`.
#[derive(Debug, Args)]
#[command(after_help = HARD_EXAMPLES)]
pub struct HardExamplesArgs {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,

    /// Kinds, separated by commas, or `all`
    #[arg(long, alias = "types", value_name = "KINDS", default_value = "all")]
    pub kinds: String,

    /// Domains, separated by commas, or `all`
    #[arg(long, value_name = "DOMAINS", default_value = "all")]
    pub domains: String,

    /// Seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Make items from clauses and words that training items never use
    #[arg(long)]
    pub held_out: bool,

    /// Make items from clauses and words that neither training nor held-out items use: for
    /// calibration and the choice of settings
    #[arg(long, conflicts_with = "held_out")]
    pub tuning: bool,

    /// Patterns of argument; general has none of its own and takes the common ones
    #[arg(long, value_enum, default_value = "common")]
    pub patterns: PatternsArg,

    /// Share of training items whose words are invented, so that a model learns to judge by form
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub invented: f64,

    /// Let the answers in `messages` end after verdict and flaw
    #[arg(long)]
    pub short: bool,

    /// Make variants of the cases in this file instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kinds", "domains", "held_out", "tuning", "patterns", "invented", "short"])]
    pub from: Option<PathBuf>,

    /// Where they go [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Temperature of rephrasing, with --model
    #[arg(long, value_name = "X", default_value_t = 0.7)]
    pub temperature: f64,

    #[command(flatten)]
    pub critic: CriticArgs,

    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Arguments of `data flaws`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  minicrit data flaws\n  minicrit data flaws --json")]
pub struct FlawsArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `data dedup`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  minicrit data dedup all.jsonl --output unique.jsonl\n  minicrit data dedup all.jsonl --similarity 0.7 --json > report.json"
)]
pub struct DedupArgs {
    /// File of one JSON object a line
    pub file: PathBuf,

    /// Rows at least this similar count as one: the share of common runs of three words
    #[arg(long, value_name = "X", default_value_t = 0.8)]
    pub similarity: f64,

    /// Where the rows that stay go; without it nothing is written
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `data split`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  minicrit data split all.jsonl --valid 0.1 --output folder\n\nWrites train.jsonl and valid.jsonl; rows that are nearly the same, or have the same `template`, stay together."
)]
pub struct SplitArgs {
    /// File of one JSON object a line
    pub file: PathBuf,

    /// Share of rows for valid.jsonl
    #[arg(long, value_name = "X", default_value_t = 0.1)]
    pub valid: f64,

    /// Rows at least this similar stay together
    #[arg(long, value_name = "X", default_value_t = 0.8)]
    pub similarity: f64,

    /// Seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Folder for train.jsonl and valid.jsonl
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `data stats`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  minicrit data stats train.jsonl\n  minicrit data stats train.jsonl --svg stats.svg --json"
)]
pub struct StatsArgs {
    /// File of one JSON object a line
    pub file: PathBuf,

    /// Draw the counts into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `data score`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  minicrit data score answers.jsonl --explain\n  minicrit data score answers.jsonl --scorer seed003 --min 7 --output kept.jsonl\n\nScorers: default (rewards and penalties), seed003 (rewards alone: it never rejects anything), critique (for critiques)."
)]
pub struct ScoreTextArgs {
    /// File of one JSON object a line, with `text`, `output`, `completion`, `critique` or `messages`
    pub file: PathBuf,

    /// Rules to score by: default, seed003 or critique
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub scorer: String,

    /// Say what each text got points for
    #[arg(long)]
    pub explain: bool,

    /// Rows below this are left out of --output
    #[arg(long, value_name = "X", default_value_t = 7.0)]
    pub min: f64,

    /// Where the rows that stay go, each with its `score`
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
