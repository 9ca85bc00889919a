//! A pull that is killed, or whose disk fails, at every system call that changes the disk: the cache
//! never shows a wrong or half file, and the next pull completes it without fetching twice.
//!
//! Needs strace, and minutes: `MINICRIT_PROOF=full cargo test --workspace --test kill -- --nocapture`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use minicrit_hub::{cache, reference::Reference};
use minicrit_testkit::fake_hub::{FakeHub, FakeRepo, git_blob, sha256};

/// Calls that change what is on the disk.
const CHANGING: [&str; 9] = [
    "write",
    "fsync",
    "rename,renameat,renameat2",
    "mkdir,mkdirat",
    "symlink,symlinkat",
    "ftruncate",
    "unlink,unlinkat",
    "openat",
    "flock",
];
/// Of these, calls whose failure is not met by the dynamic linker as well.
const FAILING: [&str; 6] =
    ["write", "fsync", "rename,renameat,renameat2", "mkdir,mkdirat", "symlink,symlinkat", "flock"];
const WEIGHTS: usize = 1_500_000;

fn model() -> FakeRepo {
    let weights: Vec<u8> = (0..WEIGHTS).map(|it| (it * 7 % 251) as u8).collect();
    let files: &[(&str, &[u8])] =
        &[("config.json", b"{}"), ("model.safetensors", &weights), ("tokenizer.json", b"{ }")];
    FakeRepo::new("org/model", files)
}

fn pull(home: &Path, hub: &FakeHub, inject: Option<String>) -> Output {
    let program = assert_cmd::cargo::cargo_bin!("minicrit");
    let mut command = match &inject {
        None => Command::new(program),
        Some(inject) => {
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("inject={inject}"));
            command.arg("--").arg(program);
            command
        }
    };
    command
        .env_clear()
        .env("MINICRIT_HOME", home.join("data"))
        .env("HF_HOME", home.join("hf"))
        .env("HF_ENDPOINT", hub.endpoint())
        .env("HF_HUB_DOWNLOAD_TIMEOUT", "5")
        .stdin(Stdio::null())
        .args(["pull", "org/model", "--json"]);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.output().unwrap()
}

/// Every blob is what its name says, and the model is there whole or not at all.
fn assert_sound(home: &Path, what: &str) {
    let cache = home.join("hf/hub");
    let blobs = std::fs::read_dir(cache.join("models--org--model/blobs"));
    for blob in blobs.into_iter().flatten().flatten() {
        let name = blob.file_name().into_string().unwrap();
        if !name.ends_with(".minicrit-part") {
            let bytes = std::fs::read(blob.path()).unwrap();
            assert!(name == sha256(&bytes) || name == git_blob(&bytes), "{what}: {name}");
        }
    }
    if let Some(found) = cache::find(&cache, &Reference::parse("org/model").unwrap()) {
        for file in model().files {
            let bytes = std::fs::read(found.path.join(&file.name)).unwrap_or_default();
            assert!(bytes == file.bytes, "{what}: {} is visible and wrong", file.name);
        }
    }
}

/// Strikes at the 1st, 2nd, ... call of a kind until a pull comes through. Gives how often it struck.
fn strike_each(calls: &str, blow: &str, judge: impl Fn(&Output, &str)) -> usize {
    for nth in 1.. {
        let what = format!("{blow} at {calls} {nth}");
        let hub = FakeHub::start(vec![model()]);
        let dir = tempfile::tempdir().unwrap();
        let output = pull(dir.path(), &hub, Some(format!("{calls}:{blow}:when={nth}")));
        assert_sound(dir.path(), &what);
        let unharmed = output.status.success();
        if !unharmed {
            judge(&output, &what);
        }
        let sent = hub.body_bytes();
        let again = pull(dir.path(), &hub, None);
        let stderr = String::from_utf8_lossy(&again.stderr);
        assert!(again.status.success(), "{what}: then {stderr}");
        assert_sound(dir.path(), &what);
        let all: usize = model().files.iter().map(|it| it.bytes.len()).sum();
        let twice = (hub.body_bytes()).saturating_sub(all as u64);
        assert!(twice < 8 << 20, "{what}: {twice} of {sent} bytes came twice");
        if unharmed {
            return nth - 1;
        }
    }
    0
}

fn proof_is_wanted() -> bool {
    let wanted = std::env::var("MINICRIT_PROOF").is_ok_and(|it| it == "full");
    let strace = Command::new("strace").arg("-V").output().is_ok_and(|it| it.status.success());
    if !(wanted && strace) {
        println!("skipped: needs MINICRIT_PROOF=full and strace");
    }
    wanted && strace
}

#[test]
fn a_kill_at_any_call_leaves_the_old_or_the_new() {
    if !proof_is_wanted() {
        return;
    }
    let mut points = 0;
    for calls in CHANGING {
        let struck = strike_each(calls, "signal=SIGKILL", |_, _| ());
        println!("killed at {struck} calls of {calls}");
        points += struck;
    }
    println!("{points} kill points");
    assert!(points > 40, "{points}");
}

#[test]
fn a_failing_disk_has_a_name() {
    if !proof_is_wanted() {
        return;
    }
    let mut points = 0;
    for (blow, names) in [
        ("error=ENOSPC", &["error[no-space]", "error[disk]", "error[failed]", "error[state]"][..]),
        ("error=EIO", &["error[disk]", "error[failed]", "error[state]"]),
    ] {
        for calls in FAILING {
            let struck = strike_each(calls, blow, |output, what| {
                let stderr = String::from_utf8_lossy(&output.stderr);
                let code = output.status.code();
                assert!(matches!(code, Some(1 | 4)), "{what}: {:?}: {stderr}", output.status);
                assert!(names.iter().any(|it| stderr.contains(it)), "{what}: {stderr}");
            });
            println!("{blow} at {struck} calls of {calls}");
            points += struck;
        }
    }
    println!("{points} points of failure");
    assert!(points > 20, "{points}");
}
