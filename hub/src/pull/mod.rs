//! Bringing a model here: list, plan, room on the disk, transfers, then all links at once.
//!
//! A blob appears under its digest only after its bytes were counted, hashed and synced; links to
//! blobs appear when all blobs are there, config.json last; the branch's commit is noted after
//! that. So a killed pull leaves what was there before, and parts that the next pull goes on with.

mod listing;
pub(crate) mod room;
pub(crate) mod select;
mod transfer;

use std::{
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use listing::{Listing, Wanted};

use crate::{
    Error, Result,
    cache::{self, Found, RepoCache},
    name::Commit,
    reference::Reference,
    settings::HubSettings,
    wire::{Client, Stop, Trouble},
};

/// What happens during a pull. `file` counts from 0 in the order of the plan.
#[derive(Debug)]
pub enum Event<'a> {
    /// The files are known, and how many bytes of them have to come.
    Planned {
        /// All files of the model.
        listing: &'a Listing,
        /// Bytes that are not here.
        missing: u64,
    },
    /// Another process fetches this file; we wait for it.
    Waiting {
        /// Which.
        file: usize,
    },
    /// So many bytes of a file are here.
    Arrived {
        /// Which.
        file: usize,
        /// How many, of its size.
        bytes: u64,
    },
    /// A try failed and another follows.
    Retrying {
        /// Which file.
        file: usize,
        /// Why.
        error: &'a Error,
        /// After which time.
        wait: Duration,
    },
    /// A file is here, checked.
    Finished {
        /// Which.
        file: usize,
    },
}

/// Whoever wants to know.
pub type Observer<'a> = &'a (dyn Fn(Event<'_>) + Sync);

/// A model that was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// What to open: a folder, or a GGUF file.
    pub path: PathBuf,
    /// Its commit.
    pub commit: Commit,
    /// Its files.
    pub listing: Listing,
    /// Bytes that came over the network for it.
    pub received: u64,
}

/// The list of what a pull would fetch.
///
/// # Errors
/// Offline; what the hub refuses.
pub fn list(settings: &HubSettings, reference: &Reference) -> Result<Listing> {
    online(settings, reference)?;
    let client = Client::new(settings)?;
    listing::fetch(&client, reference, &settings.limits, &Stop::default())
}

/// Asks the hub for anything at all. Gives the time until it answered.
///
/// # Errors
/// Offline; no answer.
pub fn reach(settings: &HubSettings) -> Result<Duration> {
    if settings.offline {
        return Err(Error::Offline { what: settings.endpoint.clone() });
    }
    let client = Client::new(settings)?;
    let start = std::time::Instant::now();
    match client.get(&client.url("/api/models?limit=1"), 0) {
        Ok(_) => Ok(start.elapsed()),
        Err(Trouble::Final(error) | Trouble::Passing { error, .. }) => Err(error),
    }
}

/// Bytes of these files that are not in the cache.
pub fn missing_bytes(settings: &HubSettings, reference: &Reference, listing: &Listing) -> u64 {
    let repo = RepoCache::new(&settings.cache, &reference.repo);
    listing.files.iter().map(|it| transfer::missing(&repo, it)).sum()
}

/// Fetches what is missing of a model.
///
/// # Errors
/// [`Error`]; what arrived before stays and is gone on with.
pub fn pull(
    settings: &HubSettings,
    reference: &Reference,
    observer: Observer<'_>,
) -> Result<Pulled> {
    online(settings, reference)?;
    let client = Client::new(settings)?;
    let stop = Stop::default();
    let listing = listing::fetch(&client, reference, &settings.limits, &stop)?;
    let repo = RepoCache::new(&settings.cache, &reference.repo);
    let missing = listing.files.iter().map(|it| transfer::missing(&repo, it)).sum();
    observer(Event::Planned { listing: &listing, missing });

    repo.create(&listing.commit)?;
    room::check(&repo.blobs(), missing)?;
    let job = transfer::Job {
        client: &client,
        limits: &settings.limits,
        stop: &stop,
        reference,
        repo: &repo,
        commit: &listing.commit,
        observer,
    };
    let received = fetch_all(&job, &listing.files, settings.limits.files_at_once)?;
    link_all(&repo, &listing)?;
    repo.write_ref(reference.revision(), &listing.commit)?;
    let path = match cache::find(&settings.cache, reference) {
        Some(Found { path, .. }) => path,
        None => repo.snapshot(&listing.commit),
    };
    Ok(Pulled { path, commit: listing.commit.clone(), listing, received })
}

fn online(settings: &HubSettings, reference: &Reference) -> Result<()> {
    match settings.offline {
        true => Err(Error::Offline { what: reference.to_string() }),
        false => Ok(()),
    }
}

/// Fetches files, several at a time, the largest first. Gives the bytes that came.
fn fetch_all(job: &transfer::Job<'_>, files: &[Wanted], at_once: usize) -> Result<u64> {
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by_key(|it| files[*it].size);
    let queue = Mutex::new(order);
    let received = AtomicU64::new(0);
    let first_error = Mutex::new(None);
    let work = || {
        while let Some(file) = queue.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            match transfer::fetch(job, file, &files[file]) {
                Ok(bytes) => received.fetch_add(bytes, Ordering::Relaxed),
                Err(Error::Stopped) => return,
                Err(error) => {
                    first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    return job.stop.stop();
                }
            };
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..at_once.clamp(1, 16).min(files.len().max(1)) {
            scope.spawn(work);
        }
    });
    match first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(received.into_inner()),
    }
}

/// Makes all files of the commit visible; config.json, without which there is no model, last.
fn link_all(repo: &RepoCache, listing: &Listing) -> Result<()> {
    let is_config = |it: &&Wanted| it.name.as_str() == "config.json";
    let (last, first): (Vec<&Wanted>, Vec<&Wanted>) = listing.files.iter().partition(is_config);
    first
        .into_iter()
        .chain(last)
        .try_for_each(|it| repo.link(&listing.commit, &it.name, &it.digest))
}
