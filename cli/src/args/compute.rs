//! Flags of every command that computes.

use clap::Args;

use super::PullWhen;

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

    /// Pack weights at load: q8 (int8), q4 (int4) or none; smaller, faster and a little less exact
    #[arg(long, value_name = "FORMAT", default_value = "none")]
    pub quant: String,

    /// Fetch a model that is not on this machine? [default: missing for run, never elsewhere]
    #[arg(long, value_name = "WHEN")]
    pub pull: Option<PullWhen>,

    /// Adapter folder (PEFT format) to apply; `:0.5` after it scales its change
    #[arg(long, value_name = "DIR[:SCALE]")]
    pub adapter: Option<String>,
}
