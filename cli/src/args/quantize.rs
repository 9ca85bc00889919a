//! `minicrit quantize`.

use std::path::PathBuf;

use clap::Args;

const EXAMPLES: &str = "\
Examples:
  minicrit quantize ./model --format q4 --output model.minicrit
  minicrit quantize ./model --budget 400MB --output model.minicrit --data mine.jsonl
  minicrit quantize ./model --format q4_k_m --output model-q4_k_m.gguf
  minicrit quantize ./model --format q6_k --output model.gguf --report --data mine.jsonl
  minicrit quantize ./model --format q4_k --output model.gguf --calibrate mine.jsonl";

/// Arguments of `quantize`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct QuantizeArgs {
    /// Model: folder, GGUF file, `nano`, or a name from `minicrit list`
    pub model: String,

    /// q8 or q4: a packed file, which starts at once; q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k,
    /// q6_k, q4_k_m, q5_k_m, f16, bf16 or f32: a GGUF file
    #[arg(
        long,
        value_name = "FORMAT",
        required_unless_present = "budget",
        conflicts_with = "budget"
    )]
    pub format: Option<String>,

    /// Pick q4 or q8 for each layer, by what it is measured to cost, so that the packed file has at
    /// most this size (such as 400MB or 1.2GB)
    #[arg(long, value_name = "SIZE")]
    pub budget: Option<String>,

    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    /// Replace --output where it exists
    #[arg(long)]
    pub force: bool,

    /// Measure the written file against its source: divergence, perplexity, speed, layer by layer
    #[arg(long)]
    pub report: bool,

    /// Texts of report and budget: JSONL of {"text": ...} or {"messages": [...]} [default: a built-in one]
    #[arg(long, value_name = "JSONL")]
    pub data: Option<PathBuf>,

    /// Round finer where the inputs of these texts are large: JSONL as for --data
    #[arg(long, value_name = "JSONL")]
    pub calibrate: Option<PathBuf>,

    /// Threads, at most 512 [default: the cores this process may use] [env: MINICRIT_THREADS]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,

    /// Print one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
}
