//! A model hub on loopback, with a second host for large files, and faults on demand.
//!
//! It speaks what huggingface.co speaks: the list of files under `/api/models`, `resolve` with
//! `ETag`, `X-Repo-Commit` and `X-Linked-*`, redirects of large files to another host, ranges,
//! HEAD. Every request is written down, so that a test can ask who sent a token where.

mod content;
mod fault;
mod request;

use std::{
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde_json::json;

pub use content::{FakeFile, FakeRepo, git_blob, sha256};
pub use fault::{Fault, Place};
pub use request::Request;

use request::Reply;

/// A running hub. It ends with the value.
#[derive(Debug)]
pub struct FakeHub {
    hub: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    files_host: SocketAddr,
    repos: Mutex<Vec<FakeRepo>>,
    fault: Mutex<Option<(Fault, Place, u64)>>,
    seen: Mutex<Vec<Request>>,
    body_bytes: AtomicU64,
    over: AtomicBool,
    /// Bytes in a second, for each connection; 0 is as fast as possible.
    throttle: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeHub {
    /// Starts a hub with these repositories.
    pub fn start(repos: Vec<FakeRepo>) -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let (hub, files) = (listen(), listen());
        let address = |it: &TcpListener| it.local_addr().expect("a bound socket has an address");
        let (hub_address, files_host) = (address(&hub), address(&files));
        let shared = Arc::new(Shared {
            files_host,
            repos: Mutex::new(repos),
            fault: Mutex::new(None),
            seen: Mutex::default(),
            body_bytes: AtomicU64::new(0),
            over: AtomicBool::new(false),
            throttle: AtomicU64::new(0),
        });
        for (listener, is_hub) in [(hub, true), (files, false)] {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || accept(&listener, is_hub, &shared));
        }
        Self { hub: hub_address, shared }
    }

    /// What to use as `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.hub)
    }

    /// Host and port of the large files.
    pub fn files_host(&self) -> String {
        self.shared.files_host.to_string()
    }

    /// From now on, the next `times` requests at this place meet a fault.
    pub fn break_with(&self, fault: Fault, place: Place, times: u64) {
        *locked(&self.shared.fault) = Some((fault, place, times));
    }

    /// No faults any more.
    pub fn repair(&self) {
        *locked(&self.shared.fault) = None;
    }

    /// Slows every body down to so many bytes in a second.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.shared.throttle.store(bytes_per_second, Ordering::Relaxed);
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        locked(&self.shared.seen).clone()
    }

    /// Bytes of files that were sent so far (lists of files not counted).
    pub fn body_bytes(&self) -> u64 {
        self.shared.body_bytes.load(Ordering::Relaxed)
    }

    /// Changes a repository.
    pub fn change(&self, repo: FakeRepo) {
        let mut repos = locked(&self.shared.repos);
        repos.retain(|it| it.id != repo.id);
        repos.push(repo);
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for address in [self.hub, self.shared.files_host] {
            // Wakes the thread that waits for a connection.
            let _ = TcpStream::connect(address);
        }
    }
}

fn accept(listener: &TcpListener, is_hub: bool, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.over.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // A client that goes away is what tests of clients do.
            let _ = serve(stream, is_hub, &shared);
        });
    }
}

fn serve(mut stream: TcpStream, is_hub: bool, shared: &Shared) -> std::io::Result<()> {
    let Some(request) = Request::read(&mut stream, is_hub)? else { return Ok(()) };
    locked(&shared.seen).push(request.clone());
    let mut reply = if is_hub { hub_reply(&request, shared) } else { file_reply(&request, shared) };
    let fault = {
        let mut slot = locked(&shared.fault);
        match slot.as_mut() {
            Some((fault, place, times)) if *times > 0 && place.is_here(&request, &reply) => {
                *times -= 1;
                Some(fault.clone())
            }
            _ => None,
        }
    };
    let throttle = shared.throttle.load(Ordering::Relaxed);
    let counted = |bytes: usize| {
        shared.body_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        shared.over.load(Ordering::Relaxed)
    };
    match fault {
        Some(fault) => fault.strike(&mut stream, &request, reply, &shared.over),
        None => {
            if request.method == "HEAD" {
                reply.body = reply.body.without_bytes();
            }
            reply.send(&mut stream, throttle, counted)?;
            stream.flush()
        }
    }
}

fn hub_reply(request: &Request, shared: &Shared) -> Reply {
    let repos = locked(&shared.repos);
    let path = request.path.split('?').next().unwrap_or_default();
    if let Some(rest) = path.strip_prefix("/api/models/") {
        let (id, revision) = rest.split_once("/revision/").unwrap_or((rest, "main"));
        let revision = revision.replace("%2F", "/");
        let Some(repo) = repos.iter().find(|it| it.id == id) else {
            return Reply::missing("RepoNotFound");
        };
        if let Some(refusal) = repo.refusal(request) {
            return refusal;
        }
        return match repo.has_revision(&revision) {
            true => Reply::json(&repo.listing()),
            false => Reply::missing("RevisionNotFound"),
        };
    }
    let Some((id, rest)) = path.trim_start_matches('/').split_once("/resolve/") else {
        return Reply::missing("RepoNotFound");
    };
    let Some(repo) = repos.iter().find(|it| it.id == id) else {
        return Reply::missing("RepoNotFound");
    };
    if let Some(refusal) = repo.refusal(request) {
        return refusal;
    }
    let (revision, name) = rest.split_once('/').unwrap_or((rest, ""));
    if !repo.has_revision(revision) {
        return Reply::missing("RevisionNotFound");
    }
    let Some(file) = repo.files.iter().find(|it| it.name == name) else {
        return Reply::missing("EntryNotFound").header("X-Repo-Commit", &repo.commit);
    };
    if !file.is_large {
        return Reply::bytes(&file.bytes, request)
            .header("X-Repo-Commit", &repo.commit)
            .header("ETag", &format!("\"{}\"", git_blob(&file.bytes)));
    }
    let digest = sha256(&file.bytes);
    let size = file.bytes.len().to_string();
    Reply::status(302, json!({}))
        .header("Location", &format!("http://{}/{digest}?signed=1", shared.files_host))
        .header("X-Repo-Commit", &repo.commit)
        .header("X-Linked-Size", &size)
        .header("X-Linked-ETag", &format!("\"{digest}\""))
        .header("ETag", &format!("\"{digest}\""))
}

/// Large files by their digest; whoever has the address may have the bytes.
fn file_reply(request: &Request, shared: &Shared) -> Reply {
    let repos = locked(&shared.repos);
    let digest = request.path.trim_start_matches('/').split('?').next().unwrap_or_default();
    let file = repos.iter().flat_map(|it| &it.files).find(|it| sha256(&it.bytes) == digest);
    match file {
        Some(file) => Reply::bytes(&file.bytes, request).header("ETag", &format!("\"{digest}\"")),
        None => Reply::missing("EntryNotFound"),
    }
}
