//! Models that are kept: named, made, checked, removed, and the log of it all.
#![allow(clippy::unwrap_used)]

mod support;

use std::{io::Write, path::Path};

use minicrit_testkit::fake_hub::FakeHub;
use serde_json::{Value, json};
use support::{fails, json, minicrit, nano, succeeds, text};

fn names(list: &Value) -> Vec<&str> {
    list["models"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect()
}

#[test]
fn models_are_listed_checked_and_removed() {
    let hub = FakeHub::start(vec![nano()]);
    let dir = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| minicrit(dir.path(), &hub, words);
    assert_eq!(names(&json(run(&["list", "--json"]))), ["nano"]);
    let pulled = json(run(&["pull", "org/nano", "--json"]));
    let list = json(run(&["list", "--json"]));
    assert_eq!(names(&list), ["nano", "org/nano"]);
    assert_eq!(list["models"][1]["path"], pulled["path"]);
    assert_eq!(list["models"][1]["bytes"], pulled["bytes"]);

    assert_eq!(json(run(&["verify", "--json"]))["wrong"], 0);
    let path = Path::new(pulled["path"].as_str().unwrap()).join("tokenizer_config.json");
    let blob = std::fs::canonicalize(&path).unwrap();
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let (code, _) = fails(run(&["verify", "org/nano"]));
    assert_eq!(code, 1);
    fails(run(&["verify", "--discard"]));
    let again = json(run(&["pull", "org/nano", "--json"]));
    let size = nano().files[4].bytes.len();
    assert_eq!(again["received_bytes"], size);
    assert_eq!(json(run(&["verify", "--json"]))["wrong"], 0);

    succeeds(run(&["rm", "org/nano"]));
    assert!(!dir.path().join("hf/hub/models--org--nano").exists());
    let (code, stderr) = fails(run(&["rm", "org/nano"]));
    assert!(code == 3 && stderr.contains("error[model-not-downloaded]"), "{stderr}");
    let (code, stderr) = fails(run(&["rm", "nano"]));
    assert!(code == 2 && stderr.contains("error[not-removable]"), "{stderr}");
}

#[test]
fn what_others_fetched_is_not_removed_in_passing() {
    let hub = FakeHub::start(vec![nano()]);
    let dir = tempfile::tempdir().unwrap();
    succeeds(minicrit(dir.path(), &hub, &["pull", "org/nano"]));
    // Another user's program, as far as this home is concerned.
    std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    let (code, stderr) = fails(minicrit(dir.path(), &hub, &["rm", "org/nano"]));
    assert!(code == 1 && stderr.contains("error[not-ours]"), "{stderr}");
    succeeds(minicrit(dir.path(), &hub, &["rm", "org/nano", "--yes"]));
}

#[test]
fn prune_takes_parts_and_leaves_models() {
    let hub = FakeHub::start(vec![nano()]);
    let dir = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| minicrit(dir.path(), &hub, words);
    succeeds(run(&["pull", "org/nano"]));
    let blobs = dir.path().join("hf/hub/models--org--nano/blobs");
    let weights = nano().files.into_iter().find(|it| it.is_large).unwrap();
    let digest = minicrit_testkit::fake_hub::sha256(&weights.bytes);
    let part = blobs.join(format!("{digest}.minicrit-part"));
    std::fs::write(&part, [0; 100]).unwrap();
    // Python's own unfinished file is not ours to take.
    std::fs::write(blobs.join("x.incomplete"), [0; 10]).unwrap();
    let plan = json(run(&["cache", "prune", "--dry-run", "--json"]));
    assert_eq!(plan["files"], json!([part]));
    assert!(part.exists());
    assert_eq!(json(run(&["cache", "prune", "--json"]))["freed_bytes"], 100);
    assert!(!part.exists() && blobs.join("x.incomplete").exists());
    assert_eq!(json(run(&["verify", "--json"]))["wrong"], 0);
}

#[test]
fn a_model_of_ones_own_is_its_base_and_what_was_said() {
    let hub = FakeHub::start(Vec::new());
    let dir = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| minicrit(dir.path(), &hub, words);
    let modelfile = "FROM nano\nSYSTEM \"\"\"You are strict.\nBe brief.\"\"\"\nPARAMETER temperature 0.7\n\
                     PARAMETER seed 11\nPARAMETER num_predict 9\nMESSAGE user Is it?\nMESSAGE assistant No.\n";
    std::fs::write(dir.path().join("Modelfile"), modelfile).unwrap();
    succeeds(run(&["create", "strict:v1", "-f", "Modelfile"]));
    let messages = json!([
        {"role": "system", "content": "You are strict.\nBe brief."},
        {"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "No."},
        {"role": "user", "content": "Why?"}
    ]);
    std::fs::write(dir.path().join("m.json"), messages.to_string()).unwrap();
    let own = json(run(&["run", "strict:v1", "Why?", "--json"]));
    let plain = json(run(&[
        "run",
        "nano",
        "--messages",
        "m.json",
        "--json",
        "--temperature",
        "0.7",
        "--seed",
        "11",
        "-n",
        "9",
    ]));
    assert_eq!(own["prompt_token_ids"], plain["prompt_token_ids"]);
    assert_eq!(own["token_ids"], plain["token_ids"]);
    // A flag goes before what the Modelfile says.
    let flagged = json(run(&["run", "strict:v1", "Why?", "--json", "-n", "2"]));
    assert_eq!(flagged["token_ids"].as_array().unwrap().len(), 2);

    let shown = text(&succeeds(run(&["show", "strict:v1", "--modelfile"])).stdout);
    assert!(shown.starts_with("FROM nano\n") && shown.contains("num_predict 9"), "{shown}");
    succeeds(run(&["cp", "strict:v1", "copy"]));
    assert_eq!(text(&succeeds(run(&["show", "copy", "--modelfile"])).stdout), shown);
    assert_eq!(names(&json(run(&["list", "--json"]))), ["nano", "copy", "strict:v1"]);

    // One that can't be read hides no other, and can be removed.
    std::fs::write(dir.path().join("data/created/broken.json"), "{").unwrap();
    assert_eq!(names(&json(run(&["list", "--json"]))).len(), 4);
    let (_, stderr) = fails(run(&["show", "broken"]));
    assert!(
        stderr.contains("error[definition]") && stderr.contains("minicrit rm broken"),
        "{stderr}"
    );

    for (name, text, error) in [
        ("nano", "FROM nano", "name-taken"),
        ("qwen2.5:0.5b", "FROM nano", "name-taken"),
        ("a/b", "FROM nano", "unsafe-name"),
        ("x", "FROM strict:v1", "definition"),
        ("x", "SYSTEM hi", "modelfile"),
        ("x", "FROM no-such-model-at-all", "model-not-found"),
    ] {
        std::fs::write(dir.path().join("Modelfile"), text).unwrap();
        let (_, stderr) = fails(run(&["create", name, "-f", "Modelfile"]));
        assert!(stderr.contains(&format!("error[{error}]")), "{name}: {text}: {stderr}");
    }
    succeeds(run(&["rm", "copy", "strict:v1", "broken"]));
    assert_eq!(names(&json(run(&["list", "--json"]))), ["nano"]);
}

#[test]
fn the_audit_log_tells_what_was_done_and_shows_tampering() {
    let hub = FakeHub::start(vec![nano()]);
    let dir = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| minicrit(dir.path(), &hub, words);
    succeeds(run(&["pull", "org/nano"]));
    succeeds(run(&["cp", "org/nano", "mine"]));
    succeeds(run(&["rm", "mine", "org/nano"]));
    let output = succeeds(run(&["audit", "show", "--json"]));
    let records: Vec<Value> =
        text(&output.stdout).lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let events: Vec<&str> = records.iter().map(|it| it["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["pull", "create", "delete", "delete"]);
    assert_eq!(records[0]["fields"]["commit"], nano().commit);
    assert_eq!(json(run(&["audit", "verify", "--json"]))["records"], 4);

    let log = dir.path().join("data/audit.jsonl");
    let good = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, good.replacen("org/nano", "org/evil", 1)).unwrap();
    let (code, stderr) = fails(run(&["audit", "verify"]));
    assert!(
        code == 1 && stderr.contains("error[audit-broken]") && stderr.contains("line 1"),
        "{stderr}"
    );
    let (_, report) = fails(run(&["doctor"]));
    assert_eq!(report, "");
}

#[test]
fn settings_have_an_origin() {
    let hub = FakeHub::start(Vec::new());
    let dir = tempfile::tempdir().unwrap();
    let (work, data) = (dir.path().join("work/deep"), dir.path().join("data"));
    std::fs::create_dir_all(&work).unwrap();
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("config.toml"), "threads = 1\nmodel = \"mine\"\nhistory = false\n")
        .unwrap();
    std::fs::write(dir.path().join("work/minicrit.toml"), "model = \"nano\"\n").unwrap();
    let show = |folder: &Path| {
        let mut command = minicrit(dir.path(), &hub, &["config", "show", "--json"]);
        command.current_dir(folder).env_remove("MINICRIT_THREADS");
        json(command)
    };
    let inside = show(&work);
    assert_eq!(inside["model"]["value"], "nano");
    assert!(inside["model"]["origin"].as_str().unwrap().ends_with("minicrit.toml"), "{inside}");
    assert_eq!(
        (&inside["threads"]["value"], &inside["history"]["value"]),
        (&json!("1"), &json!("false"))
    );
    assert_eq!(inside["endpoint"]["origin"], "environment HF_ENDPOINT");
    assert_eq!(inside["offline"]["origin"], "default");
    assert_eq!(show(dir.path())["model"]["value"], "mine");

    // A folder of somebody else's can't say where the token goes.
    std::fs::write(dir.path().join("work/minicrit.toml"), "endpoint = \"http://evil\"\n").unwrap();
    let mut command = minicrit(dir.path(), &hub, &["config", "show"]);
    command.current_dir(&work);
    let (code, stderr) = fails(command);
    assert!(code == 1 && stderr.contains("error[config-invalid]"), "{stderr}");
}

/// The program itself, its threads, and the work of a few tokens.
#[cfg(target_os = "linux")]
const MOST_WORK: f64 = (72 << 20) as f64;

/// Weights of zeros take no room on the disk, and as much memory as any others.
#[cfg(target_os = "linux")]
#[test]
fn the_memory_that_is_announced_is_the_memory_that_is_used() {
    let hub = FakeHub::start(Vec::new());
    let dir = tempfile::tempdir().unwrap();
    let (hidden, ffn, layers, vocab) = (1024, 4096, 16, 32_000);
    let config = json!({
        "model_type": "llama", "hidden_act": "silu", "hidden_size": hidden,
        "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": 16,
        "num_key_value_heads": 16, "vocab_size": vocab, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "rope_theta": 1e4, "tie_word_embeddings": true,
    });
    let model = dir.path().join("model");
    std::fs::create_dir_all(&model).unwrap();
    std::fs::write(model.join("config.json"), config.to_string()).unwrap();
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocab, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    for layer in 0..layers {
        let mut add = |name: &str, shape: &[usize]| {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), shape.to_vec()));
        };
        for name in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            add(&format!("self_attn.{name}"), &[hidden, hidden]);
        }
        add("mlp.gate_proj", &[ffn, hidden]);
        add("mlp.up_proj", &[ffn, hidden]);
        add("mlp.down_proj", &[hidden, ffn]);
        add("input_layernorm", &[hidden]);
        add("post_attention_layernorm", &[hidden]);
    }
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        let entry = json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]});
        header.insert(name, entry);
    }
    let header = Value::Object(header).to_string();
    let mut file = std::fs::File::create(model.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();

    let fit = json(minicrit(dir.path(), &hub, &["show", "./model", "--fit", "--json"]));
    let announced = fit["contexts"][0]["bytes"].as_f64().unwrap();
    let used = |words: &[&str]| {
        let bench =
            ["bench", "./model", "--prompt-len", "40", "--gen-len", "8", "--reps", "1", "--json"];
        let about = json(minicrit(dir.path(), &hub, &[&bench[..], words].concat()));
        about["peak_rss_bytes"].as_f64().unwrap()
    };
    let close = |announced: f64, used: f64, what: &str| {
        let off = announced / used - 1.0;
        assert!(off.abs() < 0.15, "{what}: announced {announced}, used {used}");
    };
    close(announced, used(&[]), "show");

    // The doctor says the same of the model in the cache, and of its rounded forms.
    let repo = dir.path().join("hf/hub/models--org--zeros");
    let commit = "0123456789012345678901234567890123456789";
    std::fs::create_dir_all(repo.join("refs")).unwrap();
    std::fs::create_dir_all(repo.join("snapshots")).unwrap();
    std::fs::write(repo.join("refs/main"), commit).unwrap();
    std::os::unix::fs::symlink(&model, repo.join("snapshots").join(commit)).unwrap();
    let doctor = json(minicrit(dir.path(), &hub, &["doctor", "--json"]));
    let models = doctor["models"].as_array().unwrap();
    let found = models.iter().find(|it| it["name"] == "org/zeros").unwrap();
    assert_eq!(found["from"], "files");
    for (format, words) in [("bf16", &[][..]), ("q4_0", &["--quant", "q4", "--no-cache-quant"])] {
        close(found["bytes"][format].as_f64().unwrap(), used(words), format);
    }

    // A model that is rounded and kept takes what is kept and one tensor beside it, in the start
    // that rounds it and in the next one.
    let (first, second) = (used(&["--quant", "q4"]), used(&["--quant", "q4"]));
    let kept = json(minicrit(dir.path(), &hub, &["cache", "list", "--json"]));
    let bytes = kept["rounded"][0]["bytes"].as_f64().unwrap();
    let tensor = (4 * vocab * hidden) as f64;
    for peak in [first, second] {
        assert!(peak < bytes + tensor + MOST_WORK, "{bytes} are kept, {peak} were taken");
    }
}
