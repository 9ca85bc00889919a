//! Python's huggingface_hub reads the cache that we wrote, and we read the one that it wrote. Needs a
//! Python that has it: `MINICRIT_PYTHON=.../python cargo test --workspace --test python`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod cases;

use std::{path::Path, process::Command};

use cases::{model, settings};
use minicrit_hub::{cache, pull, reference::Reference};
use minicrit_testkit::fake_hub::FakeHub;

fn python(words: &[&str]) -> Option<String> {
    let program = std::env::var_os("MINICRIT_PYTHON")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python_cache.py");
    let output = Command::new(program).arg(script).args(words).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {stderr}");
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[test]
fn each_reads_what_the_other_wrote() {
    let hub = FakeHub::start(vec![model(200_000)]);
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let reference = Reference::parse("org/model").unwrap();
    let text = |path: &Path| path.display().to_string();

    let pulled = pull(&settings(&hub, &ours), &reference, &|_| {}).unwrap();
    let Some(found) = python(&["read", &text(&ours), "org/model"]) else {
        println!("skipped: MINICRIT_PYTHON names no Python");
        return;
    };
    assert_eq!(found, text(&pulled.path));

    python(&["write", &text(&theirs), "org/model", &hub.endpoint()]);
    let found = cache::find(&theirs, &reference).unwrap();
    cases::assert_same_files(&found.path, &model(200_000));
    // Nothing is left to fetch, and the pull that finds this out changes nothing.
    let before = hub.body_bytes();
    let again = pull(&settings(&hub, &theirs), &reference, &|_| {}).unwrap();
    assert_eq!((again.path, again.received, hub.body_bytes()), (found.path, 0, before));
    python(&["read", &text(&theirs), "org/model"]);

    // Each goes on with what the other has begun to collect: Python fetched, we add nothing twice.
    python(&["write", &text(&ours), "org/model", &hub.endpoint()]);
    assert_eq!(hub.body_bytes(), before);
}
