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
mod config_folder;
mod data_folder;
mod fetch;
mod memory;
mod model;
mod prompt;
mod training_data;

mod answer;
mod chat_loop;
mod commands;

fn main() -> std::process::ExitCode {
    signals::install();
    match args::parse().and_then(|command| commands::execute(command, &env::Environment::read())) {
        Ok(status) => status.into(),
        Err(error) => errors::report(&error),
    }
}
