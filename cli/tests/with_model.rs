//! The machine forms, against the built-in model and the reference fixtures.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use minicrit_testkit::fixtures_dir;
use serde_json::Value;

/// Logs of these tests go to a home of their own.
fn home() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-home", module_path!()))
}

fn minicrit(words: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("minicrit"));
    command
        .env_clear()
        .env("MINICRIT_HOME", home())
        .env("MINICRIT_THREADS", "2")
        .env("HF_HUB_OFFLINE", "1")
        .args(words);
    command
}

/// stdout of a command that succeeds, as JSON.
fn json(words: &[&str]) -> Value {
    let output = minicrit(words).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {stderr}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "one object on one line");
    serde_json::from_str(&text).unwrap()
}

/// Exit code and stderr of a command.
fn failure(words: &[&str]) -> (i32, String) {
    let output = minicrit(words).output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).unwrap())
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn file(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_string()
}

/// A fixture's folder, its `fixture.json`, and a file with its ids.
fn fixture(name: &str, dir: &Path) -> (String, Value, String) {
    let folder: PathBuf = fixtures_dir().join(name);
    let text = std::fs::read_to_string(folder.join("fixture.json")).unwrap();
    let fixture: Value = serde_json::from_str(&text).unwrap();
    let ids = file(dir, "ids.json", &fixture["ids_40"].to_string());
    (folder.to_str().unwrap().to_string(), fixture, ids)
}

#[test]
fn run_prints_the_machine_form() {
    let answer = json(&["run", "Two trades won, so all will.", "--json", "-n", "12"]);
    let expected = [
        "text",
        "token_ids",
        "prompt_token_ids",
        "finish_reason",
        "usage",
        "timings",
        "speculation",
    ];
    assert_eq!(keys(&answer), expected);
    assert_eq!(keys(&answer["usage"]), ["prompt_tokens", "completion_tokens", "total_tokens"]);
    let timings = ["load_ms", "prompt_ms", "ttft_ms", "decode_ms", "prompt_tok_s", "decode_tok_s"];
    assert_eq!(keys(&answer["timings"]), timings);
    assert_eq!(keys(&answer["speculation"]), ["drafted", "accepted"]);
    let count = |key: &str| answer["usage"][key].as_u64().unwrap() as usize;
    assert_eq!(answer["token_ids"].as_array().unwrap().len(), count("completion_tokens"));
    assert_eq!(answer["prompt_token_ids"].as_array().unwrap().len(), count("prompt_tokens"));
    assert_eq!(count("prompt_tokens") + count("completion_tokens"), count("total_tokens"));
    assert!(["stop", "length"].contains(&answer["finish_reason"].as_str().unwrap()));
}

#[test]
fn text_streams_to_stdout_and_nothing_else_does() {
    let prompt = "Two trades won, so all will.";
    let stream = minicrit(&["run", prompt, "-n", "12"]).output().unwrap();
    let whole = minicrit(&["run", prompt, "-n", "12", "--no-stream"]).output().unwrap();
    let piped = minicrit(&["run", "-n", "12"]).write_stdin(format!("{prompt}\n")).output().unwrap();
    let answer = json(&["run", prompt, "-n", "12", "--json"]);
    let text = format!("{}\n", answer["text"].as_str().unwrap());
    for output in [&stream, &whole, &piped] {
        assert_eq!(String::from_utf8_lossy(&output.stdout), text);
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let verbose = minicrit(&["run", prompt, "-n", "12", "--verbose"]).output().unwrap();
    assert_eq!(verbose.stdout, stream.stdout);
    assert!(String::from_utf8_lossy(&verbose.stderr).contains("time to first token"));
}

#[test]
fn greedy_ids_are_those_of_the_reference() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["qwen2", "llama", "mistral", "mixtral", "phi3", "qwen3"] {
        let (model, fixture, ids) = fixture(name, dir.path());
        let words = [
            "run",
            &model,
            "--ids",
            &ids,
            "--temperature",
            "0",
            "-n",
            "32",
            "--ignore-eos",
            "--json",
        ];
        let answer = json(&words);
        assert_eq!(answer["token_ids"], fixture["greedy_40"], "{name}");
        assert_eq!(answer["prompt_token_ids"], fixture["ids_40"], "{name}");
        assert_eq!(answer["finish_reason"], "length", "{name}");
        let chunked = json(&[&words[..], &["--chunk", "3", "--threads", "1"]].concat());
        assert_eq!(chunked["token_ids"], answer["token_ids"], "{name}");
    }
}

#[test]
fn a_draft_changes_the_figures_and_not_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (model, fixture, ids) = fixture("qwen2", dir.path());
    let draft = fixtures_dir().join("qwen2-draft");
    let words = ["run", &model, "--ids", &ids, "-n", "32", "--ignore-eos", "--json", "--draft"];
    for drafter in [draft.to_str().unwrap(), "ngram"] {
        let answer = json(&[&words[..], &[drafter, "--draft-tokens", "4"]].concat());
        assert_eq!(answer["token_ids"], fixture["greedy_40"], "{drafter}");
        let speculation = &answer["speculation"];
        assert!(speculation["accepted"].as_u64() <= speculation["drafted"].as_u64());
    }
    let answer = json(&[&words[..], &[draft.to_str().unwrap()]].concat());
    assert!(answer["speculation"]["drafted"].as_u64() > Some(0));
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let answer = |seed: &str| {
        let words = ["run", "Why?", "--temperature", "1.5", "--seed", seed, "-n", "24", "--json"];
        json(&words)["token_ids"].clone()
    };
    assert_eq!(answer("7"), answer("7"));
    assert_ne!(answer("7"), answer("8"));
}

#[test]
fn a_stop_text_ends_the_answer_before_itself() {
    let whole = json(&["run", "Two trades won.", "--json", "-n", "24"]);
    let text = whole["text"].as_str().unwrap();
    let stop: String = text.chars().skip(4).take(3).collect();
    let cut = json(&["run", "Two trades won.", "--json", "-n", "24", "--stop", &stop]);
    assert_eq!(cut["text"].as_str(), text.split(&stop).next());
    assert_eq!(cut["finish_reason"], "stop");
}

#[test]
fn score_gives_one_logprob_for_each_token_and_none_for_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let (model, fixture, ids) = fixture("qwen2", dir.path());
    let logits = dir.path().join("logits.safetensors");
    let scored =
        json(&["score", &model, "--ids", &ids, "--json", "--logits", logits.to_str().unwrap()]);
    assert_eq!(keys(&scored), ["token_ids", "logprobs", "top1_ids"]);
    assert_eq!(scored["token_ids"], fixture["ids_40"]);
    let logprobs = scored["logprobs"].as_array().unwrap();
    assert!(logprobs[0].is_null() && logprobs[1..].iter().all(Value::is_number));
    assert_eq!(scored["top1_ids"].as_array().unwrap().len(), logprobs.len());

    let bytes = std::fs::read(&logits).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor("logits").unwrap();
    assert_eq!(tensor.shape()[0], logprobs.len());
    assert_eq!(tensor.dtype(), safetensors::Dtype::F32);
    let last = tensor.data().len() / tensor.shape()[0];
    let row: Vec<f32> = tensor.data()[tensor.data().len() - last..]
        .chunks_exact(4)
        .map(|it| f32::from_le_bytes(it.try_into().unwrap()))
        .collect();
    let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
    assert_eq!(scored["top1_ids"][logprobs.len() - 1], best);
    let beside: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(beside.len(), 2, "no part of a file is left");

    let chunked = json(&["score", &model, "--ids", &ids, "--json", "--chunk", "1"]);
    assert_eq!(chunked, scored);
}

#[test]
fn continuations_share_a_prompt() {
    let text = "Verdict:";
    let scored = json(&[
        "score",
        "nano",
        "--text",
        text,
        "--continuation",
        " flawed",
        "--continuation",
        " valid",
        "--json",
    ]);
    assert_eq!(keys(&scored), ["prompt_token_ids", "continuations"]);
    for (it, text) in scored["continuations"].as_array().unwrap().iter().zip([" flawed", " valid"])
    {
        assert_eq!(keys(it), ["text", "token_ids", "logprobs", "logprob"]);
        assert_eq!(it["text"], text);
        let sum: f64 = it["logprobs"].as_array().unwrap().iter().filter_map(Value::as_f64).sum();
        assert!((sum - it["logprob"].as_f64().unwrap()).abs() < 1e-9);
        // The same numbers as scoring prompt and continuation in one go.
        let ids: Vec<&Value> = [&scored["prompt_token_ids"], &it["token_ids"]]
            .into_iter()
            .flat_map(|it| it.as_array().unwrap())
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let ids = file(dir.path(), "ids.json", &serde_json::to_string(&ids).unwrap());
        let whole = json(&["score", "nano", "--ids", &ids, "--json"]);
        let tail = whole["logprobs"].as_array().unwrap();
        let tail = &tail[tail.len() - it["logprobs"].as_array().unwrap().len()..];
        assert_eq!(tail, it["logprobs"].as_array().unwrap());
    }
}

#[test]
fn tokenize_renders_messages_without_trusting_them() {
    let text = json(&["tokenize", "nano", "--text", "Hello, world", "--json"]);
    assert_eq!(keys(&text), ["text", "token_ids", "tokens"]);
    assert_eq!(text["text"], "Hello, world");
    assert_eq!(
        text["token_ids"].as_array().unwrap().len(),
        text["tokens"].as_array().unwrap().len()
    );

    let dir = tempfile::tempdir().unwrap();
    let messages = file(dir.path(), "m.json", r#"[{"role": "user", "content": "Hi there"}]"#);
    let open = json(&["tokenize", "nano", "--messages", &messages, "--json"]);
    let closed =
        json(&["tokenize", "nano", "--messages", &messages, "--no-generation-prompt", "--json"]);
    let (open_text, closed_text) =
        (open["text"].as_str().unwrap(), closed["text"].as_str().unwrap());
    assert!(open_text.starts_with(closed_text) && open_text.len() > closed_text.len());
    assert!(open_text.contains("Hi there"));

    // What `run` feeds is what `tokenize` shows.
    let answer = json(&["run", "nano", "--messages", &messages, "--json", "-n", "1"]);
    assert_eq!(answer["prompt_token_ids"], open["token_ids"]);

    // A control token's text in a message stays text.
    let control = open["tokens"][0].as_str().unwrap();
    let content = serde_json::json!([{ "role": "user", "content": control }]).to_string();
    let hostile = file(dir.path(), "h.json", &content);
    let ids = json(&["tokenize", "nano", "--messages", &hostile, "--json"]);
    let count = |ids: &Value| {
        ids["tokens"].as_array().unwrap().iter().filter(|it| it.as_str() == Some(control)).count()
    };
    assert_eq!(count(&ids), count(&open));
}

#[test]
fn show_and_bench_give_one_object() {
    let about = json(&["show", "nano", "--json"]);
    for key in
        ["architecture", "parameters", "context_length", "formats", "chat_template", "license"]
    {
        assert!(!about[key].is_null(), "{key}");
    }
    let words = ["bench", "nano", "--prompt-len", "16", "--gen-len", "4", "--depth", "8"];
    let report = json(&[&words[..], &["--reps", "2", "--json"]].concat());
    for key in ["prefill_tok_s", "decode_tok_s", "ttft_ms", "load_ms"] {
        assert_eq!(keys(&report[key]), ["median", "min", "max"], "{key}");
        assert!(report[key]["median"].as_f64() > Some(0.0), "{key}");
    }
    for key in ["peak_rss_bytes", "weight_bytes", "fraction_of_bandwidth"] {
        assert!(report[key].as_f64() > Some(0.0), "{key}");
    }
    assert_eq!(report["weight_bytes"], about["weight_bytes"]);
}

#[test]
fn what_does_not_fit_the_model_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let ids = |text: &str| file(dir.path(), "ids.json", text);
    let outside = ids("[1, 4294967295]");
    for command in ["run", "score"] {
        let (code, text) = failure(&[command, "nano", "--ids", &outside]);
        assert!(code == 1 && text.contains("error[") && text.contains("4294967295"), "{text}");
    }
    let long = ids(&serde_json::to_string(&vec![1; 50]).unwrap());
    for command in ["run", "score"] {
        let (code, text) = failure(&[command, "nano", "--ids", &long, "--ctx", "40"]);
        assert!(code == 1 && text.contains("context"), "{text}");
    }
    let (code, text) = failure(&["run", "hi", "--ctx", "100000"]);
    assert!(code == 2 && text.contains("error[context-too-long]"), "{text}");
    let draft = fixtures_dir().join("qwen2");
    let (code, text) = failure(&["run", "hi", "--draft", draft.to_str().unwrap()]);
    assert!(code == 1 && text.contains("error[draft-mismatch]"), "{text}");
    let (code, text) = failure(&["bench", "nano", "--depth", "100000", "--reps", "1"]);
    assert!(code == 1 && text.contains("context"), "{text}");
    let logits = dir.path().join("no/such/folder/logits.safetensors");
    let (code, text) =
        failure(&["score", "nano", "--text", "a b", "--logits", logits.to_str().unwrap()]);
    assert!(code == 3 && text.contains("error[file-not-found]"), "{text}");
}

/// Too little address space is a named refusal, never an abort.
#[cfg(target_os = "linux")]
#[test]
fn too_little_memory_is_refused() {
    let program = assert_cmd::cargo::cargo_bin!("minicrit");
    let dir = tempfile::tempdir().unwrap();
    let fixture = fixtures_dir().join("qwen2");
    for name in ["model.safetensors", "tokenizer.json"] {
        std::fs::copy(fixture.join(name), dir.path().join(name)).unwrap();
    }
    let config = std::fs::read(fixture.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["max_position_embeddings"] = 1_000_000_000.into();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    for mebibytes in [96, 128, 192, 256] {
        let script = format!(
            "ulimit -v {}; exec {} run {} hi -n 1 --threads 1 --ctx 1000000000",
            mebibytes * 1024,
            program.display(),
            dir.path().display(),
        );
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{mebibytes} MiB: {text}");
        assert!(text.contains("error[not-enough-memory]"), "{mebibytes} MiB: {text}");
    }
}

#[cfg(unix)]
#[test]
fn head_ends_an_answer_quietly() {
    use std::process::Stdio;
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("minicrit"))
        .args(["run", "hi", "-n", "200", "--ignore-eos"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Ctrl-C ends an answer with what there is of it, and says so by the exit code.
#[cfg(unix)]
#[test]
fn an_interrupt_keeps_the_text_so_far() {
    use std::{
        io::{BufRead, BufReader, Read},
        process::Stdio,
    };
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("minicrit"))
        .args(["run", "hi", "--ignore-eos", "--threads", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    stdout.read_line(&mut text).unwrap();
    assert!(!text.is_empty());
    let kill = ["-INT", &child.id().to_string()].map(str::to_string);
    assert!(std::process::Command::new("kill").args(kill).status().unwrap().success());
    stdout.read_to_string(&mut text).unwrap();
    assert!(text.ends_with('\n'), "{text:?}");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A model file that is cut while it is mapped ends in a name, not in a bare signal.
#[cfg(target_os = "linux")]
#[test]
fn a_file_cut_while_in_use_is_named() {
    use std::{
        io::{BufRead, BufReader},
        process::Stdio,
    };
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixtures_dir().join("llama")).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
    }
    // A context longer than what any machine generates before the file is cut.
    let config = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["max_position_embeddings"] = 100_000.into();
    file(dir.path(), "config.json", &config.to_string());
    let ids = file(dir.path(), "ids.json", "[1, 2, 3]");
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("minicrit"))
        .args(["run", dir.path().to_str().unwrap(), "--ids", &ids, "--ignore-eos"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Text is coming: the weights are mapped and in use.
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    assert!(!stdout.fill_buf().unwrap().is_empty());
    std::fs::File::options()
        .write(true)
        .open(dir.path().join("model.safetensors"))
        .unwrap()
        .set_len(0)
        .unwrap();
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("error[model-file-changed]"), "{text}");
}

#[test]
fn an_adapter_moves_logits_as_peft_says_and_scales() {
    let dir = tempfile::tempdir().unwrap();
    let (model, _, ids) = fixture("llama", dir.path());
    let adapter = fixtures_dir().join("llama/adapters/rslora");
    let adapter = adapter.to_str().unwrap();
    let out = dir.path().join("logits.safetensors");
    let out = out.to_str().unwrap();
    let words = ["score", &model, "--ids", &ids, "--json", "--logits", out, "--adapter"];
    let base = json(&words[..words.len() - 3])["logprobs"].clone();
    let full = json(&[&words[..], &[adapter]].concat())["logprobs"].clone();
    let half = json(&[&words[..], &[&format!("{adapter}:0.5")]].concat())["logprobs"].clone();
    assert!(base != full && full != half && half != base);
    for chunk in ["1", "7"] {
        let words = [&words[..], &[adapter, "--chunk", chunk, "--threads", "1"]].concat();
        assert_eq!(json(&words)["logprobs"], full, "chunks of {chunk}");
    }
    let fresh = fixtures_dir().join("train/sft_lora/adapter_init");
    let (code, stderr) = failure(&["run", &model, "hi", "--adapter", fresh.to_str().unwrap()]);
    assert!(code == 1 && stderr.contains("error[adapter-without-effect]"), "{stderr}");
    let (code, stderr) = failure(&["run", "nano", "hi", "--adapter", adapter]);
    assert!(code == 1 && stderr.contains("error[bad-adapter]"), "{stderr}");
}
