//! A pull from a hub that works: what lands where, what is resumed, who gets the token, who waits.
#![allow(clippy::unwrap_used)]

mod cases;

use std::sync::Mutex;

use cases::{model, settings};
use minicrit_engine::NamedError;
use minicrit_hub::{
    Error,
    cache::{self, RepoCache},
    name::{Digest, RepoId},
    pull::{self, Event, pull},
    reference::Reference,
    settings::{HubSettings, Token},
};
use minicrit_testkit::fake_hub::{FakeHub, FakeRepo, Fault, Place, sha256};

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

fn quiet(_: Event<'_>) {}

#[test]
fn a_model_lands_in_the_layout_of_the_cache() {
    let hub = FakeHub::start(vec![model(300_000)]);
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&hub, dir.path());
    let model = model(300_000);
    assert_eq!(cache::find(dir.path(), &reference(&model.id)), None);

    let pulled = pull(&settings, &reference(&model.id), &quiet).unwrap();
    let repo = dir.path().join("models--org--model");
    assert_eq!(pulled.path, repo.join("snapshots").join(&model.commit));
    assert_eq!(std::fs::read_to_string(repo.join("refs/main")).unwrap(), model.commit);
    cases::assert_same_files(&pulled.path, &model);
    let weights = model.files.iter().find(|it| it.is_large).unwrap();
    assert!(repo.join("blobs").join(sha256(&weights.bytes)).is_file());
    // What runs code when it is opened, and what nobody needs, stays where it is.
    for name in ["pytorch_model.bin", "modeling_org.py", "README.md"] {
        assert!(!pulled.path.join(name).exists(), "{name}");
    }
    assert_eq!(cache::find(dir.path(), &reference(&model.id)).unwrap().path, pulled.path);

    // A second time: one look at the list, no file.
    let before = (hub.body_bytes(), hub.requests().len());
    let again = pull(&settings, &reference(&model.id), &quiet).unwrap();
    assert_eq!((again.received, hub.body_bytes()), (0, before.0));
    assert_eq!(hub.requests().len(), before.1 + 1);

    // Another reader of this layout finds it, too.
    let theirs = hf_hub::Cache::new(dir.path().to_path_buf()).model(model.id.clone());
    let found = theirs.get("model.safetensors").unwrap();
    assert_eq!(std::fs::read(found).unwrap(), weights.bytes);
}

#[test]
fn a_cut_transfer_goes_on_where_it_ended() {
    let hub = FakeHub::start(vec![model(3_000_000)]);
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&hub, dir.path());
    hub.break_with(Fault::CutAt(2_000_000), Place::Bytes, 1);
    // The weights are the largest file, so they meet the fault alone.
    let one = HubSettings {
        limits: minicrit_hub::settings::Limits { files_at_once: 1, tries: 1, ..settings.limits },
        ..settings.clone()
    };
    let error = pull(&one, &reference("org/model"), &quiet).unwrap_err();
    assert_eq!(error.name(), "unreachable", "{error}");
    assert_eq!(cache::find(dir.path(), &reference("org/model")), None);

    let before = hub.body_bytes();
    let pulled = pull(&settings, &reference("org/model"), &quiet).unwrap();
    cases::assert_same_files(&pulled.path, &model(3_000_000));
    let rest = hub.body_bytes() - before;
    assert!(rest < 1_100_000, "{rest} bytes were sent again");
    assert!(hub.requests().iter().any(|it| it.range_from.is_some_and(|from| from > 1_700_000)));
}

#[test]
fn a_part_with_wrong_bytes_is_not_believed() {
    let hub = FakeHub::start(vec![model(100_000)]);
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&hub, dir.path());
    let weights = model(100_000).files.into_iter().find(|it| it.is_large).unwrap();
    let blobs = RepoCache::new(dir.path(), &RepoId::parse("org/model").unwrap()).blobs();
    std::fs::create_dir_all(&blobs).unwrap();
    for part in [vec![9; 40_000], vec![9; 100_000], vec![9; 200_000]] {
        let name = format!("{}.minicrit-part", sha256(&weights.bytes));
        std::fs::write(blobs.join(name), part).unwrap();
        let pulled = pull(&settings, &reference("org/model"), &quiet).unwrap();
        cases::assert_same_files(&pulled.path, &model(100_000));
        std::fs::remove_file(blobs.join(sha256(&weights.bytes))).unwrap();
    }
}

#[test]
fn a_blob_that_was_cut_later_is_fetched_again() {
    let hub = FakeHub::start(vec![model(100_000)]);
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&hub, dir.path());
    let pulled = pull(&settings, &reference("org/model"), &quiet).unwrap();
    let file = std::fs::canonicalize(pulled.path.join("model.safetensors")).unwrap();
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(10).unwrap();
    let pulled = pull(&settings, &reference("org/model"), &quiet).unwrap();
    cases::assert_same_files(&pulled.path, &model(100_000));
}

#[test]
fn the_token_goes_to_the_hub_and_not_beyond() {
    let gated = FakeRepo { gate: Some("hf_abc".into()), ..model(5000) };
    let hub = FakeHub::start(vec![gated]);
    let dir = tempfile::tempdir().unwrap();
    let open = settings(&hub, dir.path());
    let error = pull(&open, &reference("org/model"), &quiet).unwrap_err();
    assert_eq!(error.name(), "gated");
    assert!(error.hint().unwrap().contains("HF_TOKEN"), "{error}");
    let with = |token: &str| HubSettings { token: Token::new(token), ..open.clone() };
    assert_eq!(pull(&with("hf_x"), &reference("org/model"), &quiet).unwrap_err().name(), "gated");

    pull(&with("hf_abc"), &reference("org/model"), &quiet).unwrap();
    let (to_hub, beyond): (Vec<_>, Vec<_>) = hub.requests().into_iter().partition(|it| it.to_hub);
    assert!(to_hub.iter().any(|it| it.authorization.as_deref() == Some("Bearer hf_abc")));
    assert!(!beyond.is_empty() && beyond.iter().all(|it| it.authorization.is_none()));
}

#[test]
fn what_is_missing_is_named() {
    let pickles =
        FakeRepo::new("org/pickles", &[("config.json", b"{}"), ("pytorch_model.bin", b"x")]);
    let hub = FakeHub::start(vec![model(5000), pickles]);
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&hub, dir.path());
    let name = |text: &str| pull(&settings, &reference(text), &quiet).unwrap_err().name();
    assert_eq!(name("org/nothing"), "repo-not-found");
    assert_eq!(name("org/model@v9"), "revision-not-found");
    assert_eq!(name("org/model:Q4_K_M"), "no-model");
    assert_eq!(name("org/pickles"), "no-model");
    let offline = HubSettings { offline: true, ..settings.clone() };
    let before = hub.requests().len();
    let error = pull(&offline, &reference("org/model"), &quiet).unwrap_err();
    assert!(matches!(error, Error::Offline { .. }));
    assert_eq!(hub.requests().len(), before);
    // Where nobody listens.
    let nowhere = HubSettings { endpoint: "http://127.0.0.1:1".into(), ..settings };
    assert_eq!(pull(&nowhere, &reference("a/b"), &quiet).unwrap_err().name(), "unreachable");
}

#[test]
fn a_gguf_file_is_fetched_by_its_tag() {
    let files: &[(&str, &[u8])] =
        &[("m-Q4_K_M.gguf", b"four"), ("m-Q8_0.gguf", b"eight"), ("README.md", b"#")];
    let hub = FakeHub::start(vec![FakeRepo::new("org/m-GGUF", files)]);
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&hub, dir.path());
    let pulled = pull(&settings, &reference("org/m-GGUF:Q8_0"), &quiet).unwrap();
    assert_eq!(std::fs::read(&pulled.path).unwrap(), b"eight");
    assert_eq!(pulled.listing.files.len(), 1);
    // The other one is not here, and the one that is here is not mistaken for it.
    assert_eq!(cache::find(dir.path(), &reference("org/m-GGUF:Q4_K_M")), None);
    assert!(cache::find(dir.path(), &reference("org/m-GGUF:q8_0")).is_some());
    let pulled = pull(&settings, &reference("org/m-GGUF"), &quiet).unwrap();
    assert_eq!(std::fs::read(&pulled.path).unwrap(), b"four");
}

#[test]
fn shards_are_whole_only_together() {
    let index = br#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    let files: &[(&str, &[u8])] = &[
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("model-00001-of-00002.safetensors", b"one"),
        ("model-00002-of-00002.safetensors", b"two"),
    ];
    let hub = FakeHub::start(vec![FakeRepo::new("org/big", files)]);
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&hub, dir.path());
    let pulled = pull(&settings, &reference("org/big"), &quiet).unwrap();
    assert_eq!(cache::find(dir.path(), &reference("org/big")).unwrap().path, pulled.path);
    std::fs::remove_file(pulled.path.join("model-00002-of-00002.safetensors")).unwrap();
    assert_eq!(cache::find(dir.path(), &reference("org/big")), None);
}

#[test]
fn a_moved_branch_is_followed_and_shared_blobs_are_kept() {
    let hub = FakeHub::start(vec![model(50_000)]);
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&hub, dir.path());
    let old = pull(&settings, &reference("org/model"), &quiet).unwrap();
    let mut newer = model(50_000);
    newer.files[0].bytes.push(b' ');
    newer.commit = "1".repeat(40);
    hub.change(newer.clone());
    let new = pull(&settings, &reference("org/model"), &quiet).unwrap();
    assert_ne!(old.path, new.path);
    assert!(new.received < 1000, "the weights are the same: {} bytes", new.received);
    cases::assert_same_files(&old.path, &model(50_000));
    cases::assert_same_files(&new.path, &newer);
    // The old commit can still be asked for by its number, without a network.
    let pinned = reference(&format!("org/model@{}", old.commit));
    assert_eq!(cache::find(dir.path(), &pinned).unwrap().path, old.path);
}

#[test]
fn the_disk_is_asked_before_the_first_byte() {
    let hub = FakeHub::start(vec![model(5000)]);
    let size = serde_json::json!(1_u64 << 43);
    // The second file of the listing is the weights.
    let at = model(5000).files.iter().position(|it| it.is_large).unwrap();
    hub.break_with(Fault::List(vec![(format!("/siblings/{at}/lfs/size"), size)]), Place::List, 1);
    let dir = tempfile::tempdir().unwrap();
    let error = pull(&settings(&hub, dir.path()), &reference("org/model"), &quiet).unwrap_err();
    assert_eq!(error.name(), "no-space", "{error}");
    assert_eq!(hub.body_bytes(), 0);
}

#[test]
fn events_tell_the_whole_story() {
    let hub = FakeHub::start(vec![model(400_000)]);
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&hub, dir.path());
    let list = pull::list(&settings, &reference("org/model")).unwrap();
    let sum: u64 = list.files.iter().map(|it| it.size).sum();
    assert_eq!(pull::missing_bytes(&settings, &reference("org/model"), &list), sum);
    hub.break_with(Fault::Status(503, None), Place::Bytes, 1);
    let (retried, arrived) = (Mutex::new(0), Mutex::new(vec![0; list.files.len()]));
    pull(&settings, &reference("org/model"), &|event| match event {
        Event::Planned { missing, .. } => assert_eq!(missing, sum),
        Event::Arrived { file, bytes } => arrived.lock().unwrap()[file] = bytes,
        Event::Retrying { error, .. } => {
            assert_eq!(error.name(), "server");
            *retried.lock().unwrap() += 1;
        }
        _ => {}
    })
    .unwrap();
    assert_eq!(*retried.lock().unwrap(), 1);
    let sizes: Vec<u64> = list.files.iter().map(|it| it.size).collect();
    assert_eq!(*arrived.lock().unwrap(), sizes);
}

#[test]
fn eight_at_once_fetch_one_time() {
    let hub = FakeHub::start(vec![model(2_000_000)]);
    hub.throttle(4_000_000);
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&hub, dir.path());
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| pull(&settings, &reference("org/model"), &quiet)))
            .collect();
        for one in all {
            cases::assert_same_files(&one.join().unwrap().unwrap().path, &model(2_000_000));
        }
    });
    let wanted: usize = cases::wanted(&model(2_000_000)).map(|it| it.bytes.len()).sum();
    assert_eq!(hub.body_bytes(), wanted as u64);
}

#[test]
fn every_blob_has_the_name_of_its_content() {
    let hub = FakeHub::start(vec![model(10_000)]);
    let dir = tempfile::tempdir().unwrap();
    pull(&settings(&hub, dir.path()), &reference("org/model"), &quiet).unwrap();
    assert_eq!(cases::wrong_blobs(dir.path()), Vec::<String>::new());
    // The check can fail.
    let blobs = RepoCache::new(dir.path(), &RepoId::parse("org/model").unwrap()).blobs();
    let digest = Digest::parse(&"0".repeat(64)).unwrap();
    std::fs::write(blobs.join(digest.as_str()), b"x").unwrap();
    assert_eq!(cases::wrong_blobs(dir.path()).len(), 1);
}
