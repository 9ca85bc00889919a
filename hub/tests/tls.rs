//! Faults below HTTP: what answers on a hub's port does not speak TLS, breaks off in the middle of it,
//! or shows a certificate that proves nothing. Nothing is sent to it, nothing hangs, and the failure
//! has a name.
#![allow(clippy::unwrap_used)]

mod cases;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use minicrit_engine::NamedError;
use minicrit_hub::{
    Error, pull,
    reference::Reference,
    settings::{HubSettings, Token},
};
use minicrit_testkit::fake_hub::FakeHub;
use rustls::{
    ServerConfig, ServerConnection,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

const LIMIT: Duration = Duration::from_secs(20);

fn certificates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls")
}

/// Answers every connection on a port of its own with `serve`, for as long as the test lives.
fn listen(serve: impl Fn(TcpStream) -> std::io::Result<()> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // The other side may be gone: that is what is tested.
            let _ = serve(stream);
        }
    });
    endpoint
}

/// Listing the model from there, as a pull begins.
fn list(endpoint: String, ca_bundle: Option<PathBuf>) -> Result<pull::Listing, Error> {
    let dir = tempfile::tempdir().unwrap();
    let hub = FakeHub::start(Vec::new());
    let settings = HubSettings {
        endpoint,
        ca_bundle,
        token: Token::new("hf_secret"),
        ..cases::settings(&hub, dir.path())
    };
    let start = Instant::now();
    let found = pull::list(&settings, &Reference::parse("org/model").unwrap());
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
    found
}

#[test]
fn what_does_not_speak_tls_is_left() {
    type Fault = fn(&mut TcpStream) -> std::io::Result<()>;
    let faults: [(&str, Fault); 6] = [
        ("plain HTTP", |it| it.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]")),
        ("nothing, and the end", |_| Ok(())),
        ("silence", |it| it.read_to_end(&mut Vec::new()).map(drop)),
        ("a refusal", |it| it.write_all(&[21, 3, 3, 0, 2, 2, 40])),
        ("noise", |it| it.write_all(&[0x5a; 4096])),
        ("half of a hello", |it| it.write_all(&[22, 3, 3, 0, 122, 2, 0, 0, 118, 3, 3, 7, 7])),
    ];
    for (what, fault) in faults {
        let endpoint = listen(move |mut stream| {
            let mut hello = [0; 64];
            let count = stream.read(&mut hello)?;
            assert!(!hello[..count].starts_with(b"GET"), "nothing is asked in the clear");
            fault(&mut stream)
        });
        let error = list(endpoint, Some(certificates().join("authority.pem"))).unwrap_err();
        let name = error.name();
        assert!(matches!(name, "unreachable" | "too-slow"), "{what}: {name}: {error}");
        assert!(error.hint().is_some(), "{what}");
    }
}

/// A hub behind TLS with the certificate in this file. Counts the requests that reach it.
fn behind_tls(hub: &FakeHub, file: &str, cut: Option<usize>) -> (String, Arc<AtomicUsize>) {
    let path = certificates().join(file);
    let chain = vec![CertificateDer::from_pem_file(&path).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&path).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (config, asked) = (Arc::new(config), Arc::new(AtomicUsize::new(0)));
    let (inner, count) = (hub.endpoint().replace("http://", ""), Arc::clone(&asked));
    let endpoint = listen(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut tls = rustls::StreamOwned::new(connection, stream);
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tls.read_exact(&mut byte)?;
            request.push(byte[0]);
        }
        count.fetch_add(1, Ordering::Relaxed);
        let mut hub = TcpStream::connect(&inner)?;
        hub.write_all(&request)?;
        hub.shutdown(std::net::Shutdown::Write)?;
        let mut answer = Vec::new();
        hub.read_to_end(&mut answer)?;
        let end = cut.map_or(answer.len(), |it| answer.len().saturating_sub(it));
        tls.write_all(&answer[..end])?;
        if cut.is_none() {
            tls.conn.send_close_notify();
        }
        tls.flush()
    });
    (endpoint, asked)
}

#[test]
fn a_certificate_has_to_prove_something() {
    let hub = FakeHub::start(vec![cases::model(1000)]);
    let authority = || Some(certificates().join("authority.pem"));
    let (endpoint, asked) = behind_tls(&hub, "good.pem", None);
    assert_eq!(list(endpoint, authority()).unwrap().files.len(), 4);
    assert!(asked.load(Ordering::Relaxed) > 0);
    for (file, trusted) in
        [("good.pem", None), ("other_host.pem", authority()), ("expired.pem", authority())]
    {
        let (endpoint, asked) = behind_tls(&hub, file, None);
        let start = Instant::now();
        let error = list(endpoint, trusted).unwrap_err();
        assert_eq!(error.name(), "bad-certificate", "{file}: {error}");
        assert!(error.hint().is_some_and(|it| it.contains("REQUESTS_CA_BUNDLE")), "{file}");
        // Trying again would not help, and neither a path nor a token was told.
        assert!(start.elapsed() < Duration::from_secs(5), "{file}");
        assert_eq!(asked.load(Ordering::Relaxed), 0, "{file}");
    }
}

#[test]
fn an_answer_that_is_cut_inside_tls_is_no_answer() {
    let hub = FakeHub::start(vec![cases::model(1000)]);
    for cut in [1, 40, 300] {
        let (endpoint, _) = behind_tls(&hub, "good.pem", Some(cut));
        let error = list(endpoint, Some(certificates().join("authority.pem"))).unwrap_err();
        assert!(matches!(error.name(), "unreachable" | "bad-answer"), "{cut}: {error}");
    }
}
