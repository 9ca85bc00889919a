//! A pull that is killed, or whose disk fails, at every system call that changes the disk: the cache
//! never shows a wrong or half file, and the next pull completes it without fetching twice. So too
//! the verbs that keep, make and remove.
//!
//! All but the last test need strace, and minutes: `MINICRIT_PROOF=full cargo test --workspace --test kill -- --nocapture`.
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
                // The thread that reports is struck at its own first call: the name may be lost.
                let told = names.iter().any(|it| stderr.contains(it));
                let half_told = calls == "write" && stderr.contains("hint: ");
                assert!(told || half_told, "{what}: {stderr}");
            });
            println!("{blow} at {struck} calls of {calls}");
            points += struck;
        }
    }
    println!("{points} points of failure");
    assert!(points > 20, "{points}");
}

/// A home with the pulled model, and one of the user's own.
fn furnished(hub: &FakeHub) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    assert!(pull(dir.path(), hub, None).status.success());
    std::fs::write(dir.path().join("Modelfile"), "FROM nano\nSYSTEM Be brief.\n").unwrap();
    assert!(verb(dir.path(), &["create", "old", "-f", "Modelfile"], None).status.success());
    dir
}

fn verb(home: &Path, words: &[&str], inject: Option<&str>) -> Output {
    command(home, words, inject).output().unwrap()
}

/// A verb that needs no hub.
fn command(home: &Path, words: &[&str], inject: Option<&str>) -> Command {
    let program = assert_cmd::cargo::cargo_bin!("minicrit");
    let mut command = match inject {
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
        .env("MINICRIT_THREADS", "1")
        .current_dir(home)
        .stdin(Stdio::null())
        .args(words);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

fn rounding(model: &str) -> [&str; 7] {
    ["score", model, "--text", "Rivers run.", "--quant", "q4", "--json"]
}

/// What must hold whatever was killed: the log is whole, the library can be listed, what is kept of
/// rounded weights gives the answer of weights that were rounded now.
fn assert_library_sound(home: &Path, model: &str, answer: &[u8], what: &str) {
    for words in [&["audit", "verify"][..], &["list"], &["cache", "list"], &["doctor"]] {
        let output = verb(home, words, None);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{what}: {words:?}: {stderr}");
    }
    let output = verb(home, &rounding(model), None);
    assert!(output.status.success() && output.stdout == answer, "{what}: another answer");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("damaged"), "{what}: {stderr}");
}

#[test]
fn every_verb_that_changes_the_library_may_be_killed() {
    if !proof_is_wanted() {
        return;
    }
    let hub = FakeHub::start(vec![model()]);
    let fixture = minicrit_testkit::fixtures_dir().join("qwen2").display().to_string();
    let rounding = rounding(&fixture);
    let answer = {
        let dir = tempfile::tempdir().unwrap();
        verb(dir.path(), &[&rounding[..], &["--no-cache-quant"]].concat(), None).stdout
    };
    let mut points = 0;
    for words in [
        &rounding[..],
        &["create", "mine", "-f", "Modelfile"],
        &["cp", "old", "other"],
        &["rm", "old", "org/model"],
        &["cache", "prune", "--quant", "--old"],
    ] {
        for calls in ["write", "fsync,fdatasync", "rename,renameat,renameat2", "unlink,unlinkat"] {
            for nth in 1.. {
                let dir = furnished(&hub);
                if words[0] == "cache" {
                    assert!(verb(dir.path(), &rounding, None).status.success());
                }
                let what = format!("{} killed at {calls} {nth}", words[0]);
                let inject = format!("{calls}:signal=SIGKILL:when={nth}");
                let unharmed = verb(dir.path(), words, Some(&inject)).status.success();
                assert_library_sound(dir.path(), &fixture, &answer, &what);
                assert_sound(dir.path(), &what);
                if unharmed {
                    println!("{}: killed at {} calls of {calls}", words[0], nth - 1);
                    points += nth - 1;
                    break;
                }
            }
        }
    }
    println!("{points} kill points");
    assert!(points > 40, "{points}");
}

/// The same without strace, at a few moments: in every run of the tests.
// The moments are spread over the run on purpose: there is no event to wait for.
#[allow(clippy::disallowed_methods)]
#[test]
fn a_kill_at_any_time_leaves_the_old_or_the_new() {
    let hub = FakeHub::start(vec![model()]);
    let fixture = minicrit_testkit::fixtures_dir().join("qwen2").display().to_string();
    let dir = tempfile::tempdir().unwrap();
    let rounding = rounding(&fixture);
    let start = std::time::Instant::now();
    let answer = verb(dir.path(), &[&rounding[..], &["--no-cache-quant"]].concat(), None).stdout;
    let whole = start.elapsed();
    for moment in 1..=5 {
        let dir = furnished(&hub);
        let mut child = command(dir.path(), &rounding, None)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(whole.mul_f64(f64::from(moment) / 5.0));
        // It may be done already: then there was nothing to kill.
        let _ = child.kill();
        child.wait().unwrap();
        assert_library_sound(dir.path(), &fixture, &answer, &format!("moment {moment}"));
        let removed = verb(dir.path(), &["rm", "old", "org/model"], None);
        assert!(removed.status.success(), "moment {moment}");
    }
}
