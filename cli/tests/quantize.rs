//! `quantize`: what it writes runs, what it measures is true, and what fails leaves nothing behind.
#![allow(clippy::unwrap_used)]

use std::{
    path::{Path, PathBuf},
    process::{Command as Process, Stdio},
};

use assert_cmd::Command;
use serde_json::Value;

/// Logs of these tests go to a home of their own.
fn home() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-home", module_path!()))
}

fn minicrit(words: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("minicrit"));
    command.env_clear().env("MINICRIT_HOME", home()).env("MINICRIT_THREADS", "2").args(words);
    command
}

/// stdout of a command that succeeds, as JSON.
fn json(words: &[&str]) -> Value {
    let output = minicrit(words).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Exit code and stderr of a command.
fn failure(words: &[&str]) -> (i32, String) {
    let output = minicrit(words).output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).unwrap())
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} in {value}"))
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

fn entries(dir: &Path) -> Vec<String> {
    let name = |it: std::io::Result<std::fs::DirEntry>| it.unwrap().file_name();
    std::fs::read_dir(dir).unwrap().map(|it| name(it).to_str().unwrap().to_owned()).collect()
}

#[test]
fn a_written_file_scores_as_the_same_rounding_at_load() {
    let dir = tempfile::tempdir().unwrap();
    for format in ["q8_0", "q4_k_m", "q5_1"] {
        let out = path(dir.path(), &format!("{format}.gguf"));
        let about = json(&["quantize", "nano", "--format", format, "--output", &out, "--json"]);
        let expected = [
            "model",
            "format",
            "finer_layers",
            "output",
            "file_bytes",
            "weight_bytes",
            "bits_per_weight",
            "tensors",
            "report",
        ];
        assert_eq!(keys(&about), expected);
        assert_eq!(about["file_bytes"], std::fs::metadata(&out).unwrap().len());
        let text = "The sample is small, so the claim is weak.";
        let of_file = json(&["score", &out, "--text", text, "--json"]);
        let at_load = json(&["score", "nano", "--quant", format, "--text", text, "--json"]);
        assert_eq!(of_file, at_load, "{format}");
        let run = ["run", &out, "Two of three patients got better.", "-n", "8", "--json"];
        let answer = json(&run);
        assert_eq!(answer["token_ids"].as_array().unwrap().len(), 8);
        let shown = json(&["show", &out, "--json"]);
        assert_eq!(shown["chat_template"], true);
    }
}

#[test]
fn a_packed_file_scores_as_packing_at_load_and_runs_from_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    for format in ["q8", "q4"] {
        let folder = dir.path().join(format);
        std::fs::create_dir(&folder).unwrap();
        let out = path(&folder, "model.minicrit");
        json(&["quantize", "nano", "--format", format, "--output", &out, "--json"]);
        let text = "The sample is small, so the claim is weak.";
        let at_load = json(&["score", "nano", "--quant", format, "--text", text, "--json"]);
        for model in [out.as_str(), folder.to_str().unwrap()] {
            assert_eq!(json(&["score", model, "--text", text, "--json"]), at_load, "{model}");
        }
        let shown = json(&["show", &out, "--json"]);
        assert!(shown["formats"][format].as_u64().unwrap() > 100_000, "{shown}");
        assert_eq!(shown["parameters"], json(&["show", "nano", "--json"])["parameters"]);
        let (code, text) = failure(&["run", &out, "hi", "--quant", "q8_0"]);
        assert!(code == 1 && text.contains("error[already-packed]"), "{text}");
    }
}

#[test]
fn a_budget_is_kept_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let size = |extra: &[&str]| {
        let out = path(dir.path(), "x.minicrit");
        let words = ["quantize", "nano", "--output", &out, "--force", "--json"];
        let about = json(&[&words[..], extra].concat());
        (about["file_bytes"].as_u64().unwrap(), about["finer_layers"].clone())
    };
    let (small, none) = size(&["--format", "q4"]);
    let (large, _) = size(&["--format", "q8"]);
    assert_eq!(none, serde_json::json!([]));
    let budget = (small + large) / 2;
    let (between, some) = size(&["--budget", &budget.to_string()]);
    assert!(small < between && between <= budget, "{small} {between} {budget} {large}");
    let finer = some.as_array().unwrap().len();
    assert!((1..5).contains(&finer), "{some}");
    let (all, every) = size(&["--budget", "1GB"]);
    assert!(all <= large + 4096 && every.as_array().unwrap().len() == 5, "{every}");
    let out = path(dir.path(), "y.minicrit");
    let (code, text) = failure(&["quantize", "nano", "--output", &out, "--budget", "100kB"]);
    assert!(code == 1 && text.contains("error[budget-too-small]"), "{text}");
    assert!(text.contains("--budget"), "{text}");
    let (code, text) = failure(&["quantize", "nano", "--output", &out, "--budget", "many"]);
    assert!(code == 2 && text.contains("error[bad-size]"), "{text}");
}

#[test]
fn the_report_ranks_formats_by_what_they_keep() {
    let dir = tempfile::tempdir().unwrap();
    let data = path(dir.path(), "data.jsonl");
    let heldout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano/heldout.jsonl");
    let lines = std::fs::read_to_string(heldout).unwrap();
    let few: Vec<&str> = lines.lines().take(3).collect();
    std::fs::write(&data, few.join("\n") + "\n{\"text\": \"A plain text.\"}\n").unwrap();
    let mut before = 0.0;
    for format in ["f32", "q8_0", "q4_0"] {
        let out = path(dir.path(), &format!("{format}.gguf"));
        let words =
            ["quantize", "nano", "--format", format, "--output", &out, "--json", "--report"];
        let about = json(&[&words[..], &["--data", &data]].concat());
        let report = &about["report"];
        let whole = &report["whole"];
        let kl = number(whole, "kl_mean");
        if format == "f32" {
            // The reference is kept in float32.
            assert!(kl < 1e-7, "{kl}");
            assert_eq!(number(whole, "same_top1"), 1.0);
            let (got, want) = (number(whole, "perplexity"), number(report, "reference_perplexity"));
            assert!((got / want - 1.0).abs() < 1e-6);
        } else {
            assert!(kl > before && kl < 0.2, "{format}: {kl} after {before}");
            assert!(number(whole, "kl_p999") > kl);
        }
        before = kl.max(1e-7);
        let layers = report["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 6, "five layers, and the embedding with the head");
        assert!(layers.iter().all(|it| number(it, "kl_mean") <= kl.max(1e-7)), "{format}");
        assert_eq!(report["tokens_left_out"], 0);
        assert!(number(&report["speed"]["written"], "decode_tok_s") > 0.0);
    }
}

#[test]
fn a_calibration_lowers_the_divergence() {
    let dir = tempfile::tempdir().unwrap();
    let heldout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano/heldout.jsonl");
    let lines: Vec<String> =
        std::fs::read_to_string(heldout).unwrap().lines().map(str::to_owned).collect();
    // What is measured is not what was calibrated on.
    let (first, second) = (&lines[..12], &lines[30..42]);
    let (calibration, data) = (path(dir.path(), "c.jsonl"), path(dir.path(), "d.jsonl"));
    std::fs::write(&calibration, first.join("\n")).unwrap();
    std::fs::write(&data, second.join("\n")).unwrap();
    // For q4 no gain was measured: its search already leaves little to weigh.
    let format = "q4_k";
    let divergence = |extra: &[&str]| {
        let out = path(dir.path(), "x.gguf");
        let words = ["quantize", "nano", "--format", format, "--output", &out, "--force"];
        let report = ["--report", "--data", &data, "--json"];
        number(&json(&[&words[..], &report, extra].concat())["report"]["whole"], "kl_mean")
    };
    let (plain, calibrated) = (divergence(&[]), divergence(&["--calibrate", &calibration]));
    println!("{format}: {plain} without, {calibrated} with calibration");
    assert!(calibrated < plain, "{format}: {calibrated} against {plain}");
}

#[test]
fn mistakes_have_names_and_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let out = path(dir.path(), "out.gguf");
    let quantize = |extra: &[&str]| {
        failure(&[&["quantize", "nano", "--output", &out, "--format"][..], extra].concat())
    };
    let (code, text) = quantize(&["q3_k"]);
    assert!(
        code == 2 && text.contains("error[unknown-format]") && text.contains("q4_k_m"),
        "{text}"
    );
    let bad = path(dir.path(), "bad.jsonl");
    std::fs::write(&bad, "{\"text\": \"fine\"}\n{\"txt\": 1}\nnot json\n").unwrap();
    for flags in [["--report", "--data"].as_slice(), &["--calibrate"]] {
        let (code, text) = quantize(&[&["q8_0"], flags, &[&bad]].concat());
        assert_eq!(code, 1);
        for part in ["error[bad-data]: 2 bad lines", "line 2", "line 3", "hint:"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    let (code, text) = quantize(&["q8_0", "--calibrate", "/nonexistent.jsonl"]);
    assert!(code == 3 && text.contains("error[file-not-found]"), "{text}");
    let nowhere = path(dir.path(), "no/such/out.gguf");
    let (code, text) = failure(&["quantize", "nano", "--format", "q8_0", "--output", &nowhere]);
    assert!(code == 3 && text.contains("error[file-not-found]"), "{text}");
    assert_eq!(entries(dir.path()), ["bad.jsonl"]);
    std::fs::write(&out, "mine").unwrap();
    let (code, text) = quantize(&["q8_0"]);
    assert!(code == 2 && text.contains("error[file-exists]") && text.contains("--force"), "{text}");
    assert_eq!(std::fs::read(&out).unwrap(), b"mine");
    json(&["quantize", "nano", "--format", "q8_0", "--output", &out, "--force", "--json"]);
    assert!(std::fs::read(&out).unwrap().starts_with(b"GGUF"));
    assert_eq!(entries(dir.path()).len(), 2);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_has_a_name() {
    let (code, text) = failure(&["quantize", "nano", "--format", "q8_0", "--output", "/dev/full"]);
    assert!(code == 4 && text.contains("error[no-space]"), "{text}");
}

/// Bytes of the half-written file beside `out`, if there is one.
fn part_len(dir: &Path) -> Option<u64> {
    let part = entries(dir).into_iter().find(|it| it.ends_with(".part"))?;
    std::fs::metadata(dir.join(part)).ok().map(|it| it.len())
}

#[test]
fn a_killed_process_leaves_no_file_or_a_whole_one() {
    let whole_dir = tempfile::tempdir().unwrap();
    let command = |out: &str| {
        let mut process = Process::new(assert_cmd::cargo::cargo_bin!("minicrit"));
        process.env_clear().env("MINICRIT_THREADS", "2");
        process.args(["quantize", "nano", "--format", "q4_k_m", "--output", out]);
        process.stdout(Stdio::null()).stderr(Stdio::null());
        process
    };
    let whole = path(whole_dir.path(), "out.gguf");
    assert!(command(&whole).status().unwrap().success());
    let whole = std::fs::read(&whole).unwrap();
    let mut killed = 0;
    for eighth in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let out = path(dir.path(), "out.gguf");
        let mut child = command(&out).spawn().unwrap();
        // Killed once so much is written, or just after the end.
        let enough = whole.len() as u64 * eighth / 8;
        while child.try_wait().unwrap().is_none()
            && part_len(dir.path()).is_none_or(|it| it < enough)
        {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        match std::fs::read(&out) {
            Ok(bytes) => assert!(bytes == whole, "half a file at {eighth} eighths"),
            Err(_) => killed += 1,
        }
    }
    assert!(killed > 0, "no kill came in time");
}
