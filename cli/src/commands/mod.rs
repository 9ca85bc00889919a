//! One file for each command. A command gets settings, calls the engine and prints.

mod adapters;
mod bench;
mod completions;
mod critic;
mod critic_data;
mod critique;
mod data;
mod doctor;
mod eval;
mod finetune;
mod fuse;
mod hard_examples;
mod library;
mod list;
mod model_data;
mod points;
mod promotion;
mod pull;
mod quantize;
mod run;
mod score;
mod show;
mod tokenize;
mod upkeep;

use std::{io, process::ExitCode};

pub use run::{banner, tell_figures};

use minicrit_engine::chat;
use minicrit_quant::pool::Threads;

use crate::{
    args::{self, AdaptersCommand, Command, DataCommand, PullWhen},
    catalog::Catalog,
    config::Setting,
    env::Environment,
    errors::Failure,
    fetch,
    model::ModelRef,
    printer,
    settings::{
        BenchSettings, Compute, CritiqueSettings, DataCheckSettings, EvalSettings,
        FinetuneSettings, FuseSettings, QuantizeSettings, RunSettings, ScoreSettings, Talk,
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
    /// A verdict that `--fail-on` names.
    Flawed,
    /// A threshold was missed.
    Missed,
    /// Ctrl-C.
    Interrupted,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        use crate::errors::exit;
        match status {
            Status::Done => ExitCode::SUCCESS,
            Status::Failed => ExitCode::from(exit::FAILED),
            Status::Flawed => ExitCode::from(exit::FLAWED),
            Status::Missed => ExitCode::from(exit::MISSED),
            Status::Interrupted => ExitCode::from(exit::INTERRUPTED),
        }
    }
}

/// Runs what was typed; without a command, prints the short help.
///
/// # Errors
/// Whatever the command meets.
pub fn execute(
    command: Option<Command>,
    environment: &Environment,
    config: &[Setting],
) -> anyhow::Result<Status> {
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
            with_threads(settings.compute.threads, || run::run(&settings, environment))
        }
        Command::Critique(args) => {
            let in_terminal = printer::stdin_is_terminal();
            let settings = CritiqueSettings::resolve(*args, environment, catalog, in_terminal)?;
            fetch_if_asked(&settings.critic.model, &settings.critic.compute, environment)?;
            with_threads(settings.critic.compute.threads, || critique::critique(&settings))
        }
        Command::Eval(args) => {
            let settings = EvalSettings::resolve(*args, environment, catalog)?;
            fetch_if_asked(&settings.critic.model, &settings.critic.compute, environment)?;
            with_threads(settings.critic.compute.threads, || eval::eval(&settings))
        }
        Command::Adapters(args) => match args.command {
            AdaptersCommand::Promote(_)
            | AdaptersCommand::History(_)
            | AdaptersCommand::Rollback(_) => {
                promotion::adapters(args.command, environment, catalog)
            }
            other => adapters::adapters(other, environment, catalog),
        },
        Command::Data(args) => match args.command {
            DataCommand::Check(args) => {
                let settings = DataCheckSettings::resolve(args, environment, catalog)?;
                with_threads(settings.threads, || data::check(&settings))
            }
            DataCommand::PreferencePairs(args) => {
                model_data::preference_pairs(*args, environment, catalog)
            }
            DataCommand::Improve(args) => model_data::improve(*args, environment, catalog),
            DataCommand::HardExamples(args) => {
                hard_examples::hard_examples(*args, environment, catalog)
            }
            other => critic_data::data(other),
        },
        Command::Score(args) => {
            let settings = ScoreSettings::resolve(args, environment, catalog)?;
            fetch_if_asked(&settings.model, &settings.compute, environment)?;
            with_threads(settings.compute.threads, || score::score(&settings))
        }
        Command::Tokenize(args) => tokenize::tokenize(&TokenizeSettings::resolve(args, catalog)?),
        Command::Show(args::ShowArgs { model, fit, modelfile, json }) => {
            let model = model_or_default(model, environment, catalog)?;
            match (fit, modelfile) {
                (true, _) => show::fit(&model, catalog, json),
                (false, true) => show::modelfile(&model),
                (false, false) => show::show(&model, catalog, json),
            }
        }
        Command::Bench(args) => {
            let settings = BenchSettings::resolve(args, environment, catalog)?;
            fetch_if_asked(&settings.model, &settings.compute, environment)?;
            with_threads(settings.compute.threads, || bench::bench(&settings))
        }
        Command::Quantize(args) => {
            let settings = QuantizeSettings::resolve(*args, environment, catalog)?;
            with_threads(settings.threads, || quantize::quantize(&settings))
        }
        Command::Finetune(args) => {
            let settings = FinetuneSettings::resolve(*args, environment, catalog)?;
            let when = settings.compute.pull.unwrap_or(PullWhen::Missing);
            fetch::missing(&[&settings.model], when, settings.json, environment)?;
            with_threads(settings.compute.threads, || finetune::finetune(&settings, environment))
        }
        Command::Fuse(args) => {
            fuse::fuse(&FuseSettings::resolve(args, environment, catalog)?, environment)
        }
        Command::Pull(args) => pull::pull(&args, catalog, environment),
        Command::List(args::ListArgs { available: true, json }) => list::available(catalog, json),
        Command::List(args::ListArgs { available: false, json }) => list::here(catalog, json),
        Command::Create(args) => library::create(&args, catalog, environment),
        Command::Cp(args) => library::copy(&args, catalog, environment),
        Command::Rm(args) => library::remove(&args, catalog, environment),
        Command::Verify(args) => upkeep::verify(&args, catalog),
        Command::Cache(args) => upkeep::cache(&args.command, catalog, environment),
        Command::Audit(args) => upkeep::audit(&args.command, environment),
        Command::Config(args) => upkeep::config(&args.command, config),
        Command::Doctor(args::DoctorArgs { network, json }) => {
            doctor::doctor(catalog, environment, network, json)
        }
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
    count: usize,
    work: impl FnOnce() -> anyhow::Result<Status> + Send,
) -> anyhow::Result<Status> {
    let threads = Threads::new(count).map_err(|error| {
        Failure::failed("threads", format!("can't start {count} threads: {error}"))
            .hint("pass a smaller --threads")
    })?;
    threads.run(work)
}
