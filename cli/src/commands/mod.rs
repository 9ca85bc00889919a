//! One file for each command. A command gets settings, calls the engine and prints.

mod adapters;
mod bench;
mod completions;
mod data;
mod doctor;
mod fuse;
mod list;
mod pull;
mod run;
mod score;
mod show;
mod tokenize;

use std::{io, process::ExitCode};

pub use run::{banner, tell_figures};

use minicrit_engine::chat;
use minicrit_quant::pool::Threads;

use crate::{
    args::{self, Command, PullWhen},
    catalog::Catalog,
    env::Environment,
    errors::Failure,
    fetch,
    model::ModelRef,
    printer,
    settings::{
        BenchSettings, Compute, DataCheckSettings, FuseSettings, RunSettings, ScoreSettings, Talk,
        TokenizeSettings, model_or_default,
    },
};

/// How a command that did not fail ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// All is done.
    Done,
    /// A check found something wrong.
    Failed,
    /// Ctrl-C.
    Interrupted,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        use crate::errors::exit;
        match status {
            Status::Done => ExitCode::SUCCESS,
            Status::Failed => ExitCode::from(exit::FAILED),
            Status::Interrupted => ExitCode::from(exit::INTERRUPTED),
        }
    }
}

/// Runs what was typed; without a command, prints the short help.
///
/// # Errors
/// Whatever the command meets.
pub fn execute(command: Option<Command>, environment: &Environment) -> anyhow::Result<Status> {
    let Some(command) = command else {
        printer::data_styled(&args::short_help())?;
        return Ok(Status::Done);
    };
    let catalog = &Catalog::read(environment)?;
    match command {
        Command::Run(args) => {
            let in_terminal = printer::stdin_is_terminal();
            let settings = RunSettings::resolve(*args, environment, catalog, in_terminal)?;
            let quiet = settings.talk == Talk::Quiet;
            let when = settings.compute.pull.unwrap_or(PullWhen::Missing);
            let draft = settings.drafting.model();
            let models: Vec<&ModelRef> = draft.into_iter().chain([&settings.model]).collect();
            fetch::missing(&models, when, quiet, environment)?;
            with_threads(&settings.compute, || run::run(&settings, environment))
        }
        Command::Score(args) => {
            let settings = ScoreSettings::resolve(args, environment, catalog)?;
            fetch_if_asked(&settings.model, &settings.compute, environment)?;
            with_threads(&settings.compute, || score::score(&settings))
        }
        Command::Tokenize(args) => tokenize::tokenize(&TokenizeSettings::resolve(args, catalog)?),
        Command::Show(args::ShowArgs { model, json }) => {
            let model = model_or_default(model, environment, catalog)?;
            show::show(&model, catalog, json)
        }
        Command::Bench(args) => {
            let settings = BenchSettings::resolve(args, environment, catalog)?;
            fetch_if_asked(&settings.model, &settings.compute, environment)?;
            with_threads(&settings.compute, || bench::bench(&settings))
        }
        Command::Adapters(args::AdaptersArgs { command }) => {
            adapters::adapters(command, environment, catalog)
        }
        Command::Fuse(args) => fuse::fuse(&FuseSettings::resolve(args, environment, catalog)?),
        Command::Data(args::DataArgs { command: args::DataCommand::Check(args) }) => {
            let settings = DataCheckSettings::resolve(args, environment, catalog)?;
            with_workers(settings.threads, || data::check(&settings))
        }
        Command::Pull(args) => pull::pull(&args, catalog, environment),
        Command::List(args::ListArgs { json }) => list::list(catalog, json),
        Command::Doctor(args::DoctorArgs { json }) => doctor::doctor(catalog, environment, json),
        Command::Completions { shell } => completions::completions(shell),
        Command::RenderTemplate => {
            chat::render_child(io::stdin().lock(), io::stdout().lock())?;
            Ok(Status::Done)
        }
    }
}

/// Fetches the model of a command that does so only where `--pull missing` says it.
fn fetch_if_asked(
    model: &ModelRef,
    compute: &Compute,
    environment: &Environment,
) -> anyhow::Result<()> {
    let when = compute.pull.unwrap_or(PullWhen::Never);
    fetch::missing(&[model], when, false, environment)
}

/// Runs `work` on as many threads as the user wants; candle's loops use the same ones.
fn with_threads(
    compute: &Compute,
    work: impl FnOnce() -> anyhow::Result<Status> + Send,
) -> anyhow::Result<Status> {
    with_workers(compute.threads, work)
}

fn with_workers(
    count: usize,
    work: impl FnOnce() -> anyhow::Result<Status> + Send,
) -> anyhow::Result<Status> {
    let threads = Threads::new(count).map_err(|error| {
        Failure::failed("threads", format!("can't start {count} threads: {error}"))
            .hint("pass a smaller --threads")
    })?;
    threads.run(work)
}
