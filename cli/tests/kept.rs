//! Weights that `--quant` keeps for the next start: the same answers, and nothing damaged or stale is
//! ever used.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use minicrit_testkit::{fake_hub::FakeHub, fixtures_dir};
use serde_json::Value;
use support::{json, minicrit, nano, succeeds, text};

/// A home, and a hub that has nothing to say.
struct Home {
    dir: tempfile::TempDir,
    hub: FakeHub,
}

impl Home {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), hub: FakeHub::start(vec![nano()]) }
    }

    fn command(&self, words: &[&str]) -> std::process::Command {
        minicrit(self.dir.path(), &self.hub, words)
    }

    /// Log-probabilities, and what stderr said.
    fn score(&self, model: &str, words: &[&str]) -> (Value, String) {
        let common = ["score", model, "--text", "Rivers run to the sea.", "--json"];
        let output = succeeds(self.command(&[&common[..], words].concat()));
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        (found["logprobs"].clone(), text(&output.stderr))
    }

    fn rounded(&self) -> Vec<Value> {
        let list = json(self.command(&["cache", "list", "--json"]));
        list["rounded"].as_array().unwrap().clone()
    }

    fn files(&self) -> Vec<PathBuf> {
        let rounded = self.rounded();
        rounded.iter().map(|it| PathBuf::from(it["path"].as_str().unwrap())).collect()
    }
}

fn fixture() -> String {
    std::fs::canonicalize(fixtures_dir().join("qwen2")).unwrap().display().to_string()
}

fn copy_of_fixture(folder: &Path) -> String {
    std::fs::create_dir_all(folder).unwrap();
    for entry in std::fs::read_dir(fixture()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
    folder.display().to_string()
}

#[test]
fn a_start_from_kept_weights_gives_the_same_bits() {
    let home = Home::new();
    for quant in ["q4", "q8"] {
        let (fresh, _) = home.score(&fixture(), &["--quant", quant, "--no-cache-quant"]);
        let before = home.rounded().len();
        let (first, _) = home.score(&fixture(), &["--quant", quant]);
        assert_eq!(home.rounded().len(), before + 1);
        let (second, _) = home.score(&fixture(), &["--quant", quant]);
        assert!(first == fresh && second == fresh, "{quant}");
        assert_eq!(home.rounded().len(), before + 1);
    }
    // GGUF's types are not ours to keep.
    home.score(&fixture(), &["--quant", "q6_k"]);
    let all = home.rounded();
    assert!(all.iter().all(|it| it["current"] == true && it["source"] == fixture().as_str()));
    assert_ne!(home.score(&fixture(), &[]).0, home.score(&fixture(), &["--quant", "q4"]).0);
    // What is current stays, until it is asked for.
    succeeds(home.command(&["cache", "prune"]));
    assert_eq!(home.rounded().len(), 2);
    let plan = json(home.command(&["cache", "prune", "--quant", "--dry-run", "--json"]));
    assert_eq!(plan["files"].as_array().unwrap().len(), 2);
    succeeds(home.command(&["cache", "prune", "--quant"]));
    assert_eq!(home.rounded().len(), 0);
}

#[test]
fn damaged_weights_are_dropped_and_made_again() {
    let home = Home::new();
    let (good, _) = home.score(&fixture(), &["--quant", "q4"]);
    let path = home.files().remove(0);
    let whole = std::fs::read(&path).unwrap();
    let damage = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    // Weights, the head, the index, a cut, and nothing at all. The last bytes are the trailer.
    let cases = [
        damage(8192),
        damage(12_288),
        damage(3),
        damage(whole.len() - 200),
        whole[..whole.len() / 3].to_vec(),
        Vec::new(),
    ];
    for (case, bytes) in cases.iter().enumerate() {
        std::fs::write(&path, bytes).unwrap();
        let (found, stderr) = home.score(&fixture(), &["--quant", "q4"]);
        assert!(found == good, "case {case}");
        assert!(stderr.contains("note: kept weights were damaged"), "case {case}: {stderr}");
        assert!(std::fs::read(&path).unwrap() == whole, "case {case}: made again");
        let (_, stderr) = home.score(&fixture(), &["--quant", "q4"]);
        assert!(!stderr.contains("damaged"), "case {case}: {stderr}");
    }
}

#[test]
fn a_model_that_changed_is_rounded_anew() {
    let home = Home::new();
    let model = copy_of_fixture(&home.dir.path().join("model"));
    let quant = ["--quant", "q4"];
    // A file of this very instant is not kept yet; the second start keeps it at the latest.
    home.score(&model, &quant);
    let (before, _) = home.score(&model, &quant);
    assert_eq!(home.rounded().len(), 1);
    let weights = Path::new(&model).join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let end = bytes.len();
    // Other weights in a file of the same length: halves of values in the last tenth change sign.
    bytes[end - end / 10..].iter_mut().skip(1).step_by(2).for_each(|it| *it ^= 0x80);
    std::fs::write(&weights, bytes).unwrap();
    let (after, _) = home.score(&model, &quant);
    assert_eq!(after, home.score(&model, &["--quant", "q4", "--no-cache-quant"]).0);
    assert_ne!(after, before);
    home.score(&model, &quant);
    let stale = |it: &&Value| it["current"] == false;
    assert_eq!((home.rounded().len(), home.rounded().iter().filter(stale).count()), (2, 1));
    succeeds(home.command(&["cache", "prune"]));
    assert_eq!(home.rounded().len(), 1);
    std::fs::remove_dir_all(&model).unwrap();
    succeeds(home.command(&["cache", "prune"]));
    assert_eq!(home.rounded().len(), 0);
}

#[test]
fn keeping_can_be_turned_off_and_never_fails_a_run() {
    let home = Home::new();
    let config = home.dir.path().join("config");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("config.toml"), "cache_quant = false\n").unwrap();
    let words = ["score", &fixture(), "--text", "a", "--quant", "q4"];
    let mut command = home.command(&words);
    command.env("MINICRIT_CONFIG", &config);
    succeeds(command);
    assert_eq!(home.rounded().len(), 0);
    // A place that can't be written to: the model runs, and a note says why nothing is kept.
    std::fs::create_dir_all(home.dir.path().join("data")).unwrap();
    std::fs::write(home.dir.path().join("data/packed"), "no folder").unwrap();
    let output = succeeds(home.command(&words));
    assert!(text(&output.stderr).contains("note: the rounded weights are not kept"));
}

#[test]
fn a_pulled_model_is_kept_by_its_digests_and_once() {
    let home = Home::new();
    succeeds(home.command(&["pull", "org/nano"]));
    let words = ["score", "org/nano", "--text", "a", "--quant", "q8", "--json"];
    let all: Vec<_> = (0..4)
        .map(|_| {
            let mut command = home.command(&words);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let outputs: Vec<_> = all.into_iter().map(|it| it.wait_with_output().unwrap()).collect();
    for output in &outputs {
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(output.stdout == outputs[0].stdout && !text(&output.stderr).contains("note:"));
    }
    assert_eq!(home.rounded().len(), 1);
    // Pulled again into another place, it is the same model.
    let path = home.files().remove(0);
    succeeds(home.command(&["rm", "org/nano"]));
    assert_eq!(home.rounded()[0]["current"], false);
    succeeds(home.command(&["pull", "org/nano"]));
    assert_eq!(home.rounded()[0]["current"], true);
    assert_eq!(home.files(), [path]);
}
