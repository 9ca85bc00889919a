//! `minicrit adapters`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ComputeArgs, critique::CriticArgs};

const EXAMPLES: &str = "\
Examples:
  minicrit adapters promote ./out --name critic-trading --suite holdout
  minicrit adapters history critic-trading
  minicrit adapters rollback critic-trading
  minicrit critique \"...\" --adapter critic-trading";

/// Arguments of `adapters`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct AdaptersArgs {
    /// What to do
    #[command(subcommand)]
    pub command: AdaptersCommand,
}

/// What can be done with adapters.
#[derive(Debug, Subcommand)]
pub enum AdaptersCommand {
    /// Put an adapter into use, unless it is worse than what is in use
    Promote(Box<PromoteArgs>),
    /// List the versions of a name
    History(HistoryArgs),
    /// Put an earlier version back into use
    Rollback(RollbackArgs),
}

const PROMOTE: &str = "\
Examples:
  minicrit adapters promote ./out --name critic-trading
  minicrit adapters promote ./out --name critic-cyber --suite cases.jsonl --domain cyber --json

The adapter, the version in use, the base and the base with a long prompt are measured on the same
cases. It is refused (exit code 1) where F1 or false positives are worse by more than noise.";

/// Arguments of `adapters promote`.
#[derive(Debug, Args)]
#[command(after_help = PROMOTE)]
pub struct PromoteArgs {
    /// The adapter's folder
    pub adapter_dir: PathBuf,

    /// The name that it is used by
    #[arg(long, value_name = "NAME")]
    pub name: String,

    /// What to measure on: adversarial, holdout, or a file
    #[arg(long, value_name = "SUITE", default_value = "holdout")]
    pub suite: String,

    /// Only cases of this domain
    #[arg(long, value_name = "NAME")]
    pub domain: Option<String>,

    /// Seed of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub critic: CriticArgs,

    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Arguments of `adapters history`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  minicrit adapters history critic-trading\n  minicrit adapters history critic-trading --json"
)]
pub struct HistoryArgs {
    /// The name
    pub name: String,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `adapters rollback`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  minicrit adapters rollback critic-trading\n  minicrit adapters rollback critic-trading --to 3"
)]
pub struct RollbackArgs {
    /// The name
    pub name: String,

    /// The version to go back to [default: the one that was in use before]
    #[arg(long, value_name = "N")]
    pub to: Option<u32>,
}
