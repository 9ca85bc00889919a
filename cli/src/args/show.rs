//! `minicrit show`, `list` and `doctor`.

use clap::Args;

/// Arguments of `show`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  minicrit show\n  minicrit show ./model --json\n  minicrit show qwen2.5:0.5b --fit"
)]
pub struct ShowArgs {
    /// Model: folder, GGUF file, `nano`, or a name from `minicrit list`
    pub model: Option<String>,

    /// The memory it needs, against what this machine has
    #[arg(long)]
    pub fit: bool,

    /// The Modelfile of a model that was made by `create` or `cp`
    #[arg(long, conflicts_with_all = ["json", "fit"])]
    pub modelfile: bool,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  minicrit list\n  minicrit list --available\n  minicrit list --json"
)]
pub struct ListArgs {
    /// All models that minicrit knows by name, here or not
    #[arg(long)]
    pub available: bool,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  minicrit doctor\n  minicrit doctor --json\n  minicrit doctor --network"
)]
pub struct DoctorArgs {
    /// Also ask whether the hub can be reached; nothing is asked without it
    #[arg(long)]
    pub network: bool,

    /// Print one JSON object instead of a report
    #[arg(long)]
    pub json: bool,
}
