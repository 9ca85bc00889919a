//! `cargo xtask`: the project's own checks, in Rust instead of shell.
//!
//! Nothing here is shipped, and no other crate may depend on it. It knows the shape of the
//! repository and the programs `cargo` and `git`, but no model and no arithmetic.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool that reports to a terminal")]

mod ci;
mod command;
mod fixtures;
mod same;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask TASK

  ci                 format, tidy, tests, clippy, documentation; stops at the first failure
  tidy               crate edges and the rules of the source that no compiler checks
  fixtures [ARGS]    makes fixtures/parity anew through its Python script (ARGS are passed on)
  same REV1 REV2     proves that two revisions compute the same bytes on every fixture
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let root = command::repository_root()?;
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["ci"] => ci::run(&root),
        ["tidy"] => tidy::run(&root),
        ["fixtures", ref rest @ ..] => fixtures::run(&root, rest),
        ["same", old, new] => same::run(&root, old, new),
        [] | ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => bail!("no such task: `{}`\n\n{USAGE}", words.join(" ")),
    }
}
