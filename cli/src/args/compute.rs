//! Flags of every command that computes.

use clap::{Args, ValueEnum};

use super::PullWhen;

/// How keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CacheWidth {
    // Documentation here would turn every help page into its long form.
    F32,
    F16,
    Bf16,
}

/// How to load and drive a model.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Computing")]
pub struct ComputeArgs {
    /// Threads, at most 512 [default: the cores this process may use] [env: MINICRIT_THREADS]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,

    /// Rows in one prefill step; changes speed and memory, never a result
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub chunk: u32,

    /// Context length in tokens [default: the model's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub ctx: Option<u32>,

    /// Round weights at load: q8 (int8), q4 (int4), a GGUF type such as q6_k, or none; smaller,
    /// faster and a little less exact
    #[arg(long, value_name = "FORMAT", default_value = "none")]
    pub quant: String,

    /// How keys and values are kept: f16 and bf16 take half the memory and are a little less exact
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub cache_type: CacheWidth,

    /// Do not keep the weights of --quant q8 or q4 for the next start (also: cache_quant = false in
    /// config.toml)
    #[arg(long)]
    pub no_cache_quant: bool,

    /// Fetch a model that is not on this machine? [default: missing for run, never elsewhere]
    #[arg(long, value_name = "WHEN")]
    pub pull: Option<PullWhen>,

    /// Adapter folder (PEFT format) to apply; `:0.5` after it scales its change
    #[arg(long, value_name = "DIR[:SCALE]")]
    pub adapter: Option<String>,
}
