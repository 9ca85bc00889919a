//! Pulling by command line, against a hub on loopback: on demand, by eight processes at once, and
//! never where nobody asked for it.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    path::Path,
    process::{Command, Stdio},
};

use minicrit_testkit::fake_hub::{FakeHub, FakeRepo};
use serde_json::Value;
use support::{fails, json, minicrit, nano, succeeds, text};

#[test]
fn a_model_is_pulled_and_run() {
    let hub = FakeHub::start(vec![nano()]);
    let dir = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| minicrit(dir.path(), &hub, words);

    let plan = json(run(&["pull", "org/nano", "--dry-run", "--json"]));
    assert_eq!(plan["files"].as_array().unwrap().len(), 5);
    assert_eq!((&plan["missing_bytes"], hub.body_bytes()), (&plan["bytes"], 0));

    let pulled = json(run(&["pull", "org/nano", "--json"]));
    assert_eq!(pulled["received_bytes"], plan["bytes"]);
    assert_eq!(pulled["commit"], nano().commit);
    let output = succeeds(run(&["pull", "org/nano"]));
    assert_eq!(text(&output.stdout).trim(), pulled["path"].as_str().unwrap());

    // By its name, and with no network at all, it gives what the built-in model gives.
    let before = hub.requests().len();
    let score = |model: &str| json(run(&["score", model, "--text", "Two and two.", "--json"]));
    assert_eq!(score("org/nano")["logprobs"], score("nano")["logprobs"]);
    assert_eq!(hub.requests().len(), before);
}

#[test]
fn run_fetches_what_is_missing_and_others_only_when_asked() {
    let hub = FakeHub::start(vec![nano()]);
    let dir = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| minicrit(dir.path(), &hub, words);
    for words in [
        &["score", "org/nano", "--text", "a"][..],
        &["bench", "org/nano"],
        &["show", "org/nano"],
        &["tokenize", "org/nano", "--text", "a"],
        &["run", "org/nano", "hi", "--pull", "never"],
    ] {
        let (code, stderr) = fails(run(words));
        assert_eq!(code, 3, "{words:?}: {stderr}");
        assert!(stderr.contains("error[model-not-downloaded]"), "{words:?}: {stderr}");
        assert!(stderr.contains("hint: minicrit pull org/nano"), "{words:?}: {stderr}");
    }
    assert_eq!(hub.requests().len(), 0);
    let mut offline = run(&["run", "org/nano", "hi"]);
    offline.env("HF_HUB_OFFLINE", "1");
    let (code, stderr) = fails(offline);
    assert!(code == 3 && stderr.contains("error[offline]"), "{code}: {stderr}");
    assert_eq!(hub.requests().len(), 0);

    let answer = json(run(&["run", "org/nano", "hi", "-n", "4", "--json"]));
    assert_eq!(answer["token_ids"].as_array().unwrap().len(), 4);
    succeeds(run(&["score", "org/nano", "--text", "a", "--pull", "missing"]));

    // So does finetune, which takes long enough not to be begun in vain.
    succeeds(run(&["rm", "org/nano"]));
    let chat = r#"{"messages":[{"role":"user","content":"Q"},{"role":"assistant","content":"A"}]}"#;
    std::fs::write(dir.path().join("chats.jsonl"), format!("{chat}\n")).unwrap();
    let train = ["finetune", "org/nano", "--data", "chats.jsonl", "--output", "out", "--iters=1"];
    let (code, stderr) = fails(run(&[&train[..], &["--pull", "never"]].concat()));
    assert!(code == 3 && stderr.contains("error[model-not-downloaded]"), "{stderr}");
    succeeds(run(&train));
}

#[test]
fn failures_of_the_hub_have_names_and_exit_codes() {
    let gated = FakeRepo { gate: Some("hf_good".into()), id: "org/gated".into(), ..nano() };
    let hub = FakeHub::start(vec![nano(), gated]);
    let dir = tempfile::tempdir().unwrap();
    let pull = |model: &str, token: &str| {
        let mut command = minicrit(dir.path(), &hub, &["pull", model]);
        command.env("HF_TOKEN", token);
        command
    };
    for (model, code, name) in [
        ("org/none", 3, "repo-not-found"),
        ("org/nano@v2", 3, "revision-not-found"),
        ("org/gated", 1, "gated"),
        ("a/b/c", 3, "model-not-found"),
        ("nano", 2, "nothing-to-pull"),
    ] {
        let (found, stderr) = fails(pull(model, "hf_secret"));
        assert!(
            stderr.contains(&format!("error[{name}]")) && stderr.contains("hint: "),
            "{stderr}"
        );
        assert_eq!(found, code, "{stderr}");
        assert!(!stderr.contains("hf_secret"), "{stderr}");
    }
    succeeds(pull("org/gated", "hf_good"));
    // A token in a file, as `hf auth login` leaves it.
    let other = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(other.path().join("hf")).unwrap();
    std::fs::write(other.path().join("hf/token"), "hf_good\n").unwrap();
    succeeds(minicrit(other.path(), &hub, &["pull", "org/gated"]));
}

#[test]
fn eight_processes_make_one_transfer() {
    let hub = FakeHub::start(vec![nano()]);
    // Slow enough that all of them are there before the first one is done.
    hub.throttle(8_000_000);
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<_> = (0..8)
        .map(|_| {
            let mut command = minicrit(dir.path(), &hub, &["pull", "org/nano", "--json"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut received = 0;
    for child in all {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        received += report["received_bytes"].as_u64().unwrap();
    }
    let size: usize = nano().files.iter().map(|it| it.bytes.len()).sum();
    assert_eq!((received, hub.body_bytes()), (size as u64, size as u64));
}

/// Every verb but `pull` (and `run` of a model that is not here) works without a connection: the
/// hub, and a proxy for everything else, hear nothing.
#[test]
fn nothing_else_opens_a_connection() {
    let hub = FakeHub::start(vec![nano()]);
    let proxy = FakeHub::start(Vec::new());
    let dir = tempfile::tempdir().unwrap();
    succeeds(minicrit(dir.path(), &hub, &["pull", "org/nano"]));
    std::fs::write(dir.path().join("Modelfile"), "FROM org/nano\nSYSTEM Be brief.\n").unwrap();
    let chat = r#"{"messages":[{"role":"user","content":"Q"},{"role":"assistant","content":"A"}]}"#;
    std::fs::write(dir.path().join("chats.jsonl"), format!("{chat}\n")).unwrap();
    let before = hub.requests().len();
    for words in [
        &[][..],
        &["--help"],
        &["run", "nano", "hi", "-n", "2"],
        &["run", "org/nano", "hi", "-n", "2"],
        &["score", "org/nano", "--text", "a"],
        &["tokenize", "org/nano", "--text", "a"],
        &["show", "org/nano"],
        &["bench", "nano", "--prompt-len", "4", "--gen-len", "2", "--reps", "1"],
        &["list"],
        &["list", "--available"],
        &["show", "qwen2.5:0.5b", "--fit"],
        &["create", "mine", "-f", "Modelfile"],
        &["cp", "nano", "other"],
        &["run", "mine", "hi", "-n", "2"],
        &["verify"],
        &["score", "org/nano", "--text", "a", "--quant", "q4"],
        &["quantize", "org/nano", "--format", "q4", "--output", "nano.minicrit"],
        &["critique", "Three wins, so the fourth is sure."],
        &["data", "hard-examples", "--count", "8", "--output", "hard.jsonl"],
        &["data", "check", "chats.jsonl"],
        &[
            "finetune",
            "org/nano",
            "--data",
            "chats.jsonl",
            "--output",
            "out",
            "--iters",
            "1",
            "--lr",
            "1e-2",
        ],
        &["adapters", "show", "out"],
        &["adapters", "verify", "out", "--model", "org/nano"],
        &["fuse", "org/nano", "--adapter", "out", "--output", "fused", "--max-kl", "9"],
        &["cache", "list"],
        &["cache", "prune"],
        &["audit", "verify"],
        &["config", "show"],
        &["doctor"],
        &["rm", "mine", "org/nano"],
        &["completions", "bash"],
    ] {
        let mut command = minicrit(dir.path(), &hub, words);
        command.env("HTTPS_PROXY", proxy.endpoint());
        let trace = dir.path().join("trace");
        if let Some(mut traced) = traced(&command, &trace) {
            traced.current_dir(dir.path());
            succeeds(traced);
            let calls = std::fs::read_to_string(&trace).unwrap();
            assert!(!calls.contains("AF_INET"), "{words:?}: {calls}");
        } else {
            succeeds(command);
        }
    }
    assert_eq!((hub.requests().len(), proxy.requests().len()), (before, 0));
}

/// The same command under strace, where there is one, with every try of a connection written down.
fn traced(command: &Command, trace: &Path) -> Option<Command> {
    let options = ["-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,bind"];
    let strace = || {
        let mut strace = Command::new("/usr/bin/strace");
        strace.args(options).arg("-o").arg(trace);
        strace
    };
    let works = strace().arg("true").output().is_ok_and(|it| it.status.success());
    if !works {
        return None;
    }
    let mut strace = strace();
    strace.arg("--").arg(command.get_program()).args(command.get_args()).env_clear();
    strace.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    strace.stdin(Stdio::null());
    Some(strace)
}

#[test]
fn own_models_have_names() {
    let hub = FakeHub::start(vec![nano()]);
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("data")).unwrap();
    let own = dir.path().join("data/models.toml");
    let entry = "schema_version = 1\n[[model]]\nname = \"mine\"\ntitle = \"Mine\"\n\
                 description = \"Mine.\"\nrepo = \"org/nano\"\narchitecture = \"llama\"\n\
                 license = \"MIT\"\n";
    std::fs::write(&own, entry).unwrap();
    succeeds(minicrit(dir.path(), &hub, &["run", "mine", "hi", "-n", "2"]));
    std::fs::write(&own, entry.replace("llama", "mamba")).unwrap();
    let (code, stderr) = fails(minicrit(dir.path(), &hub, &["list"]));
    assert!(code == 1 && stderr.contains("error[registry-invalid]"), "{stderr}");
    assert!(stderr.contains("models.toml") && stderr.contains("line 7"), "{stderr}");
}
