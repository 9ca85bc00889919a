//! `minicrit bench`.

use clap::Args;

use super::ComputeArgs;

const EXAMPLES: &str = "\
Examples:
  minicrit bench                                   the built-in model
  minicrit bench ./model --prompt-len 512 --gen-len 64 --reps 5
  minicrit bench ./model --quant q4 --rows 2,4,8   what verifying drafts costs
  minicrit bench ./model --depth 4096 --threads 2 --json";

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// Model: folder, GGUF file, `nano`, or a name from `minicrit list`
    pub model: Option<String>,

    /// Tokens in the measured prompt
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt_len: u32,

    /// Tokens to generate
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    pub gen_len: u32,

    /// Tokens in the context before the measured prompt
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub depth: u32,

    /// Compare the cost of so many rows in one step with that of one, as speculation verifies them
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=512))]
    pub rows: Vec<u32>,

    /// Repetitions
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub reps: u32,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub compute: ComputeArgs,
}
