//! What can be typed: raw structs, as clap fills them. What they mean is in [`crate::settings`].

mod adapters;
mod bench;
mod compute;
mod critic_data;
mod critique;
mod data;
mod eval;
mod finetune;
mod library;
mod model_data;
mod pull;
mod quantize;
mod run;
pub mod sampling;
mod score;
mod show;
mod tokenize;

pub use adapters::{
    AdaptersArgs, AdaptersCommand, FuseArgs, FuseDtype, HistoryArgs, MergeArgs, MergeMethod,
    PromoteArgs, RollbackArgs,
};
pub use bench::BenchArgs;
pub use compute::{CacheWidth, ComputeArgs};
pub use critic_data::{
    DedupArgs, FlawsArgs, HardExamplesArgs, PatternsArg, ScoreTextArgs, SplitArgs, StatsArgs,
};
pub use critique::{CriticArgs, CritiqueArgs};
pub use data::{DataArgs, DataCheckArgs, DataCommand};
pub use eval::{EvalArgs, ThresholdArgs};
pub use finetune::{
    AdapterArgs, CourseArgs, DtypeArg, FinetuneArgs, MethodArg, OptimizerArgs, PairLossArg,
    PreferenceArgs, RejectionArgs, SchedulerArg, Switch,
};
pub use library::{
    AuditArgs, AuditCommand, CacheArgs, CacheCommand, ConfigArgs, ConfigCommand, CopyArgs,
    CreateArgs, RemoveArgs, VerifyArgs,
};
pub use model_data::{ImproveArgs, PairsArgs, ScoringArgs};
pub use pull::{PullArgs, PullWhen};
pub use quantize::QuantizeArgs;
pub use run::RunArgs;
pub use sampling::SamplingArgs;
pub use score::ScoreArgs;
pub use show::{DoctorArgs, ListArgs, ShowArgs};
pub use tokenize::TokenizeArgs;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

use crate::{env, errors, printer};

/// Run, score and measure small language models on this machine.
#[derive(Debug, Parser)]
#[command(
    name = "minicrit",
    version,
    disable_help_subcommand = true,
    after_help = SHORT_EXAMPLES,
    after_long_help = format!("{SHORT_EXAMPLES}\n\n{}\n\n{EXIT_CODES}", env::help())
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

impl Cli {
    /// The command, if there is one.
    pub fn into_command(self) -> Option<Command> {
        self.command
    }
}

const SHORT_EXAMPLES: &str = "\
Examples:
  minicrit run \"Last 3 trades won, so the 4th will.\"   ask the built-in model
  minicrit run ./Qwen2.5-0.5B-Instruct                 chat with a model folder or GGUF file
  minicrit score nano --text \"Two and two is four.\"    log-probability of every token
  minicrit doctor                                      what this machine can run";

const EXIT_CODES: &str = "\
Exit codes:
  0 done  1 failed  2 wrong usage  3 not found or offline
  4 not enough memory or disk  10 a verdict of --fail-on
  100 a threshold was missed  130 interrupted";

/// One command and what was typed after it.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer a prompt, or chat where there is none
    Run(Box<RunArgs>),
    /// Find the flaw in an argument
    Critique(Box<CritiqueArgs>),
    /// Measure how good a critic is
    Eval(Box<EvalArgs>),
    /// Make, clean and count data for critics
    Data(DataArgs),
    /// Put adapters into use, and back out of it
    Adapters(AdaptersArgs),
    /// Print exact log-probabilities of given text
    Score(ScoreArgs),
    /// Turn text or chat messages into token ids
    Tokenize(TokenizeArgs),
    /// Describe a model: architecture, size, formats, template
    Show(ShowArgs),
    /// Train an adapter, or a whole model, on your data
    Finetune(Box<FinetuneArgs>),
    /// Measure speed and memory of a model on this machine
    Bench(BenchArgs),
    /// Write a model in a smaller format, and measure what that costs
    Quantize(Box<QuantizeArgs>),
    /// Merge an adapter into its base: one model of plain weights
    Fuse(FuseArgs),
    /// Fetch a model from the hub
    Pull(PullArgs),
    /// List the models that are here, or with --available those known by name
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Make a model of one's own: a base, an adapter, a system message, settings
    Create(CreateArgs),
    /// Give a model a further name
    Cp(CopyArgs),
    /// Remove models
    Rm(RemoveArgs),
    /// Check the bytes of pulled models
    Verify(VerifyArgs),
    /// Look after the cache of pulled models
    Cache(CacheArgs),
    /// Check or print the log of what was done to models
    Audit(AuditArgs),
    /// Print the settings that hold here
    Config(ConfigArgs),
    /// Check this machine and say what fits on it
    Doctor(DoctorArgs),
    /// Print a script that completes minicrit's commands in a shell
    #[command(
        after_help = "Examples:\n  minicrit completions bash > ~/.local/share/bash-completion/completions/minicrit\n  minicrit completions zsh > ~/.zfunc/_minicrit"
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Render a chat template in a process of its own, whose death harms nobody
    #[command(hide = true)]
    RenderTemplate,
}

/// The command that was typed, or the error or help text that clap has for it.
///
/// # Errors
/// [`errors::Failure`] with exit code 2 for wrong usage.
pub fn parse() -> anyhow::Result<Option<Command>> {
    match Cli::try_parse() {
        Ok(cli) => Ok(cli.into_command()),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                printer::data_styled(&error.render())?;
                Err(errors::Finished(ExitCode::SUCCESS).into())
            }
            _ => Err(errors::usage(&error, &typed_command()).into()),
        },
    }
}

/// `minicrit` and the subcommand that was typed, if it is one.
fn typed_command() -> String {
    let known = |word: &String| Cli::command().find_subcommand(word).is_some();
    match std::env::args().nth(1).filter(known) {
        Some(word) => format!("minicrit {word}"),
        None => "minicrit".into(),
    }
}

/// The text that `minicrit` alone prints.
pub fn short_help() -> clap::builder::StyledStr {
    Cli::command().render_help()
}

/// The whole command line, for completion scripts.
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_visible_command_has_examples() {
        for command in Cli::command().get_subcommands().filter(|it| !it.is_hide_set()) {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(text.starts_with("Examples:"), "{} has no examples", command.get_name());
        }
    }
}
