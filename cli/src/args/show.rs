//! `minicrit show`, `list` and `doctor`.

use clap::Args;

/// Arguments of `show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  minicrit show\n  minicrit show ./model --json")]
pub struct ShowArgs {
    /// Model: folder, GGUF file, `nano`, or a name from `minicrit list`
    pub model: Option<String>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  minicrit list\n  minicrit list --json")]
pub struct ListArgs {
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  minicrit doctor\n  minicrit doctor --json")]
pub struct DoctorArgs {
    /// Print one JSON object instead of a report
    #[arg(long)]
    pub json: bool,
}
