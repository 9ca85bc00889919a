//! `minicrit adapters`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{ComputeArgs, critique::CriticArgs};

const EXAMPLES: &str = "\
Examples:
  minicrit adapters list ./runs
  minicrit adapters verify ./runs/trading --model ./Qwen2.5-0.5B-Instruct
  minicrit adapters merge ./a:0.6 ./b:0.4 --output ./both
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
    /// List the adapters in a folder
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  minicrit adapters list\n  minicrit adapters list ./runs --json"
    )]
    List {
        /// The folder [default: adapters in minicrit's data folder]
        folder: Option<PathBuf>,
        /// Print one JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Describe an adapter: rank, modules, base, what it was made from
    #[command(after_help = "Examples:\n  minicrit adapters show ./runs/trading --json")]
    Show {
        /// The adapter: a folder, or its name in minicrit's data folder
        adapter: String,
        /// Print one JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Load an adapter with its base and check that it fits and changes something
    #[command(
        after_help = "Examples:\n  minicrit adapters verify ./runs/trading --model ./Qwen2.5-0.5B-Instruct"
    )]
    Verify {
        /// The adapter: a folder, or its name in minicrit's data folder
        adapter: String,
        /// The base model
        #[arg(long)]
        model: String,
        /// Print one JSON object instead of a report
        #[arg(long)]
        json: bool,
    },
    /// Make one adapter of several
    Merge(MergeArgs),
    /// Write an adapter as a GGUF file for llama.cpp
    #[command(
        after_help = "Examples:\n  minicrit adapters export ./runs/trading --model ./Qwen2.5-0.5B-Instruct -o trading.gguf"
    )]
    Export {
        /// The adapter: a folder, or its name in minicrit's data folder
        adapter: String,
        /// The base model
        #[arg(long)]
        model: String,
        /// The file to write
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Remove an adapter's folder
    #[command(after_help = "Examples:\n  minicrit adapters rm ./runs/trading --yes")]
    Rm {
        /// The adapter: a folder, or its name in minicrit's data folder
        adapter: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
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

const MERGE_EXAMPLES: &str = "\
Examples:
  minicrit adapters merge ./a:0.6 ./b:0.4 --output ./both
  minicrit adapters merge ./a ./b --method ties --density 0.3 --output ./both

cat is exactly the weighted sum of what the adapters do; ranks add up. The other methods keep the
rank: they combine the factors apart, as PEFT does under the same names.";

/// Arguments of `adapters merge`.
#[derive(Debug, Args)]
#[command(after_help = MERGE_EXAMPLES)]
pub struct MergeArgs {
    /// Adapters, each with its weight behind a colon [default weight: 1]
    #[arg(required = true, value_name = "ADAPTER[:WEIGHT]")]
    pub adapters: Vec<String>,

    /// How they are combined
    #[arg(long, default_value = "cat")]
    pub method: MergeMethod,

    /// Share of values that ties and dare keep
    #[arg(long, default_value_t = 0.5, value_name = "SHARE")]
    pub density: f64,

    /// Seed of what dare keeps
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,

    /// The folder to write
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,
}

/// Names of [`minicrit_lora::adapters::Combination`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MergeMethod {
    /// The exact sum
    Cat,
    /// Sums of the factors
    Linear,
    /// Large values that agree in sign
    Ties,
    /// Random values, summed
    DareLinear,
    /// Random values that agree in sign
    DareTies,
}

const FUSE_EXAMPLES: &str = "\
Examples:
  minicrit fuse ./Qwen2.5-0.5B-Instruct --adapter ./runs/trading --output ./Qwen2.5-0.5B-trading
  minicrit fuse ./base --adapter ./a:0.5 --output ./fused --quant q4 --max-kl 0.02 --json";

/// Arguments of `fuse`.
#[derive(Debug, Args)]
#[command(after_help = FUSE_EXAMPLES)]
pub struct FuseArgs {
    /// The base: folder, GGUF file, `nano`, or a name from `minicrit list`
    pub model: String,

    /// The adapter, with a scale behind a colon
    #[arg(long, value_name = "DIR[:SCALE]")]
    pub adapter: String,

    /// The folder to write: a model in Hugging Face format
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,

    /// How weights are stored
    #[arg(long, default_value = "base")]
    pub dtype: FuseDtype,

    /// Compare after packing the fused weights into q8 or q4, as --quant does at load
    #[arg(long, default_value = "none")]
    pub quant: String,

    /// Mean KL divergence from the unfused model above which nothing is written
    #[arg(long, default_value_t = 0.05, value_name = "NATS")]
    pub max_kl: f64,

    /// Text to compare on [default: a few built-in sentences]
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,

    /// Print one JSON object instead of a report
    #[arg(long)]
    pub json: bool,
}

/// Names of [`minicrit_lora::fuse::FusedDtype`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FuseDtype {
    /// As the base; float32 where the base is quantized
    Base,
    /// float32
    F32,
    /// bfloat16
    Bf16,
}
