//! Broken folders and the JSON files in them.

use std::{fs, path::Path};

use minicrit_engine::source::ModelFiles;
use minicrit_testkit::files::{GgufFile, safetensors_file, zero_safetensors};
use tempfile::TempDir;

use crate::Checks;

const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 8, "rope_scaling": {"factor": 2.5, "list": [1, true, null]}}"#;

/// A sound folder with one tensor.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), CONFIG).unwrap();
    fs::write(folder.path().join("model.safetensors"), zero_safetensors(&[("a", &[2])])).unwrap();
    folder
}

/// The sound folder after a change.
fn changed(change: impl FnOnce(&Path)) -> TempDir {
    let folder = folder();
    change(folder.path());
    folder
}

fn write(file: &str, bytes: impl AsRef<[u8]>) -> impl FnOnce(&Path) {
    move |folder| fs::write(folder.join(file), bytes).unwrap()
}

/// A folder with two shards of one tensor each (`a` in 1, `b` in 2) and this index.
fn sharded(index: &str) -> TempDir {
    changed(|folder| {
        fs::remove_file(folder.join("model.safetensors")).unwrap();
        fs::write(folder.join("1.safetensors"), zero_safetensors(&[("a", &[2])])).unwrap();
        fs::write(folder.join("2.safetensors"), zero_safetensors(&[("b", &[2])])).unwrap();
        fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
    })
}

#[test]
fn what_is_no_model_folder_is_named() {
    let mut checks = Checks::default();
    let sound = folder();
    checks.accepted("the sound folder", || ModelFiles::open(sound.path()));
    checks.refused("nothing there", "model-not-found", "none", || {
        ModelFiles::open(&sound.path().join("none"))
    });
    checks.refused("below a file", "model-unreadable", "config.json", || {
        ModelFiles::open(&sound.path().join("config.json/x"))
    });
    checks.refused("a JSON file", "not-a-model", "config.json", || {
        ModelFiles::open(&sound.path().join("config.json"))
    });
    checks.refused("a safetensors file", "not-a-model", "give a folder", || {
        ModelFiles::open(&sound.path().join("model.safetensors"))
    });
    let empty = tempfile::tempdir().unwrap();
    checks.refused("an empty folder", "missing-file", "no config.json", || {
        ModelFiles::open(empty.path())
    });
    let remove =
        |file: &'static str| move |folder: &Path| fs::remove_file(folder.join(file)).unwrap();
    let no_config = changed(remove("config.json"));
    checks.refused("no config", "missing-file", "Hugging Face format", || {
        ModelFiles::open(no_config.path())
    });
    let adapter = changed(|folder| {
        remove("config.json")(folder);
        write("adapter_config.json", "{}")(folder);
    });
    checks.refused("an adapter", "missing-file", "this is an adapter", || {
        ModelFiles::open(adapter.path())
    });
    let no_weights = changed(remove("model.safetensors"));
    checks.refused("no weights", "missing-file", "no model.safetensors", || {
        ModelFiles::open(no_weights.path())
    });
    let renamed = changed(|folder| {
        fs::rename(folder.join("model.safetensors"), folder.join("weights.safetensors")).unwrap();
    });
    checks.refused("another name", "missing-file", "has weights.safetensors", || {
        ModelFiles::open(renamed.path())
    });
    for pickle in ["pytorch_model.bin", "consolidated.00.pth", "model.pt", "model.ckpt"] {
        let folder = changed(|folder| {
            remove("model.safetensors")(folder);
            write(pickle, "\u{80}")(folder);
        });
        checks
            .refused(pickle, "pickled-weights", "convert them", || ModelFiles::open(folder.path()));
    }
    checks.finish(14);
}

#[test]
fn gguf_files_in_folders_are_opened_or_listed() {
    let mut checks = Checks::default();
    let two = tempfile::tempdir().unwrap();
    fs::write(two.path().join("b.gguf"), GgufFile::tiny_llama().to_bytes()).unwrap();
    fs::write(two.path().join("a.GGUF"), GgufFile::tiny_llama().to_bytes()).unwrap();
    checks.refused("two", "several-gguf", "a.GGUF, b.gguf", || ModelFiles::open(two.path()));
    fs::remove_file(two.path().join("a.GGUF")).unwrap();
    checks.accepted("one", || ModelFiles::open(two.path()));
    fs::write(two.path().join("b.gguf"), "version https://git-lfs.github.com/spec/v1\n").unwrap();
    checks.refused("a pointer", "not-a-model", "Git LFS", || ModelFiles::open(two.path()));
    fs::remove_file(two.path().join("b.gguf")).unwrap();
    fs::create_dir(two.path().join("b.gguf")).unwrap();
    checks.refused("a folder of that name", "not-a-model", "regular file", || {
        ModelFiles::open(two.path())
    });
    checks.finish(4);
}

#[test]
fn broken_json_is_refused_in_every_file() {
    let mut checks = Checks::default();
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let utf16: Vec<u8> = CONFIG.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let texts: [(&str, &[u8], &str); 17] = [
        ("empty", b"", "EOF"),
        ("a list", b"[]", "not an object"),
        ("a text", b"\"x\"", "not an object"),
        ("null", b"null", "not an object"),
        ("a key twice", br#"{"a":1,"a":2}"#, "\"a\" stands there twice"),
        ("a key twice inside", br#"{"x":[{"a":1,"a":1}]}"#, "stands there twice"),
        ("a comma at the end", br#"{"a":1,}"#, "trailing comma"),
        ("a comment", b"{\"a\":1 // one\n}", "expected"),
        ("single quotes", b"{'a':1}", "key must be a string"),
        ("NaN", br#"{"a":NaN}"#, "expected value"),
        ("Infinity", br#"{"a":Infinity}"#, "expected value"),
        ("a number of 1e999", br#"{"a":1e999}"#, "out of range"),
        ("two objects", b"{}{}", "trailing"),
        ("not UTF-8", b"{\"a\":\"\xff\"}", "invalid unicode"),
        ("UTF-16", &utf16, ""),
        ("200 deep", deep.as_bytes(), "recursion limit"),
        ("an escape in a key twice", b"{\"\\u001b\":1,\"\\u001b\":1}", "u{1b}"),
    ];
    for file in ["config.json", "tokenizer_config.json", "generation_config.json"] {
        for (case, text, says) in texts {
            let folder = changed(write(file, text));
            let case = format!("{file}: {case}");
            checks.refused(&case, "bad-json", says, || ModelFiles::open(folder.path()));
        }
    }
    let with_folder = |file: &'static str| {
        changed(|folder| {
            let _ = fs::remove_file(folder.join(file));
            fs::create_dir(folder.join(file)).unwrap();
        })
    };
    for file in ["config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"] {
        let folder = with_folder(file);
        checks.refused(&format!("{file} a folder"), "model-unreadable", file, || {
            ModelFiles::open(folder.path())
        });
    }
    for (file, bytes) in [
        ("config.json", (1u64 << 20) + 1),
        ("tokenizer.json", (64 << 20) + 1),
        ("tokenizer_config.json", 1 << 40),
        ("chat_template.jinja", 1 << 30),
    ] {
        // A sparse file: its bytes are never written, and must never be read.
        let folder =
            changed(|folder| fs::File::create(folder.join(file)).unwrap().set_len(bytes).unwrap());
        checks.refused(&format!("{file} of {bytes}"), "file-too-large", file, || {
            ModelFiles::open(folder.path())
        });
    }
    let folder = folder();
    for len in 0..CONFIG.len() {
        fs::write(folder.path().join("config.json"), &CONFIG[..len]).unwrap();
        checks.refused(&format!("{len} bytes of config"), "bad-json", "", || {
            ModelFiles::open(folder.path())
        });
    }
    checks.finish(59 + CONFIG.len());
}

#[test]
fn broken_chat_templates_are_refused() {
    let mut checks = Checks::default();
    for (case, value) in [
        ("a number", "3"),
        ("an object", r#"{"default":"x"}"#),
        ("a list of texts", r#"["x"]"#),
        ("no template", r#"[{"name":"default"}]"#),
        ("no name", r#"[{"template":"x"}]"#),
        (
            "a name twice",
            r#"[{"name":"default","template":"x"},{"name":"default","template":"y"}]"#,
        ),
    ] {
        let folder =
            changed(write("tokenizer_config.json", format!(r#"{{"chat_template":{value}}}"#)));
        checks.refused(case, "bad-json", "chat_template", || ModelFiles::open(folder.path()));
        let folder =
            changed(write("chat_template.json", format!(r#"{{"chat_template":{value}}}"#)));
        checks.refused(case, "bad-json", "chat_template", || ModelFiles::open(folder.path()));
    }
    let folder = changed(write("chat_template.jinja", b"\xff\xfe"));
    checks.refused("not UTF-8", "bad-json", "UTF-8", || ModelFiles::open(folder.path()));
    checks.finish(13);
}

#[test]
fn an_index_that_does_not_fit_its_shards_is_refused() {
    let mut checks = Checks::default();
    let bad = "bad-shard-index";
    let sound =
        r#"{"metadata":{"total_size":16},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#;
    let folder = sharded(sound);
    let files = checks.accepted("the sound index", || ModelFiles::open(folder.path())).unwrap();
    assert_eq!(files.tensors.len(), 2);
    for (case, map, says) in [
        ("a list", "[]", "no object `weight_map`"),
        ("nothing named", "{}", "names no tensors"),
        ("a number", r#"{"a":1,"b":"2.safetensors"}"#, "is not a text"),
        ("a path up", r#"{"a":"../1.safetensors"}"#, "not the name of a safetensors file"),
        ("a path down", r#"{"a":"x/1.safetensors"}"#, "not the name"),
        ("a root path", r#"{"a":"/etc/1.safetensors"}"#, "not the name"),
        ("a backslash", r#"{"a":"..\\1.safetensors"}"#, "not the name"),
        ("a drive", r#"{"a":"C:1.safetensors"}"#, "not the name"),
        ("a zero", r#"{"a":"1\u0000.safetensors"}"#, "not the name"),
        ("a pickle", r#"{"a":"pytorch_model.bin"}"#, "not the name"),
        (
            "a missing shard",
            r#"{"a":"1.safetensors","b":"3.safetensors"}"#,
            "\"3.safetensors\" with 1 tensors is missing",
        ),
        (
            "a missing tensor",
            r#"{"a":"1.safetensors","b":"2.safetensors","c":"2.safetensors"}"#,
            "lacks tensor \"c\"",
        ),
        (
            "a tensor not named",
            r#"{"a":"1.safetensors","c":"2.safetensors"}"#,
            "tensor \"b\" is in shard",
        ),
        (
            "tensors exchanged",
            r#"{"a":"2.safetensors","b":"1.safetensors"}"#,
            "by the index in \"2.safetensors\"",
        ),
    ] {
        let folder = sharded(&format!(r#"{{"weight_map":{map}}}"#));
        checks.refused(case, bad, says, || ModelFiles::open(folder.path()));
    }
    let folder = sharded("{}");
    checks.refused("no map", bad, "no object `weight_map`", || ModelFiles::open(folder.path()));
    let folder = sharded(r#"{"weight_map":{"a":"1.safetensors","a":"2.safetensors"}}"#);
    checks.refused("a tensor twice in the index", "bad-json", "stands there twice", || {
        ModelFiles::open(folder.path())
    });
    let folder = sharded(sound);
    write("2.safetensors", zero_safetensors(&[("a", &[2]), ("b", &[2])]))(folder.path());
    checks.refused("a tensor in two shards", bad, "tensor \"a\" is in shard", || {
        ModelFiles::open(folder.path())
    });
    write("2.safetensors", safetensors_file("{", &[]))(folder.path());
    checks.refused("a broken shard", "bad-safetensors", "2.safetensors", || {
        ModelFiles::open(folder.path())
    });
    write("2.safetensors", "")(folder.path());
    checks.refused("an empty shard", "bad-safetensors", "2.safetensors", || {
        ModelFiles::open(folder.path())
    });
    checks.finish(20);
}
