//! Commands that keep the library: `create`, `cp`, `rm`, `verify`, `cache`, `audit`, `config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Arguments of `create`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  minicrit create critic -f Modelfile\n  printf 'FROM qwen2.5:0.5b\\nSYSTEM Be brief.\\n' | minicrit create brief -f -\n\nInstructions: FROM, ADAPTER, DRAFT, SYSTEM, TEMPLATE (Jinja), PARAMETER, MESSAGE, LICENSE."
)]
pub struct CreateArgs {
    /// Name of the new model
    pub name: String,

    /// What it is made of; `-` is standard input
    #[arg(long, short, value_name = "MODELFILE")]
    pub file: PathBuf,
}

/// Arguments of `cp`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  minicrit cp qwen2.5:0.5b draft\n  minicrit cp critic critic:old"
)]
pub struct CopyArgs {
    /// A model
    pub source: String,

    /// Its further name
    pub name: String,
}

/// Arguments of `rm`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  minicrit rm critic\n  minicrit rm Qwen/Qwen2.5-0.5B-Instruct\n\nThe cache is shared with Hugging Face's Python libraries: what they fetched is removed only with --yes."
)]
pub struct RemoveArgs {
    /// Models to remove: names made by `create` or `cp`, or models of the hub
    #[arg(required = true, value_name = "MODEL")]
    pub models: Vec<String>,

    /// Also what this program did not pull itself
    #[arg(long, short)]
    pub yes: bool,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  minicrit verify\n  minicrit verify Qwen/Qwen2.5-0.5B-Instruct --json\n  minicrit verify qwen2.5:0.5b --discard && minicrit pull qwen2.5:0.5b"
)]
pub struct VerifyArgs {
    /// A model of the hub [default: all that are here]
    pub model: Option<String>,

    /// Remove files whose bytes are wrong, so that the next pull fetches them again
    #[arg(long)]
    pub discard: bool,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `cache`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  minicrit cache list\n  minicrit cache prune --dry-run\n  minicrit cache prune --old --quant"
)]
pub struct CacheArgs {
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// Commands of `cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List the pulled models and the rounded weights that are kept, with their sizes
    List {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },

    /// Remove parts of pulls that ended early, files that no model has, and rounded weights whose
    /// model is gone or has changed
    Prune {
        /// Also all other rounded weights, which --quant then makes again
        #[arg(long)]
        quant: bool,

        /// Also commits that no branch or tag has any more
        #[arg(long)]
        old: bool,

        /// Say what would be removed, and remove nothing
        #[arg(long)]
        dry_run: bool,

        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `audit`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  minicrit audit verify\n  minicrit audit show --json")]
pub struct AuditArgs {
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// Commands of `audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check that no line was changed, added or taken out
    Verify {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the log
    Show {
        /// Print the lines as they are, one JSON object each
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `config`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  minicrit config show --origin\n  minicrit config show --json")]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// Commands of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the settings that hold here
    Show {
        /// Also where each comes from
        #[arg(long)]
        origin: bool,

        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}
