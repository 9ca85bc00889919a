//! The fuzzers' corpus as plain tests: no file may do more than be accepted or refused.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

#[path = "../../fuzz/bodies.rs"]
mod bodies;
#[path = "../../fuzz/text_bodies.rs"]
mod text_bodies;

/// No honest file of the corpus's size takes a hundredth of this, even on a busy machine.
const LONGEST: Duration = Duration::from_secs(2);

/// Runs every file of one target and compares with what its name says.
fn check(target: &str, body: fn(&[u8]) -> bool) {
    let files = files_of(target);
    assert!(files.len() >= 5, "the corpus of {target} has only {} files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let data = fs::read(&file).expect("the file was just listed");
        let start = Instant::now();
        let accepted = body(&data);
        let time = start.elapsed();
        let name = name_of(&file);
        if (name.starts_with("good") && !accepted) || (name.starts_with("bad") && accepted) {
            wrong.push(format!("{name} was {}", if accepted { "accepted" } else { "refused" }));
        }
        if time > LONGEST {
            wrong.push(format!("{name} took {time:?}"));
        }
    }
    assert!(wrong.is_empty(), "{target}:\n{}", wrong.join("\n"));
}

/// Every prefix of every good file is refused: half a file is never taken for a whole one.
fn check_prefixes(target: &str, body: fn(&[u8]) -> bool) {
    let good: Vec<PathBuf> =
        files_of(target).into_iter().filter(|it| name_of(it).starts_with("good")).collect();
    assert!(!good.is_empty(), "the corpus of {target} has no good file");
    for file in good {
        let data = fs::read(&file).expect("the file was just listed");
        for len in 0..data.len() {
            assert!(!body(&data[..len]), "{}: {len} of {} bytes", name_of(&file), data.len());
        }
    }
}

fn files_of(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|it| it.expect("a readable entry").path()).collect();
    files.sort();
    files
}

fn name_of(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[test]
fn safetensors_header() {
    check("safetensors_header", bodies::safetensors_header);
}

#[test]
fn safetensors_prefixes() {
    check_prefixes("safetensors_header", bodies::safetensors_header);
}

#[test]
fn gguf() {
    check("gguf", bodies::gguf);
}

#[test]
fn gguf_prefixes() {
    check_prefixes("gguf", bodies::gguf);
}

#[test]
fn tokenizer_guard() {
    check("tokenizer_guard", text_bodies::tokenizer_guard);
}

#[test]
fn template() {
    check("template", text_bodies::template);
}

#[test]
fn config() {
    check("config", bodies::config);
}

#[test]
fn registry() {
    check("registry", bodies::registry);
}

#[test]
fn packed_file() {
    check("packed_file", bodies::packed_file);
}

#[test]
fn blocks() {
    check("blocks", bodies::blocks);
}

#[test]
fn packed_tensor() {
    check("packed_tensor", bodies::packed_tensor);
}
