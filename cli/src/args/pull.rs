//! `minicrit pull`.

use clap::Args;

const EXAMPLES: &str = "\
Examples:
  minicrit pull qwen2.5:0.5b                            a name from `minicrit list --available`
  minicrit pull Qwen/Qwen2.5-0.5B-Instruct              a repository of the hub
  minicrit pull Qwen/Qwen2.5-0.5B-Instruct@main         one of its revisions
  minicrit pull Qwen/Qwen2.5-0.5B-Instruct-GGUF:q8_0    one of its GGUF files
  minicrit pull qwen2.5:0.5b --dry-run                  what would be fetched, and its size

Files go to the cache that Hugging Face's Python libraries use (HF_HUB_CACHE), under a lock, and
become visible only after their size and digest were checked. A pull that was cut goes on where it
ended. Only safetensors, GGUF, tokenizer and config files are fetched.";

/// Arguments of `pull`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PullArgs {
    /// What to fetch.
    #[arg(
        value_name = "MODEL",
        help = "Name from `minicrit list --available`, or organization/name[@revision][:gguf]"
    )]
    pub model: String,

    /// Ask the hub what would be fetched, and fetch nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Print one JSON object instead of the path
    #[arg(long)]
    pub json: bool,

    /// Print nothing but the result
    #[arg(long, short)]
    pub quiet: bool,
}

/// When a command that computes fetches a model that is not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PullWhen {
    // Documentation here would turn every help page into its long form.
    Missing,
    Never,
}
