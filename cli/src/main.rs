//! The binary `minicrit`: arguments, settings, commands, printing; nothing else.
//!
//! The path of every command: [`args`] (what was typed) > [`settings`] (what it means) >
//! [`commands`] (calls into the engine) > [`printer`]. The environment is read in `env.rs` alone.

mod args;
mod env;
mod settings;

mod errors;
mod printer;
mod pull_bars;
mod signals;

mod adapter;
mod catalog;
mod config;
mod config_folder;
mod data_folder;
mod fetch;
mod journal;
mod kept;
mod memory;
mod model;
mod prompt;
mod training_data;

mod answer;
mod chat_loop;
mod commands;

fn main() -> std::process::ExitCode {
    minicrit_quant::keep_freed_memory();
    signals::install();
    match args::parse().and_then(execute) {
        Ok(status) => status.into(),
        Err(error) => errors::report(&error),
    }
}

fn execute(command: Option<args::Command>) -> anyhow::Result<commands::Status> {
    let mut environment = env::Environment::read();
    let settings = config::complete(&mut environment)?;
    commands::execute(command, &environment, &settings)
}
