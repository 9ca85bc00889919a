//! Training through the command line: reference runs, equivalences, and runs that are killed.
#![allow(clippy::unwrap_used)]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use minicrit_testkit::{fixtures::read_json, fixtures_dir};
use serde_json::Value;

/// As in the library's own comparison with PEFT.
const LOSS_TOLERANCE: f64 = 1e-4;
/// Sums of the same numbers in another order.
const ORDER_TOLERANCE: f64 = 1e-5;

/// Logs of these tests go to a home of their own.
fn home() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-home", module_path!()))
}

fn minicrit(words: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("minicrit"));
    command.env_clear().env("MINICRIT_HOME", home()).env("MINICRIT_THREADS", "2").args(words);
    command
}

fn train_dir() -> PathBuf {
    fixtures_dir().join("train")
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_string()
}

/// `finetune` of the tiny llama on `data` of the fixtures into `output`.
fn command(data: &str, output: &Path, words: &[&str]) -> Command {
    let (model, data) = (text(&fixtures_dir().join("llama")), text(&train_dir().join(data)));
    let output = text(output);
    let mut all = vec!["finetune", &model, "--data", &data, "--output", &output, "--json"];
    all.extend(words);
    minicrit(&all)
}

fn finished(output: Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn finetune(data: &str, output: &Path, words: &[&str]) -> Value {
    finished(command(data, output, words).output().unwrap())
}

/// Losses of the steps in a log.
fn losses(output: &Path) -> Vec<f64> {
    let log = std::fs::read_to_string(output.join("trainer_log.jsonl")).unwrap();
    let lines = log.lines().map(|it| serde_json::from_str::<Value>(it).unwrap());
    lines.filter_map(|it| it["loss"].as_f64()).collect()
}

fn adapter_bytes(output: &Path) -> Vec<u8> {
    std::fs::read(output.join("adapter_model.safetensors")).unwrap()
}

/// The flags of a reference run.
fn flags(case: &str) -> Vec<String> {
    let run = read_json(&train_dir().join(case).join("run.json"));
    let number = |key: &str| run[key].as_f64().unwrap_or(0.0).to_string();
    let steps = run["steps_log"].as_array().unwrap().len().to_string();
    let schedule = run["sched"]["kind"].as_str().unwrap();
    let warmup = run["sched"]["warmup"].as_u64().unwrap_or(0).to_string();
    let (lr, decay, clip) = (number("lr"), number("wd"), number("clip"));
    let (batch, accum) = (number("batch"), number("accum"));
    let mut flags: Vec<String> = [
        "--no-shuffle",
        "--iters",
        &steps,
        "--lr",
        &lr,
        "--weight-decay",
        &decay,
        "--clip",
        &clip,
        "--scheduler",
        schedule,
        "--warmup",
        &warmup,
        "--lr-floor",
        "0",
        "--batch-size",
        &batch,
        "--grad-accum",
        &accum,
    ]
    .map(str::to_string)
    .into();
    if case == "full_ft" {
        flags.push("--full".into());
    } else {
        flags.extend(["--init-adapter".into(), text(&train_dir().join(case).join("adapter_init"))]);
    }
    if run["kind"] == "dpo" {
        flags.extend(["--method", "dpo", "--beta", "0.1"].map(str::to_string));
    }
    flags
}

#[test]
fn reference_runs_are_followed() {
    for case in ["sft_lora", "sft_sched", "sft_dora", "dpo_lora", "full_ft"] {
        let dir = tempfile::tempdir().unwrap();
        let flags = flags(case);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let data = if case == "dpo_lora" { "dpo.jsonl" } else { "sft.jsonl" };
        finetune(data, dir.path(), &flags);
        let run = read_json(&train_dir().join(case).join("run.json"));
        let want = run["steps_log"].as_array().unwrap();
        let got = losses(dir.path());
        assert_eq!(got.len(), want.len(), "{case}");
        for (step, (got, want)) in got.iter().zip(want).enumerate() {
            let off = (got - want["loss"].as_f64().unwrap()).abs();
            assert!(off <= LOSS_TOLERANCE, "{case} step {}: loss differs by {off}", step + 1);
        }
        let expected = [
            "README.md",
            "minicrit.json",
            "trainer_log.jsonl",
            "trainer_state.json",
            "training_loss.svg",
        ];
        for name in expected {
            assert!(dir.path().join(name).is_file(), "{case}: {name}");
        }
    }
}

#[test]
fn a_batch_may_be_cut_into_passes_or_packed() {
    let run = |words: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let common = ["--iters", "6", "--lr", "2e-3", "--warmup", "0", "--seed", "3"];
        finetune("sft.jsonl", dir.path(), &[&common[..], words].concat());
        losses(dir.path())
    };
    let close = |a: &[f64], b: &[f64], what: &str| {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() <= ORDER_TOLERANCE * 10.0, "{what}: {a} {b}");
        }
    };
    let whole = run(&["--batch-size", "8", "--grad-accum", "1"]);
    close(&whole, &run(&["--batch-size", "1", "--grad-accum", "8"]), "1 x 8");
    close(&whole, &run(&["--batch-size", "4", "--grad-accum", "2"]), "4 x 2");
    // Packs are passes with other neighbours; how full they are changes no example's loss.
    let packs = run(&["--packing", "on", "--max-seq-len", "256", "--batch-size", "2"]);
    assert!(packs.iter().all(|it| it.is_finite()) && packs[5] < packs[0]);
}

#[test]
fn bfloat16_follows_float32_and_says_what_it_can_not_train() {
    let run = |dtype: &str, what: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let words = ["--iters", "3", "--batch-size", "4", "--dtype", dtype];
        finetune("sft.jsonl", dir.path(), &[&words[..], what].concat());
        losses(dir.path())
    };
    for what in [&[][..], &["--full", "--lr", "1e-3"]] {
        let (exact, rounded) = (run("f32", what), run("bf16", what));
        assert!(exact != rounded, "nothing was rounded");
        for (a, b) in exact.iter().zip(&rounded) {
            assert!((a - b).abs() < 5e-3, "{what:?}: {exact:?} {rounded:?}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for what in [&["--dora"][..], &["--dropout", "0.1"]] {
        let words = [&["--iters", "1", "--dtype", "bf16"][..], what].concat();
        let output = command("sft.jsonl", dir.path(), &words).output().unwrap();
        assert!(!output.status.success(), "{what:?}");
    }
}

#[test]
fn the_loss_of_training_is_that_of_scoring() {
    let dir = tempfile::tempdir().unwrap();
    let valid = text(&train_dir().join("sft.jsonl"));
    let words = ["--valid", &valid, "--eval-before-after", "--iters", "4", "--lr", "5e-3"];
    let summary = finetune("sft.jsonl", dir.path(), &words);
    let rows = read_json(&train_dir().join("sft_tokenized.json"));
    let (mut sum, mut count) = (0.0, 0.0);
    for row in rows.as_array().unwrap() {
        let ids = dir.path().join("ids.json");
        std::fs::write(&ids, row["input_ids"].to_string()).unwrap();
        let (model, adapter) = (text(&fixtures_dir().join("llama")), text(dir.path()));
        let words = ["score", &model, "--ids", &text(&ids), "--json", "--adapter", &adapter];
        let scored = finished(minicrit(&words).output().unwrap());
        let labels = row["labels"].as_array().unwrap();
        for (at, label) in labels.iter().enumerate().skip(1) {
            if label.as_i64().unwrap() >= 0 {
                sum -= scored["logprobs"][at].as_f64().unwrap();
                count += 1.0;
            }
        }
    }
    let trained = summary["eval_loss_after"].as_f64().unwrap();
    assert!((trained - sum / count).abs() <= ORDER_TOLERANCE, "{trained} {}", sum / count);
    assert!(summary["eval_loss_before"].as_f64().unwrap() > trained);
}

/// Flags of a run that exercises what a checkpoint must hold.
const LONG: [&str; 12] = [
    "--iters",
    "12",
    "--lr",
    "5e-3",
    "--dropout",
    "0.1",
    "--batch-size",
    "2",
    "--save-every",
    "2",
    "--seed",
    "9",
];

#[test]
fn one_seed_gives_one_adapter() {
    let run = |words: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        finetune("sft.jsonl", dir.path(), &[&LONG[..LONG.len() - 2], words].concat());
        let receipt = std::fs::read(dir.path().join("minicrit.json")).unwrap();
        (adapter_bytes(dir.path()), receipt)
    };
    let first = run(&LONG[10..]);
    assert!(first == run(&LONG[10..]), "a second run");
    assert!(first == run(&["--seed", "9", "--threads", "1"]), "another number of threads");
    assert!(first.0 != run(&["--seed", "10"]).0, "another seed");
}

/// Kills a run at random moments and resumes it until it is done.
// The moment is random on purpose: there is no event to wait for.
#[allow(clippy::disallowed_methods)]
fn survive(base: &str, seed: u64, kills: u32) {
    let straight = tempfile::tempdir().unwrap();
    let words = [&LONG[..], &["--base", base]].concat();
    let start = std::time::Instant::now();
    finetune("sft.jsonl", straight.path(), &words);
    let whole = start.elapsed();
    let want = adapter_bytes(straight.path());
    let mut state = seed | 1;
    let mut killed = 0;
    while killed < kills {
        let dir = tempfile::tempdir().unwrap();
        loop {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let share = (state >> 40) as f64 / (1u64 << 24) as f64;
            // A checkpoint that was being written is none: its folder has another name.
            let resumable = std::fs::read_dir(dir.path()).unwrap().any(|it| {
                let it = it.unwrap();
                !it.file_name().to_string_lossy().ends_with(".part")
                    && it.path().join("run_state.json").exists()
            });
            let resume: &[&str] = if resumable { &["--resume"] } else { &[] };
            let mut child = command("sft.jsonl", dir.path(), &[&words[..], resume].concat())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(whole.mul_f64(share * 1.1));
            match child.try_wait().unwrap() {
                Some(status) => {
                    assert!(status.success(), "a resumed run fails");
                    break;
                }
                None => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    killed += 1;
                }
            }
        }
        assert!(adapter_bytes(dir.path()) == want, "base {base}: other bytes after {killed} kills");
        assert_eq!(losses(dir.path()).len(), 12);
    }
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let full = std::env::var_os("MINICRIT_PROOF").is_some_and(|it| it == "full");
    let kills = if full { 50 } else { 2 };
    survive("none", 11, kills);
    survive("q4", 12, kills);
}

#[test]
fn a_run_of_other_data_or_settings_is_not_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data.jsonl");
    let original = std::fs::read(train_dir().join("sft.jsonl")).unwrap();
    std::fs::write(&data, &original).unwrap();
    let (model, output) = (text(&fixtures_dir().join("llama")), text(&dir.path().join("out")));
    let run = |words: &[&str]| {
        let data = text(&data);
        let common =
            ["finetune", &model, "--data", &data, "--output", &output, "--save-every", "1"];
        minicrit(&[&common[..], words].concat()).output().unwrap()
    };
    assert!(run(&["--iters", "2"]).status.success());
    let refused = |output: Output, what: &str| {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains("error[bad-resume]") && stderr.contains(what), "{stderr}");
        assert_eq!(output.status.code(), Some(1));
    };
    refused(run(&["--iters", "2", "--lr", "1e-3", "--resume"]), "settings was");
    refused(run(&["--iters", "2", "--rank", "4", "--resume"]), "adapter was");
    let mut changed = original.clone();
    let at = changed.windows(3).position(|it| it == b"Why").unwrap();
    changed[at] = b'w';
    std::fs::write(&data, changed).unwrap();
    refused(run(&["--iters", "2", "--resume"]), "data was");
    std::fs::write(&data, original).unwrap();
    assert!(run(&["--iters", "2", "--resume"]).status.success());
}

#[test]
fn one_batch_is_learned_by_heart() {
    let dir = tempfile::tempdir().unwrap();
    let (model, data) = (text(&fixtures_dir().join("llama")), text(&dir.path().join("few.jsonl")));
    let learn = |rows: &str, words: &[&str]| {
        let all = std::fs::read_to_string(train_dir().join(rows)).unwrap();
        let few: Vec<&str> = all.lines().take(2).collect();
        std::fs::write(&data, few.join("\n")).unwrap();
        let output = text(&dir.path().join("out"));
        let common = [
            "finetune",
            &model,
            "--data",
            &data,
            "--output",
            &output,
            "--json",
            "--batch-size",
            "2",
            "--grad-accum",
            "1",
            "--scheduler",
            "linear",
            "--warmup",
            "0",
        ];
        let summary = finished(minicrit(&[&common[..], words].concat()).output().unwrap());
        summary["final_loss"].as_f64().unwrap()
    };
    // The head is trained too: with 32 values in a normed row, a frozen random head can't tell 352
    // tokens apart by enough.
    let modules = ".*(_proj|lm_head)";
    for base in ["none", "q8", "q4"] {
        let words =
            ["--iters", "60", "--lr", "1e-2", "--rank", "32", "--alpha", "64", "--base", base];
        let loss = learn("sft.jsonl", &[&words[..], &["--target-modules", modules]].concat());
        assert!(loss < 0.05, "sft, base {base}: {loss}");
    }
    for method in ["dpo", "simpo"] {
        let loss = learn("dpo.jsonl", &["--method", method, "--iters", "20", "--lr", "5e-3"]);
        assert!(loss < 0.05, "{method}: {loss}");
    }
}

#[test]
fn what_would_be_trained_is_shown_and_estimated() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    let shown = command("sft.jsonl", &output, &["--explain", "2"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("⟦Flaw: post hoc."), "{shown}");
    assert!(shown.contains("<|im_end|>⟧"), "the end of a turn is trained: {shown}");
    let estimate = finetune("sft.jsonl", &output, &["--dry-run"]);
    for key in ["examples", "steps", "tokens", "seconds", "peak_rss_bytes", "parameters"] {
        assert!(estimate[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert!(!output.exists(), "nothing is written");
}

#[test]
fn an_adapter_knows_its_base() {
    let dir = tempfile::tempdir().unwrap();
    finetune("sft.jsonl", dir.path(), &["--iters", "2"]);
    let (model, adapter) = (text(&fixtures_dir().join("llama")), text(dir.path()));
    let words = ["score", &model, "--text", "a claim", "--json", "--adapter", &adapter];
    let with = finished(minicrit(&words).output().unwrap());
    let without = finished(minicrit(&words[..5]).output().unwrap());
    assert_ne!(with["logprobs"], without["logprobs"]);
    let receipt = dir.path().join("minicrit.json");
    let mut value = read_json(&receipt);
    value["made_of"]["base_fingerprint"] = "another".into();
    std::fs::write(&receipt, value.to_string()).unwrap();
    let output = minicrit(&words).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("error[wrong-base]"), "{stderr}");
}
