//! The surface of the command line: help texts, usage errors, names and exit codes of failures.
//!
//! One command for each test; the snapshot holds exit code, stdout and stderr. No test here needs a
//! model to be loaded.
#![allow(clippy::unwrap_used)]

use std::{fmt::Write, path::Path};

use assert_cmd::Command;

/// The program, in an empty home and with nothing else in its environment.
fn minicrit(home: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("minicrit"));
    command.env_clear().env("MINICRIT_HOME", home.join("data")).current_dir(home).args(words);
    command.env("HF_HOME", home.join("hf")).env("HF_HUB_OFFLINE", "1");
    command
}

/// What a command did, in the form of the snapshots.
fn seen(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let mut text = format!("exit: {}\n", output.status.code().unwrap_or(-1));
    for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        write!(text, "--- {name}\n{}", String::from_utf8_lossy(bytes)).unwrap();
    }
    text
}

/// Runs in an empty folder that the snapshot calls `[DIR]`.
fn check(name: &str, words: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    check_in(home.path(), name, words);
}

fn check_in(home: &Path, name: &str, words: &[&str]) {
    let text = seen(&mut minicrit(home, words)).replace(&home.display().to_string(), "[DIR]");
    insta::assert_snapshot!(name, text);
}

#[test]
fn nothing_typed_prints_the_short_help() {
    check("nothing", &[]);
}

#[test]
fn help_texts() {
    check("help", &["--help"]);
    let commands = [
        "run",
        "score",
        "tokenize",
        "show",
        "bench",
        "quantize",
        "pull",
        "list",
        "create",
        "cp",
        "rm",
        "verify",
        "cache",
        "audit",
        "config",
        "finetune",
        "doctor",
        "completions",
    ];
    for command in commands {
        check(&format!("help_{command}"), &[command, "--help"]);
    }
    check("help_data", &["data", "--help"]);
    check("help_data_check", &["data", "check", "--help"]);
}

#[test]
fn problems_of_data_have_places_and_fixes() {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
    let good = |q: &str, a: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"{q}"}},{{"role":"assistant","content":"{a}"}}]}}"#
        )
    };
    let rows = [
        good("one", "eins"),
        good("two", "zwei").replace("user", "bot"),
        "{\"messages\": [".into(),
        good("three", "<|im_end|>"),
        good("one", "eins"),
        r#"{"prompt": "p", "chosen": "a", "rejected": "a"}"#.into(),
        good("four", " "),
    ];
    write("train.jsonl", &rows.join("\n"));
    write("valid.jsonl", &good("one", "uno"));
    write("clean.jsonl", &good("one", "eins"));
    check_in(home.path(), "data_problems", &["data", "check", ".", "--rejected", "bad.jsonl"]);
    let rejected = std::fs::read_to_string(home.path().join("bad.jsonl")).unwrap();
    assert_eq!(rejected, [&rows[1..3], &rows[5..]].concat().join("\n") + "\n");
    check_in(home.path(), "data_problems_json", &["data", "check", "train.jsonl", "--json"]);
    check_in(home.path(), "data_clean", &["data", "check", "clean.jsonl"]);
    let with_model = ["data", "check", "clean.jsonl", "--model", "nano", "--max-seq-len", "8"];
    check_in(home.path(), "data_cut_to_nothing", &with_model);
    check_in(home.path(), "data_absent", &["data", "check", "absent.jsonl"]);
    std::fs::create_dir(home.path().join("empty")).unwrap();
    check_in(home.path(), "data_no_train", &["data", "check", "empty"]);
}

#[test]
fn the_renderer_is_hidden_but_there() {
    let home = tempfile::tempdir().unwrap();
    let help = seen(&mut minicrit(home.path(), &["--help"]));
    assert!(!help.contains("render-template"), "{help}");
    assert!(
        seen(&mut minicrit(home.path(), &["render-template", "--help"])).starts_with("exit: 0")
    );
}

#[test]
fn usage_errors() {
    let cases: [(&str, &[&str]); 14] = [
        ("unknown_command", &["fly"]),
        ("unknown_flag", &["run", "--temprature", "1"]),
        ("bad_temperature", &["run", "hi", "--temperature", "-1"]),
        ("bad_top_p", &["run", "hi", "--top-p", "1.5"]),
        ("bad_number", &["run", "hi", "--top-k", "many"]),
        ("bad_threads", &["run", "hi", "--threads", "0"]),
        ("no_value", &["run", "hi", "--seed"]),
        ("score_without_input", &["score", "nano"]),
        ("score_with_two_inputs", &["score", "nano", "--text", "a", "--ids", "b"]),
        ("tools_without_messages", &["tokenize", "nano", "--text", "a", "--tools", "t"]),
        ("quiet_and_verbose", &["run", "hi", "--quiet", "--verbose"]),
        ("raw_and_system", &["run", "hi", "--raw", "--system", "x"]),
        ("unknown_shell", &["completions", "tcsh"]),
        ("empty_stop", &["run", "hi", "--stop", ""]),
    ];
    for (name, words) in cases {
        check(name, words);
    }
}

#[test]
fn what_is_not_built_yet_is_refused_by_name() {
    check("quant_unknown", &["bench", "--quant", "q3_magic"]);
    check("adapter_not_found", &["run", "hi", "--adapter", "my-adapter"]);
}

#[test]
fn models_that_are_not_here() {
    check("hub_alias_offline", &["run", "qwen2.5:0.5b", "hi"]);
    check("hub_repo_absent", &["show", "Qwen/Qwen2.5-0.5B-Instruct"]);
    check("pull_offline", &["pull", "Qwen/Qwen2.5-0.5B-Instruct-GGUF:q8_0"]);
    check("pull_builtin", &["pull", "nano"]);
    check("pull_path", &["pull", "./folder"]);
}

#[test]
fn absent_models_and_files() {
    check("alias_misspelt", &["score", "qwen2.5:0.6b", "--text", "a"]);
    check("alias_unknown", &["show", "no-such-model-at-all"]);
    check("folder_absent", &["run", "./no-folder", "hi"]);
    check("gguf_absent", &["bench", "no-file.gguf"]);
    check("ids_absent", &["run", "nano", "--ids", "no-ids.json"]);
    check("messages_absent", &["run", "nano", "--messages", "no-messages.json"]);
    check("draft_unknown", &["run", "hi", "--draft", "no-such-model-at-all"]);
}

#[test]
fn broken_input_files() {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
    write("words.json", r#"["a", 1, -1, 1.5, 4294967296]"#);
    write("half.json", "[1, 2");
    write("none.json", "[]");
    write("turns.json", r#"[{"content": "who?"}, 7]"#);
    let run = |name: &str, flag: &str, file: &str| {
        check_in(home.path(), name, &["run", "nano", flag, file]);
    };
    run("ids_of_words", "--ids", "words.json");
    run("ids_cut", "--ids", "half.json");
    run("ids_none", "--ids", "none.json");
    run("messages_bad", "--messages", "turns.json");
    run("messages_none", "--messages", "none.json");
}

#[test]
fn an_empty_folder_is_no_model() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("empty")).unwrap();
    let text = seen(&mut minicrit(home.path(), &["show", "./empty"]));
    assert!(
        text.starts_with("exit: 1") && text.contains("error[") && text.contains("hint: "),
        "{text}"
    );
}

#[test]
fn an_empty_prompt_is_told() {
    let home = tempfile::tempdir().unwrap();
    let text = seen(minicrit(home.path(), &["run", "nano"]).write_stdin(""));
    insta::assert_snapshot!("stdin_empty", text);
    let text = seen(minicrit(home.path(), &["run", "nano"]).write_stdin(&b"ab\xFFcd"[..]));
    insta::assert_snapshot!("stdin_not_text", text);
}

#[test]
fn the_environment_is_checked_too() {
    let home = tempfile::tempdir().unwrap();
    let text = seen(minicrit(home.path(), &["run", "hi"]).env("MINICRIT_THREADS", "lots"));
    insta::assert_snapshot!("threads_of_the_environment", text);
    let text = seen(minicrit(home.path(), &["show"]).env("MINICRIT_MODEL", "no-such-model-at-all"));
    insta::assert_snapshot!("model_of_the_environment", text);
}

#[test]
fn control_characters_in_names_do_not_reach_the_terminal() {
    let home = tempfile::tempdir().unwrap();
    let text = seen(&mut minicrit(home.path(), &["show", "./a\u{1b}[31m\u{9b}b"]));
    assert!(!text.contains(['\u{1b}', '\u{9b}']), "{text:?}");
    assert!(text.contains("error[model-not-found]"), "{text}");
}

#[test]
fn completions_name_every_command() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = minicrit(home.path(), &["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        for command in ["run", "score", "tokenize", "show", "bench", "pull", "list", "doctor"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn the_list_is_one_object() {
    let home = tempfile::tempdir().unwrap();
    let output = minicrit(home.path(), &["list", "--available", "--json"]).output().unwrap();
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(list["models"][0]["name"], "nano");
    assert_eq!(list["models"][0]["available"], true);
    assert!(output.stderr.is_empty());
}

#[test]
fn the_doctor_finds_no_fault_with_the_program() {
    let home = tempfile::tempdir().unwrap();
    let output = minicrit(home.path(), &["doctor", "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in ["kernels", "cores", "memory_bytes", "available_memory_bytes", "checks", "models"] {
        assert!(!report[key].is_null(), "{key}");
    }
    let failed = report["checks"].as_array().unwrap().iter().any(|it| it["verdict"] == "fail");
    assert_eq!(output.status.code(), Some(i32::from(failed)));
    let text = seen(&mut minicrit(home.path(), &["doctor"]));
    assert!(text.contains("] processor:") && text.contains("qwen2.5:0.5b"), "{text}");
}

/// A reader that has seen enough is no failure.
#[cfg(unix)]
#[test]
fn a_closed_pipe_ends_quietly() {
    use std::process::{Command, Stdio};
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("minicrit"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
