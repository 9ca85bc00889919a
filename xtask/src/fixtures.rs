//! `cargo xtask fixtures`: makes the reference cases anew, where Python and its packages are there.
//!
//! Building and testing never need this: the cases are part of the repository.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::command;

const SCRIPT: &str = "fixtures/scripts/make_fixtures.py";

/// How the committed set was made.
const COMMITTED_SET: [&str; 5] = ["--small", "--seed", "4321", "--out", "fixtures/parity"];

/// Runs the script with `arguments`, or as the committed set was made where there are none.
pub fn run(root: &Path, arguments: &[&str]) -> Result<()> {
    if !root.join(SCRIPT).is_file() {
        bail!("`{SCRIPT}` is missing from this checkout");
    }
    let arguments = if arguments.is_empty() { &COMMITTED_SET[..] } else { arguments };
    let mut python = Command::new("python3");
    python.current_dir(root).arg(SCRIPT).args(arguments);
    println!("{}", command::shown(&python));
    println!("versions that made the committed set: fixtures/parity/versions.json");
    command::run(&mut python)
        .context("the script needs python3 with the packages of fixtures/parity/versions.json")?;

    let mut changed = Command::new("git");
    changed.current_dir(root).args(["status", "--short", "--", "fixtures/parity"]);
    let changed = String::from_utf8_lossy(&command::output(&mut changed)?).into_owned();
    if changed.is_empty() {
        println!("fixtures/parity is unchanged");
    } else {
        println!("changed:\n{changed}");
    }
    Ok(())
}
