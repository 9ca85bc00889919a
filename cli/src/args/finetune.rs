//! `minicrit finetune`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::PullWhen;

const EXAMPLES: &str = "\
Examples:
  minicrit finetune ./Qwen2.5-0.5B-Instruct --data chats.jsonl --output my-adapter
  minicrit finetune ./model --data pairs.jsonl --output tuned --method dpo --init-adapter my-adapter
  minicrit finetune ./model --data chats.jsonl --output my-adapter --dry-run
  minicrit finetune ./model --data cases.jsonl --output better --method rsf --init-adapter my-adapter
  minicrit finetune ./model --data chats.jsonl --output my-adapter --resume
  minicrit run ./model --adapter my-adapter";

/// What is minimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MethodArg {
    /// Answers are imitated
    Sft,
    /// Preferred answers over rejected ones, against a reference
    Dpo,
    /// The same without a reference, by odds ratio
    Orpo,
    /// Single answers, good or bad
    Kto,
    /// Preferred answers over rejected ones by mean log-probability, without a reference
    Simpo,
    /// The model's own best critiques are imitated: several for each case, of which the scorer keeps
    /// some (rejection sampling); the data are cases
    Rsf,
}

/// DPO's loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum PairLossArg {
    Sigmoid,
    Ipo,
    Hinge,
}

/// How the learning rate falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum SchedulerArg {
    Constant,
    Linear,
    Cosine,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Switch {
    On,
    Off,
}

/// Number format of the training's matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum DtypeArg {
    F32,
    Bf16,
}

/// Arguments of `finetune`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct FinetuneArgs {
    /// Model: folder, GGUF file, or a name from `minicrit list` [default: nano] [env: MINICRIT_MODEL]
    pub model: Option<String>,

    /// Training data: a file, or a folder with train.jsonl and perhaps valid.jsonl
    #[arg(long, value_name = "FILE|DIR")]
    pub data: PathBuf,

    /// Data to evaluate on
    #[arg(long, value_name = "FILE")]
    pub valid: Option<PathBuf>,

    /// Share of the training data that is kept for evaluation instead
    #[arg(long, value_name = "SHARE", conflicts_with = "valid")]
    pub valid_split: Option<f64>,

    /// Folder for the result and for checkpoints
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,

    /// What is minimised
    #[arg(long, value_enum, default_value = "sft")]
    pub method: MethodArg,

    /// Leave out rows that can't be used, instead of stopping
    #[arg(long)]
    pub skip_invalid: bool,

    /// Longest sequence in tokens; longer ones are cut and counted [default: 2048, or the model's context]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub max_seq_len: Option<u32>,

    /// Steps (updates)
    #[arg(long, value_name = "N", conflicts_with = "epochs", value_parser = clap::value_parser!(u64).range(1..))]
    pub iters: Option<u64>,

    /// Passes over the data [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub epochs: Option<u64>,

    /// Examples (or packs) that go through the model together
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,

    /// Batches of one step
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub grad_accum: u32,

    /// Fill batches with packs of short examples, each of at most --max-seq-len tokens
    #[arg(long, value_enum, default_value = "off")]
    pub packing: Switch,

    /// Keep the order of the file
    #[arg(long)]
    pub no_shuffle: bool,

    /// Seed of first weights, order and dropout
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Say what would be trained, how long it would take and how much memory, and stop
    #[arg(long, help_heading = "Before training")]
    pub dry_run: bool,

    /// Show the first N examples, coloured by what carries loss, and stop
    #[arg(long, value_name = "N", help_heading = "Before training")]
    pub explain: Option<usize>,

    /// Print one JSON object at the end
    #[arg(long)]
    pub json: bool,

    /// Fetch a model that is not on this machine? [default: missing]
    #[arg(long, value_name = "WHEN")]
    pub pull: Option<PullWhen>,

    /// Threads, at most 512 [default: the cores this process may use] [env: MINICRIT_THREADS]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,

    #[command(flatten)]
    pub adapter: AdapterArgs,

    #[command(flatten)]
    pub optimizer: OptimizerArgs,

    #[command(flatten)]
    pub preference: PreferenceArgs,

    #[command(flatten)]
    pub rejection: RejectionArgs,

    #[command(flatten)]
    pub course: CourseArgs,
}

/// What is trained.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What is trained")]
pub struct AdapterArgs {
    /// Rank
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub rank: u32,

    /// Numerator of the scale alpha / rank
    #[arg(long, value_name = "X", default_value_t = 32.0)]
    pub alpha: f64,

    /// Probability that an input of the adapter is dropped in training
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub dropout: f64,

    /// all-linear, names with commas between, or a regular expression of the whole path
    #[arg(long, value_name = "MODULES", default_value = "all-linear")]
    pub target_modules: String,

    /// Modules left out, in the same forms
    #[arg(long, value_name = "MODULES")]
    pub exclude_modules: Option<String>,

    /// Rank of some modules; may be repeated
    #[arg(long, value_name = "PATTERN=N")]
    pub rank_pattern: Vec<String>,

    /// Alpha of some modules; may be repeated
    #[arg(long, value_name = "PATTERN=X")]
    pub alpha_pattern: Vec<String>,

    /// Only some layers: last:N, or numbers with commas between
    #[arg(long, value_name = "LAYERS")]
    pub layers: Option<String>,

    /// Scale by alpha / sqrt(rank) (rsLoRA)
    #[arg(long)]
    pub rslora: bool,

    /// Learn the magnitude of every row beside its direction (DoRA)
    #[arg(long)]
    pub dora: bool,

    /// Factor on the learning rate of B (LoRA+)
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub lora_plus: f64,

    /// Go on with this adapter; for DPO and KTO it is the reference too
    #[arg(long, value_name = "DIR", conflicts_with_all = ["full", "from_scratch"])]
    pub init_adapter: Option<PathBuf>,

    /// Train every weight; the result is a model folder
    #[arg(long, conflicts_with_all = ["rslora", "dora", "layers", "init_adapter"])]
    pub full: bool,

    /// Train every weight from random first ones
    #[arg(long, conflicts_with_all = ["rslora", "dora", "layers", "init_adapter"])]
    pub from_scratch: bool,

    /// config.json of the new model [default: that of MODEL, which gives the tokenizer]
    #[arg(long, value_name = "FILE", requires = "from_scratch")]
    pub config: Option<PathBuf>,

    /// Pack the frozen weights: q8 (int8), q4 (int4) or none
    #[arg(long, value_name = "FORMAT", default_value = "none")]
    pub base: String,

    /// Number format of matrix products
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: DtypeArg,
}

/// How it is trained.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Optimizer")]
pub struct OptimizerArgs {
    /// Highest learning rate [default: 2e-4 for SFT, 5e-6 for the others; a tenth with --full]
    #[arg(long, value_name = "X")]
    pub lr: Option<f64>,

    /// How the learning rate falls after the warmup
    #[arg(long, value_enum, default_value = "cosine")]
    pub scheduler: SchedulerArg,

    /// Steps over which the learning rate rises [default: 5 % of all]
    #[arg(long, value_name = "STEPS")]
    pub warmup: Option<u64>,

    /// Share of the learning rate that is left at the end
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    pub lr_floor: f64,

    /// Decoupled weight decay
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub weight_decay: f64,

    /// Largest norm of the gradient; 0 for none
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub clip: f64,
}

/// What preference methods need beside that.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Preferences")]
pub struct PreferenceArgs {
    /// Strength of the reference (DPO, KTO: 0.1), weight of the odds ratio (ORPO: 0.1), scale (SimPO: 2)
    #[arg(long, value_name = "X")]
    pub beta: Option<f64>,

    /// DPO's loss
    #[arg(long, value_enum, default_value = "sigmoid")]
    pub loss: PairLossArg,

    /// Probability that a preference is wrong (DPO, sigmoid)
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub label_smoothing: f64,

    /// SimPO's margin
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub gamma: f64,
}

/// What rejection sampling needs beside that.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Rejection sampling")]
pub struct RejectionArgs {
    /// Critiques that are drawn for each case
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=64))]
    pub samples: u32,

    /// Temperature at which they are drawn
    #[arg(long, value_name = "X", default_value_t = 0.8)]
    pub sample_temperature: f64,

    /// Who scores them: `rules`, or a program that gets {"case": ..., "text": ...} and prints a number
    #[arg(long, value_name = "rules|PROGRAM", default_value = "rules")]
    pub scorer: String,
}

/// When what happens.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Checkpoints and evaluation")]
pub struct CourseArgs {
    /// Save a checkpoint after every N steps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub save_every: Option<u64>,

    /// Checkpoints that are kept [default: 2]; with --method rsf, the share of the drawn critiques
    /// that is kept, best first [default: 0.25]
    #[arg(long, value_name = "N|SHARE")]
    pub keep: Option<f64>,

    /// Go on from the newest checkpoint in --output
    #[arg(long)]
    pub resume: bool,

    /// Evaluate after every N steps [default: once an epoch, where there is data for it]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub eval_every: Option<u64>,

    /// Stop after so many evaluations without a better loss, and take the best parameters
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub patience: Option<u64>,

    /// Evaluate before the first step and after the last one
    #[arg(long)]
    pub eval_before_after: bool,
}
