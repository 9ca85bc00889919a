//! The tour of the README, as written, at a small size.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

use std::{path::Path, process::Command};

#[test]
fn the_tour_goes_from_data_to_an_adapter_in_use() {
    let home = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/tour.sh");
    let output = Command::new("sh")
        .arg(script)
        .arg("folder")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("MINICRIT", assert_cmd::cargo::cargo_bin!("minicrit"))
        .env("MINICRIT_HOME", home.path().join("data"))
        .env("MINICRIT_THREADS", "2")
        .env("ROWS", "32")
        .env("TESTS", "60")
        .current_dir(home.path())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{err}\n{out}");
    // Each step says what it did, in this order.
    let mut rest = out.as_str();
    for part in ["critic-cyber", "METRIC", "f1", "fpr", "cyber", "verdict", "confidence", "why"] {
        let at = rest.find(part).unwrap_or_else(|| panic!("no `{part}` in {rest}\n{out}\n{err}"));
        rest = &rest[at + part.len()..];
    }
    for part in ["32 items: train.jsonl", "60 items: test.jsonl"] {
        assert!(err.contains(part), "{part}: {err}");
    }
    let folder = home.path().join("folder");
    for file in [
        "critic-cyber/adapter_model.safetensors",
        "critic-cyber/critic.json",
        "report/report.html",
        "report/compared.jsonl",
    ] {
        assert!(folder.join(file).is_file(), "{file}");
    }
    assert!(home.path().join("data/adapters/cyber").is_dir());
}
