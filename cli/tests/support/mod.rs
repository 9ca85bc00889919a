//! The program against a hub on loopback, with a home of its own.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use minicrit_testkit::fake_hub::{FakeHub, FakeRepo};
use serde_json::Value;

/// The built-in model as a repository: a real model that is small.
pub fn nano() -> FakeRepo {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano");
    let names = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    let bytes = names.map(|it| std::fs::read(folder.join(it)).unwrap());
    let files: Vec<(&str, &[u8])> =
        std::iter::zip(names, &bytes).map(|(name, bytes)| (name, bytes.as_slice())).collect();
    FakeRepo::new("org/nano", &files)
}

/// The program, with its own home and this hub.
pub fn minicrit(home: &Path, hub: &FakeHub, words: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("minicrit"));
    command
        .env_clear()
        .env("MINICRIT_HOME", home.join("data"))
        .env("HF_HOME", home.join("hf"))
        .env("HF_ENDPOINT", hub.endpoint())
        .env("MINICRIT_THREADS", "2")
        .current_dir(home)
        .stdin(Stdio::null())
        .args(words);
    command
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn succeeds(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    output
}

pub fn json(command: Command) -> Value {
    serde_json::from_slice(&succeeds(command).stdout).unwrap()
}

/// Exit code and stderr.
pub fn fails(mut command: Command) -> (i32, String) {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?}");
    (output.status.code().unwrap_or(-1), text(&output.stderr))
}
