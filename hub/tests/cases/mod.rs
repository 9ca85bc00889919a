//! A model to pull, settings that wait for milliseconds, and what must hold afterwards.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{path::Path, time::Duration};

use minicrit_hub::{
    name::Digest,
    settings::{HubSettings, Limits},
};
use minicrit_testkit::fake_hub::{FakeFile, FakeHub, FakeRepo};

/// Names in [`model`] that are no part of what is pulled.
const UNWANTED: [&str; 4] = ["README.md", "pytorch_model.bin", "modeling_org.py", ".gitattributes"];

/// A repository with so many bytes of weights.
pub fn model(weights: usize) -> FakeRepo {
    let weights: Vec<u8> =
        (0..weights as u64).map(|it| (it.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    FakeRepo::new(
        "org/model",
        &[
            ("config.json", br#"{"model_type": "llama"}"#),
            (".gitattributes", b"* text"),
            ("README.md", b"# A model"),
            ("model.safetensors", &weights),
            ("pytorch_model.bin", b"runs code"),
            ("modeling_org.py", b"import os"),
            ("tokenizer.json", br#"{"version": "1.0"}"#),
            ("tokenizer_config.json", br#"{"chat_template": "{{ messages }}"}"#),
        ],
    )
}

/// The files of a repository that are pulled.
pub fn wanted(repo: &FakeRepo) -> impl Iterator<Item = &FakeFile> {
    repo.files.iter().filter(|it| !UNWANTED.contains(&it.name.as_str()))
}

/// Settings for a hub on loopback, with waits of milliseconds.
pub fn settings(hub: &FakeHub, cache: &Path) -> HubSettings {
    HubSettings {
        endpoint: hub.endpoint(),
        limits: Limits {
            connect: Duration::from_secs(5),
            stall: Duration::from_millis(400),
            stall_bytes: 4096,
            tries: 3,
            backoff: Duration::from_millis(2),
            longest_wait: Duration::from_millis(1500),
            files_at_once: 4,
        },
        ..HubSettings::new(cache.to_path_buf())
    }
}

/// A snapshot has the wanted files of a repository, byte for byte.
pub fn assert_same_files(snapshot: &Path, repo: &FakeRepo) {
    for file in wanted(repo) {
        let bytes = std::fs::read(snapshot.join(&file.name)).unwrap_or_default();
        assert!(bytes == file.bytes, "{} differs", file.name);
    }
}

/// Blobs in a cache whose bytes do not hash to their name.
pub fn wrong_blobs(cache: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    for repo in std::fs::read_dir(cache).into_iter().flatten().flatten() {
        for blob in std::fs::read_dir(repo.path().join("blobs")).into_iter().flatten().flatten() {
            let name = blob.file_name().to_string_lossy().into_owned();
            if name.ends_with(".minicrit-part") {
                continue;
            }
            let bytes = std::fs::read(blob.path()).unwrap_or_default();
            let same = Digest::parse(&name).is_some_and(|it| {
                let mut hasher = it.hasher(bytes.len() as u64);
                hasher.update(&bytes);
                hasher.finish() == it
            });
            if !same {
                wrong.push(name);
            }
        }
    }
    wrong
}
