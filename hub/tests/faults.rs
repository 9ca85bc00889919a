//! Every fault of [`minicrit_testkit::fake_hub`], with many seeds: no wrong byte is ever committed,
//! no pull hangs, nothing is written outside of the cache, and what fails has a name. When the hub
//! works again, the next pull succeeds.
#![allow(clippy::unwrap_used)]

mod cases;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use cases::{model, settings};
use minicrit_engine::NamedError;
use minicrit_hub::{pull, reference::Reference};
use minicrit_testkit::fake_hub::{FakeHub, Fault, Place};
use serde_json::{Value, json};

/// Seeds of each fault.
const SEEDS: u64 = 20;
/// Longer than any bounded sequence of waits of [`settings`] on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// Weights of the test's model: some reads long.
const WEIGHTS: usize = 90_000;

/// What a pull may be answered with; a fault must not make a pull succeed with wrong bytes, and it
/// must not be called by a name that sends a user the wrong way.
const NAMES: [&str; 14] = [
    "unreachable",
    "too-slow",
    "integrity",
    "rate-limited",
    "server",
    "bad-answer",
    "redirect-refused",
    "unsafe-name",
    "no-space",
    "gated",
    "repo-not-found",
    "remote-file-not-found",
    "revision-not-found",
    "no-model",
];

/// A counter-based stream of numbers: the same on every machine.
struct Seed(u64);

impl Seed {
    fn next(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from(mixed >> 33).unwrap_or(0) % below.max(1)
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.next(all.len())].clone()
    }
}

/// Runs a fault with all seeds: sometimes it strikes once, sometimes for ever.
fn check(place: Place, make: impl Fn(&mut Seed) -> Fault + Sync) {
    std::thread::scope(|scope| {
        for seed in 0..SEEDS {
            let make = &make;
            scope.spawn(move || {
                let mut stream = Seed(seed.wrapping_mul(0x9e37_79b9));
                let fault = make(&mut stream);
                let times = stream.one_of(&[1, 2, u64::MAX]);
                strike(seed, fault, place, times);
            });
        }
    });
}

fn strike(seed: u64, fault: Fault, place: Place, times: u64) {
    let what = format!("seed {seed}, {fault:?} at {place:?}, {times} times");
    let model = model(WEIGHTS);
    let hub = FakeHub::start(vec![model.clone()]);
    let outside = tempfile::tempdir().unwrap();
    let cache = outside.path().join("a/b/c/hub");
    std::fs::create_dir_all(&cache).unwrap();
    let settings = settings(&hub, &cache);
    let reference = Reference::parse("org/model").unwrap();
    // Some seeds begin in the middle of a file, so that faults of ranges are met.
    if seed.is_multiple_of(2) {
        hub.break_with(Fault::CutAt(WEIGHTS / 3), Place::Bytes, 1);
        let _ = pull(
            &minicrit_hub::settings::HubSettings {
                limits: minicrit_hub::settings::Limits {
                    tries: 1,
                    files_at_once: 1,
                    ..settings.limits
                },
                ..settings.clone()
            },
            &reference,
            &|_| {},
        );
    }
    hub.break_with(fault, place, times);
    let start = Instant::now();
    let outcome = pull(&settings, &reference, &|_| {});
    assert!(start.elapsed() < LIMIT, "{what}: {:?}", start.elapsed());
    match &outcome {
        Ok(pulled) => cases::assert_same_files(&pulled.path, &model),
        Err(error) => {
            assert!(NAMES.contains(&error.name()), "{what}: {}: {error}", error.name());
            assert!(error.hint().is_some(), "{what}: {error}");
        }
    }
    assert_eq!(cases::wrong_blobs(&cache), Vec::<String>::new(), "{what}");
    assert_nothing_outside(outside.path(), &what);

    hub.repair();
    let pulled =
        pull(&settings, &reference, &|_| {}).unwrap_or_else(|error| panic!("{what}: then {error}"));
    cases::assert_same_files(&pulled.path, &model);
}

/// The folder holds the cache and nothing beside it.
fn assert_nothing_outside(folder: &Path, what: &str) {
    for (level, only) in [("", "a"), ("a", "b"), ("a/b", "c"), ("a/b/c", "hub")] {
        let names: Vec<_> = std::fs::read_dir(folder.join(level))
            .unwrap()
            .map(|it| it.unwrap().file_name())
            .collect();
        assert_eq!(names, [only], "{what}");
    }
}

macro_rules! faults {
    ($($name:ident: $place:expr, $make:expr;)*) => {
        $(#[test] fn $name() { check($place, $make); })*
        /// How many there are.
        const FAULTS: &[&str] = &[$(stringify!($name)),*];
    };
}

faults! {
    hung_up: Place::Bytes, |_| Fault::HangUp;
    hung_up_while_listing: Place::List, |_| Fault::HangUp;
    cut_at_any_byte: Place::Bytes, |seed| Fault::CutAt(seed.next(WEIGHTS));
    list_cut_at_any_byte: Place::List, |seed| Fault::ListCutAt(seed.next(900));
    short_body: Place::Bytes, |seed| Fault::ShortBody(1 + seed.next(WEIGHTS));
    long_body: Place::Bytes, |seed| Fault::LongBody(1 + seed.next(100_000));
    more_than_promised: Place::Bytes, |seed| Fault::MoreThanPromised(1 + seed.next(5000));
    flipped_bit: Place::Bytes, |seed| Fault::FlipBit(seed.next(WEIGHTS));
    zeros: Place::Bytes, |_| Fault::Zeros;
    login_page: Place::Bytes, |_| Fault::LoginPage;
    login_page_instead_of_the_list: Place::List, |_| Fault::LoginPage;
    login_page_instead_of_the_redirect: Place::Redirect, |_| Fault::LoginPage;
    login_page_of_the_same_length: Place::Bytes, |_| Fault::LoginPageOfSameLength;
    rate_limit: Place::Bytes, |seed| Fault::Status(429, seed.one_of(&[None, Some(0), Some(1), Some(9999)]));
    rate_limit_while_listing: Place::List, |seed| Fault::Status(429, seed.one_of(&[None, Some(0), Some(9999)]));
    server_error: Place::Bytes, |seed| Fault::Status(seed.one_of(&[500, 502, 503, 504]), seed.one_of(&[None, Some(0)]));
    odd_status: Place::Bytes, |seed| Fault::Status(seed.one_of(&[401, 403, 404, 410, 204, 203, 304, 416, 400, 599, 999]), None);
    odd_status_while_listing: Place::List, |seed| Fault::Status(seed.one_of(&[401, 403, 404, 410, 204, 304, 400, 500]), None);
    range_ignored: Place::Bytes, |_| Fault::RangeIgnored;
    other_range: Place::Bytes, |_| Fault::OtherRange;
    lying_range: Place::Bytes, |_| Fault::LyingRange;
    drip: Place::Bytes, |_| Fault::Drip;
    drip_while_listing: Place::List, |_| Fault::Drip;
    stall: Place::Bytes, |_| Fault::Stall;
    silence: Place::Redirect, |_| Fault::Silence;
    redirect_into_the_network: Place::Redirect, |seed| Fault::RedirectTo(seed.one_of(&[
        "http://169.254.169.254/latest/meta-data", "http://10.0.0.1/x", "http://192.168.1.1/x",
        "http://[fe80::1]/x", "http://0.0.0.0:1/x", "http://[::ffff:169.254.169.254]/x",
        "http://0xa9fea9fe/x", "http://2852039166/x",
    ]).to_owned());
    redirect_to_nowhere: Place::Redirect, |seed| Fault::RedirectTo(seed.one_of(&[
        "", "file:///etc/passwd", "ftp://127.0.0.1/x", "javascript:alert(1)", "http://", "http:///x",
        "http://user:password@127.0.0.1/x", "http://127.0.0.1:1/x", "::::", "//", "http://127.0.0.1:99999/x",
    ]).to_owned());
    redirect_loop: Place::Redirect, |_| Fault::RedirectLoop;
    compressed: Place::Bytes, |_| Fault::Compressed;
    no_length: Place::Bytes, |seed| Fault::NoLength(seed.next(WEIGHTS));
    endless_body: Place::Bytes, |_| Fault::Endless;
    endless_list: Place::List, |_| Fault::Endless;
    broken_chunks: Place::Bytes, |_| Fault::BrokenChunks;
    garbage: Place::Bytes, |_| Fault::Garbage;
    endless_head: Place::Redirect, |_| Fault::EndlessHead;
    hostile_headers: Place::Redirect, |_| Fault::HostileHeaders;
    hostile_headers_of_bytes: Place::Bytes, |_| Fault::HostileHeaders;
    other_commit: Place::Redirect, |_| Fault::OtherCommit;
    hostile_names: Place::List, |seed| list("rfilename", json!(seed.one_of(&[
        "../../../evil.safetensors", "/tmp/evil.gguf", "a\\..\\..\\evil.gguf", "x\u{0}.safetensors",
        "C:\\evil.gguf", "a/../../evil.gguf", "..", "NUL.gguf", "evil\u{202e}.gguf",
    ])));
    hostile_digest: Place::List, |seed| list("lfs/sha256", json!(seed.one_of(&[
        "../../../../evil", "", "x", "..", "/etc/passwd",
        "0000000000000000000000000000000000000000000000000000000000000000",
    ])));
    hostile_size: Place::List, |seed| list("lfs/size", seed.one_of(&[
        json!(0), json!(1), json!(WEIGHTS - 1), json!(WEIGHTS + 1), json!(u64::MAX), json!(-1),
        json!(1.5), json!("9"), Value::Null, json!(1_u64 << 43),
    ]));
    hostile_commit: Place::List, |seed| Fault::List(vec![("/sha".to_owned(), seed.one_of(&[
        json!("../../../evil"), json!("main"), json!(""), Value::Null, json!(7), json!("f".repeat(40)),
    ]))]);
}

/// The list with another value for the weights, which are the fourth file.
fn list(key: &str, value: Value) -> Fault {
    Fault::List(vec![(format!("/siblings/3/{key}"), value)])
}

#[test]
fn there_are_at_least_twenty_two() {
    assert!(FAULTS.len() >= 22, "{}", FAULTS.len());
}
