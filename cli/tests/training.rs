//! What training must bring about, and what it must refuse: turns that end, losses that vanish, runs
//! that stop in time, estimates that hold.
#![allow(clippy::unwrap_used)]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use minicrit_testkit::fixtures_dir;
use serde_json::{Value, json};

/// A home that all tests here share: its audit log is their own.
fn minicrit(words: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("minicrit"));
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("training-home");
    command.env_clear().env("MINICRIT_THREADS", "2").env("MINICRIT_HOME", home).args(words);
    command
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_string()
}

fn model(name: &str) -> String {
    text(&fixtures_dir().join(name))
}

fn rows(name: &str) -> Vec<Value> {
    let all = std::fs::read_to_string(fixtures_dir().join("train").join(name)).unwrap();
    all.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

fn write_rows(path: &Path, rows: &[Value]) {
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    std::fs::write(path, lines.join("\n")).unwrap();
}

fn finished(output: Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// One training in a folder of its own.
struct Training {
    dir: tempfile::TempDir,
    model: String,
}

impl Training {
    fn new(name: &str, rows: &[Value]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_rows(&dir.path().join("data.jsonl"), rows);
        Self { dir, model: model(name) }
    }

    fn output(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn output_of(&self, words: &[&str]) -> Output {
        let (data, output) = (text(&self.dir.path().join("data.jsonl")), text(&self.output()));
        let all = ["finetune", &self.model, "--data", &data, "--output", &output, "--json"];
        minicrit(&[&all[..], words].concat()).output().unwrap()
    }

    fn run(&self, words: &[&str]) -> Value {
        finished(self.output_of(words))
    }

    /// Name and hint of the error that it ends with.
    fn refused(&self, words: &[&str]) -> String {
        let output = self.output_of(words);
        assert!(!output.status.success(), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

/// With 32 values in a normed row, a frozen random head can't tell 352 tokens apart by enough: the
/// head is trained too.
const WITH_HEAD: [&str; 2] = ["--target-modules", ".*(_proj|lm_head)"];
/// By heart, in a few seconds.
const BY_HEART: [&str; 14] = [
    "--iters",
    "60",
    "--lr",
    "1e-2",
    "--rank",
    "32",
    "--alpha",
    "64",
    "--batch-size",
    "2",
    "--grad-accum",
    "1",
    "--warmup",
    "0",
];

/// What was learned must stand against drawing, too: at the model's own temperature every answer ends
/// with the end of its turn, and none runs into the limit.
#[test]
fn a_model_that_was_trained_to_end_its_turn_does_so() {
    let full = std::env::var_os("MINICRIT_PROOF").is_some_and(|it| it == "full");
    let generations = if full { 100 } else { 6 };
    let rows = &rows("sft.jsonl")[..2];
    let training = Training::new("llama", rows);
    training.run(&[&BY_HEART[..], &WITH_HEAD, &["--scheduler", "linear"]].concat());
    let (messages, adapter) = (training.dir.path().join("chat.json"), text(&training.output()));
    for generation in 0..generations {
        let turns = rows[generation % 2]["messages"].as_array().unwrap();
        std::fs::write(&messages, json!(turns[..turns.len() - 1]).to_string()).unwrap();
        let (seed, messages) = (generation.to_string(), text(&messages));
        let words = [
            "run",
            &training.model,
            "--messages",
            &messages,
            "--adapter",
            &adapter,
            "--json",
            "--temperature",
            "1",
            "--seed",
            &seed,
            "--max-tokens",
            "150",
        ];
        let answer = finished(minicrit(&words).output().unwrap());
        assert_eq!(answer["finish_reason"], "stop", "seed {seed}: {answer}");
    }
    // Without what was learned it does not end.
    let untrained = text(&messages);
    let words = ["run", &training.model, "--messages", &untrained, "--json", "--max-tokens", "150"];
    let answer = finished(minicrit(&words).output().unwrap());
    assert_eq!(answer["finish_reason"], "length");
}

#[test]
fn every_loss_vanishes_on_every_base() {
    let pairs = &rows("dpo.jsonl")[..2];
    let labelled: Vec<Value> = pairs
        .iter()
        .zip(["chosen", "rejected"])
        .map(|(row, which)| {
            json!({ "prompt": row["prompt"], "completion": row[which], "label": which == "chosen" })
        })
        .collect();
    let full = std::env::var_os("MINICRIT_PROOF").is_some_and(|it| it == "full");
    let head = ["--target-modules", ".*(_proj|lm_head)"];
    for (method, rows, words, sample) in [
        ("dpo", pairs, &["--beta", "0.5"][..], "q8"),
        ("simpo", pairs, &[], "q4"),
        ("orpo", pairs, &WITH_HEAD[..], "none"),
        ("kto", &labelled, &["--beta", "1", head[0], head[1]], "q4"),
    ] {
        for base in ["none", "q8", "q4"].into_iter().filter(|it| full || *it == sample) {
            let training = Training::new("llama", rows);
            let common = ["--method", method, "--base", base];
            let summary = training.run(&[&BY_HEART[..], &common, words].concat());
            let loss = summary["final_loss"].as_f64().unwrap();
            assert!(loss < 0.05, "{method}, base {base}: {loss}");
        }
    }
}

#[test]
fn experts_learn() {
    for name in ["mixtral", "qwen3-moe"] {
        let training = Training::new(name, &rows("sft.jsonl"));
        let words = ["--iters", "12", "--lr", "1e-2", "--warmup", "0", "--valid-split", "0.25"];
        let summary = training.run(&[&words[..], &["--eval-before-after"]].concat());
        let number = |key: &str| summary[key].as_f64().unwrap();
        assert!(number("final_loss") < number("first_loss") - 0.05, "{name}: {summary}");
        // The experts have adapters of their own, and the model with them is still that model.
        let adapter = text(&training.output());
        let words = ["adapters", "verify", &adapter, "--model", &training.model, "--json"];
        let about = finished(minicrit(&words).output().unwrap());
        assert!(about.to_string().contains("true"), "{name}: {about}");
        let bytes = std::fs::read(training.output().join("adapter_model.safetensors")).unwrap();
        assert!(bytes.windows(10).any(|it| it == b".experts.1"), "{name}");
    }
}

#[test]
fn a_run_that_gets_worse_stops_with_its_best() {
    let training = Training::new("llama", &rows("sft.jsonl")[..2]);
    // Other dialogs with other answers: learning the first by heart makes these unlikely.
    let valid = training.dir.path().join("valid.jsonl");
    write_rows(&valid, &rows("sft.jsonl")[2..6]);
    let valid = text(&valid);
    let words = [
        "--valid",
        &valid,
        "--iters",
        "200",
        "--lr",
        "2e-2",
        "--warmup",
        "0",
        "--scheduler",
        "constant",
        "--eval-every",
        "1",
        "--patience",
        "3",
        "--batch-size",
        "2",
    ];
    let summary = training.run(&[&words[..], &["--eval-before-after"]].concat());
    assert_eq!(summary["early"], true);
    let steps = summary["steps"].as_u64().unwrap();
    assert!((4..200).contains(&steps), "{steps}");
    let receipt = std::fs::read(training.output().join("minicrit.json")).unwrap();
    let receipt: Value = serde_json::from_slice(&receipt).unwrap();
    assert_eq!(receipt["from_step"].as_u64().unwrap(), steps - 3);
    // What lies there is the best: its loss, computed anew, is the best that was seen.
    let best = receipt["best_eval_loss"].as_f64().unwrap();
    let adapter = text(&training.output());
    let again = Training::new("llama", &rows("sft.jsonl")[..2]);
    let words = [
        "--valid",
        &valid,
        "--init-adapter",
        &adapter,
        "--iters",
        "1",
        "--lr",
        "0",
        "--eval-before-after",
    ];
    let before = again.run(&words)["eval_loss_before"].as_f64().unwrap();
    assert!((before - best).abs() < 1e-6, "{before} {best}");
}

/// Sequences of one pass lie behind each other without a batch axis, so a pack is the batch of its
/// examples, to the bit.
#[test]
fn a_pack_is_a_batch_of_its_examples() {
    // Packs hold the longest example first.
    let rows = ["Three wins say little, and it was luck.", "It may be chance.", "No."].map(|it| {
        let turn = |role: &str, text: &str| json!({ "role": role, "content": text });
        json!({ "messages": [turn("user", "Why?"), turn("assistant", it)] })
    });
    let training = Training::new("llama", &rows);
    let adapter = |words: &[&str]| {
        let common = ["--iters", "3", "--lr", "5e-3", "--no-shuffle", "--grad-accum", "1"];
        training.run(&[&common[..], words].concat());
        std::fs::read(training.output().join("adapter_model.safetensors")).unwrap()
    };
    let batch = adapter(&["--batch-size", "3"]);
    let pack = adapter(&["--batch-size", "1", "--packing", "on", "--max-seq-len", "256"]);
    assert!(batch == pack, "other bytes");
}

#[test]
fn the_estimate_of_memory_is_what_is_taken() {
    let training = Training::new("llama", &rows("sft.jsonl"));
    let words = ["--iters", "8", "--batch-size", "4"];
    let estimate = training.run(&[&words[..], &["--dry-run"]].concat());
    let taken = training.run(&words);
    let ratio =
        estimate["peak_rss_bytes"].as_f64().unwrap() / taken["peak_rss_bytes"].as_f64().unwrap();
    assert!((ratio - 1.0).abs() < 0.15, "{ratio}");
}

#[test]
fn a_finished_model_is_not_overwritten() {
    let training = Training::new("llama", &rows("sft.jsonl"));
    let scratch = ["--from-scratch", "--iters", "2", "--batch-size", "2", "--save-every", "1"];
    training.run(&scratch);
    let weights = training.output().join("model.safetensors");
    let before = std::fs::read(&weights).unwrap();
    let error = training.refused(&scratch);
    assert!(error.contains("error[file-exists]") && error.contains("hint:"), "{error}");
    assert!(std::fs::read(&weights).unwrap() == before);
    training.run(&[&scratch[..], &["--resume"]].concat());
    assert!(std::fs::read(&weights).unwrap() == before, "there was nothing left to do");
}

#[test]
fn an_adapter_is_removed_alone() {
    let training = Training::new("llama", &rows("sft.jsonl"));
    training.run(&["--iters", "2", "--save-every", "1"]);
    let adapter = text(&training.output());
    let foreign = training.output().join("thesis.txt");
    std::fs::write(&foreign, "years of work").unwrap();
    let remove = || minicrit(&["adapters", "rm", &adapter, "--yes"]).output().unwrap();
    let refused = String::from_utf8(remove().stderr).unwrap();
    assert!(
        refused.contains("error[foreign-files]") && refused.contains("thesis.txt"),
        "{refused}"
    );
    assert!(foreign.exists() && training.output().join("adapter_config.json").exists());
    std::fs::remove_file(&foreign).unwrap();
    assert!(remove().status.success());
    assert!(!training.output().exists());
}

#[test]
fn what_changes_models_is_written_down() {
    let home = tempfile::tempdir().unwrap();
    let training = Training::new("llama", &rows("sft.jsonl"));
    let run = |words: &[&str]| {
        let output = minicrit(words).env("MINICRIT_HOME", home.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let data = text(&training.dir.path().join("data.jsonl"));
    let output = |name: &str| text(&training.dir.path().join(name));
    let (a, both, fused) = (output("a"), output("both"), output("fused"));
    run(&["finetune", &training.model, "--data", &data, "--output", &a, "--iters", "2"]);
    run(&["adapters", "merge", &a, &a, "--output", &both]);
    run(&["fuse", &training.model, "--adapter", &a, "--output", &fused, "--max-kl", "9"]);
    run(&["adapters", "rm", &both, "--yes"]);
    run(&["audit", "verify"]);
    let log = run(&["audit", "show", "--json"]);
    let events: Vec<Value> = log.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let names: Vec<&str> = events.iter().map(|it| it["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["train", "merge", "merge", "delete"]);
    // Hashes and counts, no text and no path of this machine.
    assert!(!log.contains("logo") && !log.contains(&text(training.dir.path())), "{log}");
    assert!(log.contains("\"steps\":2"), "{log}");
}

#[test]
fn a_missing_file_is_told_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let (model, output) = (model("llama"), text(&dir.path().join("out")));
    for words in [
        &["finetune", &model, "--data", "/no/such.jsonl", "--output", &output][..],
        &["eval", "/no/such.jsonl", "--model", "nano"],
        &["data", "check", "/no/such.jsonl"],
        &["adapters", "list", "/no/such"],
        &["finetune", &model, "--data", "/no/such.jsonl", "--output", &output, "--config", "/no"],
    ] {
        let output = minicrit(words).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_ne!(output.status.code(), Some(0), "{words:?}");
        assert!(stderr.contains("error[") && stderr.contains("hint: "), "{words:?}: {stderr}");
    }
}
