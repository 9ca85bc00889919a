//! `cargo xtask same OLD NEW`: a refactoring changes no bit, proven on every fixture.
//!
//! Both revisions are built in worktrees of their own and given the same inputs, those of the
//! current checkout. Compared are the logits file of `score` byte for byte, and of `score` and
//! `run` every field of their JSON answer that is not a measurement.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command;

/// Fields that differ from run to run: measurements.
const MEASURED: [&str; 2] = ["timings", "peak_rss_bytes"];

/// A revision's own checkout; dropped, it is removed.
struct Worktree<'a> {
    root: &'a Path,
    folder: PathBuf,
}

/// One fixture model and the prompt that both revisions get.
struct Case {
    name: String,
    model: PathBuf,
    ids: PathBuf,
}

/// What a revision answers for one case.
#[derive(PartialEq)]
struct Answer {
    score: Value,
    logits: Vec<u8>,
    run: Value,
}

/// Builds both revisions and compares their answers.
pub fn run(root: &Path, old: &str, new: &str) -> Result<()> {
    let scratch = root.join("target/same");
    fs::create_dir_all(&scratch).with_context(|| format!("can't make `{}`", scratch.display()))?;
    let old_binary = build(root, &scratch, old, "old")?;
    let new_binary = build(root, &scratch, new, "new")?;
    let cases = read_cases(&root.join("fixtures/parity"), &scratch)?;
    let mut differing = 0;
    for case in &cases {
        let old_answer = ask(&old_binary, case, &scratch).with_context(|| format!("in {old}"))?;
        let new_answer = ask(&new_binary, case, &scratch).with_context(|| format!("in {new}"))?;
        let differences = differences(&old_answer, &new_answer);
        differing += usize::from(!differences.is_empty());
        let verdict =
            if differences.is_empty() { "same".to_owned() } else { differences.join("; ") };
        println!("{:>22}: {verdict}", case.name);
    }
    if differing > 0 {
        bail!("{differing} of {} models answer differently in {old} and {new}", cases.len());
    }
    println!("{} models answer with the same bytes in {old} and {new}", cases.len());
    Ok(())
}

/// Builds a revision and returns the path of its program.
fn build(root: &Path, scratch: &Path, revision: &str, role: &str) -> Result<PathBuf> {
    println!("building {revision}");
    let worktree = Worktree { root, folder: scratch.join(format!("tree-{role}")) };
    worktree.remove();
    let mut add = Command::new("git");
    add.current_dir(root).args(["worktree", "add", "--quiet", "--force", "--detach"]);
    command::run(add.arg(&worktree.folder).arg(revision))?;

    // Both share one folder of compiled dependencies; only our own crates are built twice.
    let target = scratch.join("target");
    let mut cargo = Command::new(command::cargo());
    cargo.current_dir(&worktree.folder).env("CARGO_TARGET_DIR", &target);
    command::run(cargo.args(["build", "--release", "--locked"]))?;

    let binary = scratch.join(format!("minicrit-{role}{}", std::env::consts::EXE_SUFFIX));
    let built = target.join(format!("release/minicrit{}", std::env::consts::EXE_SUFFIX));
    fs::copy(&built, &binary).with_context(|| format!("can't copy `{}`", built.display()))?;
    Ok(binary)
}

impl Worktree<'_> {
    /// Removes what an interrupted run may have left; that there is nothing is not an error.
    fn remove(&self) {
        if self.folder.exists() {
            let mut git = Command::new("git");
            git.current_dir(self.root).args(["worktree", "remove", "--force"]).arg(&self.folder);
            if let Err(error) = command::run(&mut git) {
                eprintln!("warning: {error:#}");
            }
        }
    }
}

impl Drop for Worktree<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Every folder of the fixtures that holds a model and a prompt.
fn read_cases(fixtures: &Path, scratch: &Path) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let entries = fs::read_dir(fixtures);
    for entry in entries.with_context(|| format!("can't read `{}`", fixtures.display()))? {
        let model = entry?.path();
        let fixture = model.join("fixture.json");
        if !model.join("config.json").is_file() || !fixture.is_file() {
            continue;
        }
        let name = model.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read(&fixture).with_context(|| format!("can't read {name}'s fixture"))?;
        let fixture: Value = serde_json::from_slice(&text).with_context(|| format!("in {name}"))?;
        let Some(prompt) = fixture.get("ids_40").or_else(|| fixture.get("ids_5")) else { continue };
        let ids = scratch.join(format!("{name}.ids.json"));
        fs::write(&ids, prompt.to_string()).context("can't write the prompt")?;
        cases.push(Case { name, model, ids });
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    if cases.is_empty() {
        bail!("no models in `{}`: nothing would be compared", fixtures.display());
    }
    Ok(cases)
}

fn ask(binary: &Path, case: &Case, scratch: &Path) -> Result<Answer> {
    let logits = scratch.join("logits.safetensors");
    let mut score = Command::new(binary);
    score.arg("score").arg(&case.model).arg("--ids").arg(&case.ids).arg("--json");
    score.arg("--logits").arg(&logits);
    let score = answer_of(&mut score)?;
    let mut run = Command::new(binary);
    run.arg("run").arg(&case.model).args(["--raw", "--json", "--ignore-eos"]);
    run.args(["--temperature", "0", "--max-tokens", "32"]).arg("--ids").arg(&case.ids);
    let run = answer_of(&mut run)?;
    let bytes = fs::read(&logits).with_context(|| format!("no logits of {}", case.name))?;
    fs::remove_file(&logits).context("can't remove the logits")?;
    Ok(Answer { score, logits: bytes, run })
}

/// The JSON object that a command prints, without its measurements.
fn answer_of(command: &mut Command) -> Result<Value> {
    let output = command::output(command)?;
    let mut answer: Value = serde_json::from_slice(&output)
        .with_context(|| format!("{} printed no JSON", command::shown(command)))?;
    if let Some(fields) = answer.as_object_mut() {
        fields.retain(|name, _| !MEASURED.contains(&name.as_str()));
    }
    Ok(answer)
}

/// What differs between two answers, in words.
fn differences(old: &Answer, new: &Answer) -> Vec<String> {
    let mut differences = Vec::new();
    if old.logits != new.logits {
        let at = old.logits.iter().zip(&new.logits).position(|(a, b)| a != b);
        let at = at.unwrap_or(old.logits.len().min(new.logits.len()));
        differences.push(format!("logits from byte {at} on"));
    }
    for (verb, old, new) in [("score", &old.score, &new.score), ("run", &old.run, &new.run)] {
        let empty = serde_json::Map::new();
        let old_fields = old.as_object().unwrap_or(&empty);
        let new_fields = new.as_object().unwrap_or(&empty);
        let mut names: Vec<&String> = old_fields.keys().chain(new_fields.keys()).collect();
        names.sort();
        names.dedup();
        names.retain(|&it| old_fields.get(it) != new_fields.get(it));
        differences.extend(names.iter().map(|it| format!("{verb}: `{it}`")));
    }
    differences
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(logits: &[u8], tokens: &[u32]) -> Answer {
        Answer {
            score: json!({"token_ids": [1, 2]}),
            logits: logits.to_vec(),
            run: json!({"token_ids": tokens, "text": "a"}),
        }
    }

    #[test]
    fn equal_answers_have_no_differences() {
        assert!(differences(&answer(&[1, 2], &[3]), &answer(&[1, 2], &[3])).is_empty());
    }

    #[test]
    fn one_bit_of_a_logit_and_one_token_are_named() {
        let found = differences(&answer(&[1, 2], &[3]), &answer(&[1, 3], &[4]));
        assert_eq!(found, ["logits from byte 1 on", "run: `token_ids`"]);
        let longer = differences(&answer(&[1, 2], &[3]), &answer(&[1, 2, 0], &[3]));
        assert_eq!(longer, ["logits from byte 2 on"]);
    }
}
