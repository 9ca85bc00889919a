//! `cargo xtask tidy`: rules of this repository that no compiler checks.
//!
//! Each rule is a pure function from text to [`Problem`]s, so that its test can feed it a small bad
//! example. All problems are reported at once.

mod edges;
mod limits;
mod rules;
mod source;

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::command;
use limits::Limits;
use source::SourceFile;

/// One broken rule: where, which, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// File (relative to the repository) and line, or the crate.
    place: String,
    rule: &'static str,
    message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.rule, self.message)
    }
}

/// Checks the repository at `root` and lists every problem.
pub fn run(root: &Path) -> Result<()> {
    let problems = check(root)?;
    for problem in &problems {
        println!("{problem}");
    }
    if !problems.is_empty() {
        bail!("{} tidy problem(s)", problems.len());
    }
    Ok(())
}

fn check(root: &Path) -> Result<Vec<Problem>> {
    let members = edges::read_members(&metadata(root)?)?;
    let mut problems = edges::check(&members);

    let limits = Limits::parse(&read(&root.join("tidy.toml"))?)?;
    problems.extend(limits::check_lock(&read(&root.join("Cargo.lock"))?, &limits)?);

    let mut files = Vec::new();
    for member in &members {
        for path in rust_files(&member.folder)? {
            let text = read(&path)?;
            files.push(SourceFile::new(relative(root, &path), text));
        }
    }
    for file in &files {
        problems.extend(rules::check(file));
    }
    problems.extend(rules::ops_have_gradient_checks(&files));
    problems.extend(limits::check_lengths(&files, &limits));
    Ok(problems)
}

/// What cargo knows about the members alone: it needs neither the network nor other crates.
fn metadata(root: &Path) -> Result<serde_json::Value> {
    let mut command = Command::new(command::cargo());
    command.current_dir(root).args(["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    serde_json::from_slice(&command::output(&mut command)?).context("cargo metadata is not JSON")
}

/// Every Rust file of a crate, in a fixed order. Build outputs and hidden folders are not entered.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("can't read the folder `{}`", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("can't read `{}`", path.display()))
}

/// A path below `root` with forward slashes, as the rules and tidy.toml spell it.
fn relative(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    below.components().map(|it| it.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The repository itself is tidy: so `cargo test` alone guards the rules too.
    #[test]
    fn this_repository_is_tidy() {
        let root = command::repository_root().expect("a root");
        let problems = check(&root).expect("readable");
        let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
        assert!(lines.is_empty(), "\n{}", lines.join("\n"));
    }
}
