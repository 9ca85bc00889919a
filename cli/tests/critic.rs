//! Critiques, evaluation, data and promotion on the command line, with the built-in model.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

fn minicrit(home: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("minicrit"));
    command.env_clear().env("MINICRIT_THREADS", "2").env("MINICRIT_HOME", home).args(words);
    command.current_dir(home);
    command
}

fn run(home: &Path, words: &[&str]) -> (i32, String, String) {
    let output = minicrit(home, words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json(home: &Path, words: &[&str]) -> Value {
    let (code, out, err) = run(home, words);
    assert_eq!(code, 0, "{words:?}: {err}");
    assert_eq!(out.lines().count(), 1, "one object on one line");
    serde_json::from_str(&out).unwrap()
}

const FLAWED: &str = "Last 3 trades won, so I'm 95% sure the 4th will.";

#[test]
fn a_critique_has_the_machine_form_and_its_exit_code() {
    let home = tempfile::tempdir().unwrap();
    let critique = json(home.path(), &["critique", FLAWED, "--json"]);
    assert_eq!(critique["verdict"], "flawed");
    assert_eq!(critique["flaw_type"], "small sample");
    assert!(critique["confidence"].as_f64().unwrap() > 0.5);
    assert!(critique.get("explanation").is_none());
    let explained = json(home.path(), &["critique", FLAWED, "--json", "--explain"]);
    assert!(explained["explanation"].as_str().unwrap().len() > 10);
    assert!(explained["fix"].is_string());
    assert_eq!(run(home.path(), &["critique", FLAWED, "--fail-on", "flawed"]).0, 10);
    let piped = minicrit(home.path(), &["critique", "-"]).write_stdin(FLAWED).output().unwrap();
    assert!(String::from_utf8(piped.stdout).unwrap().contains("small sample"));
    let (code, _, err) = run(home.path(), &["critique", "  "]);
    assert_eq!(code, 1);
    assert!(err.starts_with("error[empty-rationale]: "), "{err}");
}

#[test]
fn a_batch_keeps_order_and_fields() {
    let home = tempfile::tempdir().unwrap();
    let lines = "{\"id\": 7, \"rationale\": \"We tried it on 3 patients and all recovered, so it always works.\"}\n{\"rationale\": \"Only 3 cases so far, so it is too early to say.\", \"x\": [1]}\n";
    std::fs::write(home.path().join("in.jsonl"), lines).unwrap();
    let (code, out, err) =
        run(home.path(), &["critique", "--batch", "in.jsonl", "-o", "out.jsonl"]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    let text = std::fs::read_to_string(home.path().join("out.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!((rows.len(), &rows[0]["id"], &rows[1]["x"][0]), (2, &7.into(), &1.into()));
    assert!(rows.iter().all(|it| it["verdict"].is_string() && it["rationale"].is_string()));
    let alone = json(home.path(), &["critique", rows[0]["rationale"].as_str().unwrap(), "--json"]);
    assert_eq!(alone["confidence"], rows[0]["confidence"]);
    std::fs::write(home.path().join("bad.jsonl"), "{\"a\": 1}\n{\"rationale\": 3}\n").unwrap();
    let (code, _, err) = run(home.path(), &["critique", "--batch", "bad.jsonl"]);
    assert!(code == 1 && err.contains("error[bad-lines]") && err.contains("object 2"), "{err}");
}

#[test]
fn a_batch_that_was_killed_goes_on_behind_what_is_done() {
    let home = tempfile::tempdir().unwrap();
    let lines: String = (0..120)
        .map(|it| format!("{{\"id\": {it}, \"rationale\": \"{it} trades won, so all will.\"}}\n"))
        .collect();
    std::fs::write(home.path().join("in.jsonl"), lines).unwrap();
    let words = |to| ["critique", "--batch", "in.jsonl", "-o", to];
    assert_eq!(run(home.path(), &words("whole.jsonl")).0, 0);
    let whole = std::fs::read_to_string(home.path().join("whole.jsonl")).unwrap();
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("minicrit"))
        .env_clear()
        .env("MINICRIT_HOME", home.path())
        .args(words("cut.jsonl"))
        .current_dir(home.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let part = home.path().join("cut.jsonl.part");
    let done = || std::fs::read_to_string(&part).unwrap_or_default().lines().count();
    while done() < 4 && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!home.path().join("cut.jsonl").exists() && (4..=120).contains(&done()));
    // What is done is not done again: a mark in it stays.
    let marked =
        std::fs::read_to_string(&part).unwrap().replacen("\\\"id\\\":0", "\\\"id\\\":-1", 1);
    std::fs::write(&part, marked).unwrap();
    let (code, _, err) = run(home.path(), &[&words("cut.jsonl")[..], &["--explain"]].concat());
    assert!(code == 1 && err.contains("error[other-run]"), "{err}");
    assert_eq!(run(home.path(), &words("cut.jsonl")).0, 0);
    let cut = std::fs::read_to_string(home.path().join("cut.jsonl")).unwrap();
    assert_eq!(cut, whole.replacen("\"id\":0", "\"id\":-1", 1));
    assert!(cut.contains("\"id\":-1") && !part.exists());
}

#[test]
fn scores_are_explained_by_what_they_sum_up() {
    let home = tempfile::tempdir().unwrap();
    let texts =
        ["It was cold. The bright sea lay calm. \\\"Go,\\\" she said.", "I can't help with that."];
    let lines: String = texts.map(|it| format!("{{\"text\": \"{it}\"}}\n")).concat();
    std::fs::write(home.path().join("t.jsonl"), lines).unwrap();
    for scorer in ["default", "seed003", "critique"] {
        let words = ["data", "score", "t.jsonl", "--explain", "--scorer", scorer];
        let scores = json(home.path(), &[&words[..], &["--json"]].concat())["scores"].clone();
        for it in scores.as_array().unwrap() {
            let reasons = it["reasons"].as_array().unwrap();
            let sum: f64 = reasons.iter().map(|it| it[1].as_f64().unwrap()).sum();
            let score = it["score"].as_f64().unwrap();
            assert!((sum.clamp(0.0, 10.0) - score).abs() < 0.051, "{scorer}: {it}");
        }
        let (code, out, err) = run(home.path(), &words);
        assert!(code == 0 && out.lines().count() == 3, "{err}");
        let first = scores[0]["reasons"][0][0].as_str().unwrap();
        assert!(out.lines().next().unwrap().contains(first), "{out}");
    }
    // The literal rule keeps what refuses; ours does not.
    let kept = |scorer| {
        json(home.path(), &["data", "score", "t.jsonl", "--scorer", scorer, "--json"])["kept"]
            .clone()
    };
    assert_eq!((kept("seed003"), kept("default")), (2.into(), 1.into()));
}

#[test]
fn rejection_sampling_trains_on_the_models_own_right_critiques() {
    let home = tempfile::tempdir().unwrap();
    let make = ["data", "hard-examples", "--count", "12", "--output", "cases.jsonl"];
    assert_eq!(run(home.path(), &make).0, 0);
    let words = ["finetune", "nano", "--data", "cases.jsonl", "--output", "out", "--method", "rsf"];
    let course = ["--samples", "4", "--keep", "0.5", "--iters", "1", "--rank", "2", "--seed", "3"];
    let (code, _, err) = run(home.path(), &[&words[..], &course].concat());
    assert_eq!(code, 0, "{err}");
    let lines = |file: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(home.path().join(file)).unwrap();
        text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
    };
    let (cases, kept) = (lines("cases.jsonl"), lines("out/rsf.jsonl"));
    assert!(!kept.is_empty() && kept.len() <= 24);
    for row in &kept {
        let case = cases.iter().find(|it| it["id"] == row["id"]).unwrap();
        let answer = row["messages"][1]["content"].as_str().unwrap();
        let verdict = format!("Verdict: {}", case["label"].as_str().unwrap());
        assert!(answer.starts_with(&verdict), "{row}");
        let same = |it: &&Value| it["id"] == row["id"];
        assert!(kept.iter().filter(same).count() <= 2);
    }
    assert!(home.path().join("out/adapter_model.safetensors").is_file());
    for bad in [&["--keep", "2"][..], &["--from-scratch"]] {
        let (code, _, err) = run(home.path(), &[&words[..], bad].concat());
        assert!(code == 2, "{bad:?}: {err}");
    }
    let sft = ["finetune", "nano", "--data", "cases.jsonl", "--output", "x", "--keep", "0.5"];
    assert_eq!(run(home.path(), &sft).0, 2);
}

#[test]
fn what_a_model_rephrases_keeps_its_label() {
    let home = tempfile::tempdir().unwrap();
    let make = |to| ["data", "hard-examples", "--count", "6", "--seed", "2", "--output", to];
    assert_eq!(run(home.path(), &make("plain.jsonl")).0, 0);
    let with = [&make("new.jsonl")[..], &["--model", "nano"]].concat();
    let (code, _, err) = run(home.path(), &with);
    assert!(code == 0 && err.contains("of 6 items rephrased"), "{err}");
    let rows = |file: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(home.path().join(file)).unwrap();
        text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
    };
    for (old, new) in std::iter::zip(rows("plain.jsonl"), rows("new.jsonl")) {
        assert_eq!((&old["id"], &old["label"]), (&new["id"], &new["label"]));
        assert_eq!(new["messages"][0]["content"], new["rationale"]);
        // Items that were not rephrased are as they were.
        assert!(new["rephrased"] == true || old == new);
    }
    assert!(!home.path().join("new.jsonl.part").exists());
}

#[test]
fn an_evaluation_writes_its_report_and_holds_its_bars() {
    let home = tempfile::tempdir().unwrap();
    let words = ["eval", "adversarial", "--limit", "60", "--output", "out", "--json"];
    let report = json(home.path(), &words);
    let model = &report["models"][0];
    assert_eq!(model["count"], 60);
    for metric in ["accuracy", "precision", "recall", "f1", "fpr", "kappa", "ece", "brier"] {
        assert!(model["metrics"][metric]["value"].is_f64(), "{metric}");
    }
    for file in ["report.html", "report.json", "errors.jsonl", "cases.jsonl"] {
        assert!(home.path().join("out").join(file).is_file(), "{file}");
    }
    // A second run finds every case done; the same numbers come out.
    assert_eq!(json(home.path(), &words), report);
    let bars = ["eval", "adversarial", "--limit", "60", "--output", "out", "--min-f1", "1"];
    let (code, out, err) = run(home.path(), &bars);
    assert!(code == 100 && out.contains("METRIC") && err.contains("missed: f1 is"), "{err}");
    let (code, _, err) =
        run(home.path(), &["eval", "adversarial", "--output", "out", "--prompt", "analyze"]);
    assert!(code == 1 && err.contains("error[other-run]"), "{err}");
}

#[test]
fn a_sweep_needs_one_pass_for_all_temperatures() {
    let home = tempfile::tempdir().unwrap();
    let words = [
        "eval",
        "adversarial",
        "--limit",
        "40",
        "--json",
        "--sweep",
        "temperature=0,1,4",
        "--sweep",
        "prompt=rationale,analyze",
    ];
    let rows = json(home.path(), &words)["sweep"].clone();
    assert_eq!(rows.as_array().unwrap().len(), 6);
    assert_eq!(rows[0]["p95_ms"], rows[2]["p95_ms"]);
    for bad in ["temperature=hot", "temperature", "colour=red", "prompt="] {
        let (code, _, err) = run(home.path(), &["eval", "adversarial", "--sweep", bad]);
        assert!(code == 2 && err.contains("hint: "), "{bad}: {err}");
    }
}

#[test]
fn bad_suites_have_names() {
    let home = tempfile::tempdir().unwrap();
    let case = |label: &str| format!("{{\"rationale\": \"a\", \"label\": {label}}}\n");
    for (text, name) in [
        (String::new(), "no-cases"),
        (case("\"valid\""), "one-class"),
        (case("\"flawed\", \"flaw_type\": \"bad luck\""), "bad-lines"),
        ("{\"rationale\": \n".into(), "bad-lines"),
    ] {
        std::fs::write(home.path().join("s.jsonl"), text).unwrap();
        let (code, _, err) = run(home.path(), &["eval", "s.jsonl"]);
        assert!(code == 1 && err.contains(&format!("error[{name}]")), "{name}: {err}");
    }
    let (code, _, err) = run(home.path(), &["eval", "no-such-suite"]);
    assert!(code == 3 && err.contains("error[file-not-found]"), "{err}");
}

#[test]
fn data_is_made_split_counted_and_scored() {
    let home = tempfile::tempdir().unwrap();
    let make = ["data", "hard-examples", "--count", "240", "--seed", "3", "--output", "all.jsonl"];
    assert_eq!(run(home.path(), &make).0, 0);
    let first = std::fs::read(home.path().join("all.jsonl")).unwrap();
    assert_eq!(run(home.path(), &make).0, 0);
    assert_eq!(std::fs::read(home.path().join("all.jsonl")).unwrap(), first);
    let split = json(home.path(), &["data", "split", "all.jsonl", "--output", "parts", "--json"]);
    let parts = ["train", "valid"].map(|it| split[it].as_u64().unwrap());
    assert!(parts[0] + parts[1] == 240 && parts[1] >= 20, "{parts:?}");
    let stats = json(home.path(), &["data", "stats", "all.jsonl", "--svg", "s.svg", "--json"]);
    assert_eq!((&stats["rows"], &stats["columns"]["label"]["valid"]), (&240.into(), &120.into()));
    assert!(std::fs::read_to_string(home.path().join("s.svg")).unwrap().starts_with("<svg"));
    let score = ["data", "score", "all.jsonl", "--scorer", "critique", "--json"];
    assert_eq!(json(home.path(), &score)["kept"], 240);
    let more = [
        "data",
        "hard-examples",
        "--from",
        "all.jsonl",
        "--count",
        "300",
        "--output",
        "more.jsonl",
    ];
    assert_eq!(run(home.path(), &more).0, 0);
    let dedup = json(home.path(), &["data", "dedup", "more.jsonl", "--json"]);
    assert!(dedup["read"] == 300 && dedup["duplicates"] == 0);
    let (code, _, err) = run(home.path(), &["data", "hard-examples", "--kinds", "odd"]);
    assert!(code == 2 && err.contains("known: subtle-flaw"), "{err}");
}

#[test]
fn versions_that_do_not_exist_are_said_to_be_absent() {
    let home = tempfile::tempdir().unwrap();
    let (code, _, err) = run(home.path(), &["adapters", "history", "none"]);
    assert!(code == 3 && err.contains("error[no-version]"), "{err}");
    let (code, _, err) = run(home.path(), &["adapters", "rollback", "none"]);
    assert!(code == 3 && err.contains("error[no-version]"), "{err}");
    assert_eq!(run(home.path(), &["adapters", "history", "../x"]).0, 2);
}

#[cfg(unix)]
#[test]
fn a_program_of_the_users_gives_the_points_of_pairs() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let script = home.path().join("points.sh");
    let program = |text: &str| {
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let cases = "{\"rationale\": \"Two trades won, so all will.\", \"label\": \"flawed\", \"flaw_type\": \"small sample\"}\n{\"rationale\": \"Three cases are too few to judge.\", \"label\": \"valid\"}\n";
    std::fs::write(home.path().join("cases.jsonl"), cases).unwrap();
    let words = [
        "data",
        "preference-pairs",
        "--input",
        "cases.jsonl",
        "--output",
        "pairs.jsonl",
        "--candidates",
        "2",
        "--temperature",
        "2",
        "--score-command",
        "./points.sh",
    ];
    program("#!/bin/sh\necho many\n");
    let (code, _, err) = run(home.path(), &words);
    assert!(code == 1 && err.contains("error[score-command]"), "{err}");
    assert!(!home.path().join("pairs.jsonl").exists());
    // Longer is better: what a program says is done, sensible or not.
    program("#!/bin/sh\nwc -c\n");
    let (code, _, err) = run(home.path(), &words);
    assert_eq!(code, 0, "{err}");
    let text = std::fs::read_to_string(home.path().join("pairs.jsonl")).unwrap();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let length = |side: &str| row[side][0]["content"].to_string().len();
        assert!(length("chosen") > length("rejected"));
    }
    assert!(!home.path().join("pairs.jsonl.part").exists());
}

#[test]
fn a_fit_of_the_confidence_needs_a_folder() {
    let home = tempfile::tempdir().unwrap();
    let (code, _, err) = run(home.path(), &["eval", "adversarial", "--calibrate"]);
    assert!(code == 2 && err.contains("error[no-folder]"), "{err}");
}

#[test]
fn an_endpoint_that_is_down_has_a_name() {
    let home = tempfile::tempdir().unwrap();
    let words = ["critique", "It rains.", "--model", "m", "--endpoint", "http://127.0.0.1:1/v1"];
    let (code, _, err) = run(home.path(), &words);
    assert!(code == 1 && err.contains("error[endpoint]") && err.contains("hint: "), "{err}");
}
