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

/// What huggingface_hub 0.x and 1.x leave behind, made by hand: links into blobs, a note of files that
/// do not exist, locks, and the tag of a cache folder.
#[cfg(unix)]
#[test]
fn a_folder_that_python_wrote_is_a_model_that_is_here() {
    let repo = model(50_000);
    let hub = FakeHub::start(vec![repo.clone()]);
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("models--org--model");
    let snapshot = root.join("snapshots").join(&repo.commit);
    let locks = dir.path().join(".locks/models--org--model");
    for folder in [&snapshot, &root.join("blobs"), &root.join("refs"), &locks] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(
        dir.path().join("CACHEDIR.TAG"),
        "Signature: 8a477f597d28d172789f06886806bc55\n",
    )
    .unwrap();
    std::fs::write(root.join("refs/main"), &repo.commit).unwrap();
    for file in cases::wanted(&repo) {
        // Large files by SHA-256, small ones by the object name that git gives them.
        let etag = match file.is_large {
            true => minicrit_testkit::fake_hub::sha256(&file.bytes),
            false => minicrit_testkit::fake_hub::git_blob(&file.bytes),
        };
        std::fs::write(root.join("blobs").join(&etag), &file.bytes).unwrap();
        std::fs::write(locks.join(format!("{etag}.lock")), "").unwrap();
        let target = Path::new("../../blobs").join(&etag);
        std::os::unix::fs::symlink(target, snapshot.join(&file.name)).unwrap();
    }
    let absent = root.join(".no_exist").join(&repo.commit);
    std::fs::create_dir_all(&absent).unwrap();
    std::fs::write(absent.join("chat_template.jinja"), "").unwrap();

    let reference = Reference::parse("org/model").unwrap();
    let found = cache::find(dir.path(), &reference).unwrap();
    assert_eq!(found.path, snapshot);
    let scanned = cache::scan(dir.path());
    assert_eq!((scanned.len(), scanned[0].snapshots[0].refs.as_slice()), (1, &["main".into()][..]));
    let health = cache::verify(dir.path(), &scanned[0].repo, &found.commit).unwrap();
    assert!(health.iter().all(|it| it.1 == cache::Health::Good), "{health:?}");
    let pulled = pull(&settings(&hub, dir.path()), &reference, &|_| {}).unwrap();
    assert_eq!((pulled.path, pulled.received, hub.body_bytes()), (snapshot, 0, 0));
    assert_eq!(cache::prunable(dir.path()), cache::Prunable::default());
}
