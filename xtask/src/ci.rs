//! `cargo xtask ci`: every check of a change, cheap ones first.
//!
//! Steps always select the whole workspace: another selection would unify Cargo features
//! differently and build every dependency a second time.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{command, tidy};

/// One check: what it is called, and what to type to run it alone.
struct Step {
    name: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

const STEPS: [Step; 4] = [
    Step { name: "format", arguments: &["fmt", "--all", "--check"], environment: &[] },
    Step { name: "tests", arguments: &["test", "--workspace"], environment: &[] },
    Step {
        name: "clippy",
        arguments: &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
        environment: &[],
    },
    Step {
        name: "documentation",
        arguments: &["doc", "--workspace", "--no-deps"],
        environment: &[("RUSTDOCFLAGS", "-D warnings")],
    },
];

/// Runs all checks and stops at the first that fails.
pub fn run(root: &Path) -> Result<()> {
    let mut times = Vec::new();
    for step in &STEPS {
        times.push(timed(step.name, || run_step(root, step))?);
        // Tidy is as quick as the format check, so it runs before anything is compiled.
        if step.name == "format" {
            times.push(timed("tidy", || tidy::run(root).context("run `cargo xtask tidy`"))?);
        }
    }
    println!("\nall checks passed");
    for (name, time) in times {
        println!("{name:>14} {:7.1} s", time.as_secs_f64());
    }
    Ok(())
}

fn run_step(root: &Path, step: &Step) -> Result<()> {
    let mut command = Command::new(command::cargo());
    command.current_dir(root).args(step.arguments).envs(step.environment.iter().copied());
    command::run(&mut command).with_context(|| format!("run `{}`", by_hand(step)))
}

/// The command line that repeats one step alone.
fn by_hand(step: &Step) -> String {
    let mut words: Vec<String> =
        step.environment.iter().map(|(name, value)| format!("{name}='{value}'")).collect();
    words.push("cargo".to_owned());
    words.extend(step.arguments.iter().map(|&it| it.to_owned()));
    words.join(" ")
}

fn timed(
    name: &'static str,
    work: impl FnOnce() -> Result<()>,
) -> Result<(&'static str, Duration)> {
    println!("\n== {name}");
    let start = Instant::now();
    work().with_context(|| format!("{name} failed"))?;
    let time = start.elapsed();
    println!("== {name}: {:.1} s", time.as_secs_f64());
    Ok((name, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_says_what_to_type() {
        let step = STEPS.iter().find(|it| it.name == "documentation").expect("a step");
        assert_eq!(by_hand(step), "RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps");
        let error = timed("tests", || Err(anyhow::anyhow!("run `cargo test`"))).expect_err("fails");
        assert_eq!(format!("{error:#}"), "tests failed: run `cargo test`");
    }

    #[test]
    fn every_compiling_step_selects_the_whole_workspace() {
        for step in STEPS.iter().filter(|it| it.name != "format") {
            assert!(step.arguments.contains(&"--workspace"), "{}", step.name);
        }
    }
}
