//! One file from the hub to a blob: locked, resumed, counted, hashed, synced, renamed.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    time::Duration,
};

use super::{
    Event, Observer, Wanted,
    listing::{address, refusal},
};
use crate::{
    Error, Result,
    cache::{RepoCache, sync_folder},
    name::{Commit, Hasher},
    reference::Reference,
    settings::Limits,
    wire::{Answer, Client, Pace, Stop, Tries, Trouble},
};

/// Between looks at a lock that another process holds.
const LOCK_POLL: Duration = Duration::from_millis(100);
/// Bytes that are read and written at once; at most these are lost by a kill.
const BUFFER: usize = 256 << 10;
/// A try that brought this much was no failure, even if it broke off.
const GOOD_PROGRESS: u64 = 1 << 20;
/// Whole files with wrong bytes before the hub is not believed any more.
const MOST_WRONG: u32 = 2;

/// What all transfers of a pull share.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub client: &'a Client,
    pub limits: &'a Limits,
    pub stop: &'a Stop,
    pub reference: &'a Reference,
    pub repo: &'a RepoCache,
    pub commit: &'a Commit,
    pub observer: Observer<'a>,
}

/// Bytes of a file that have to come still.
pub fn missing(repo: &RepoCache, wanted: &Wanted) -> u64 {
    if is_here(repo, wanted) {
        return 0;
    }
    let part = std::fs::metadata(repo.part(&wanted.digest)).map_or(0, |it| it.len());
    wanted.size.saturating_sub(part)
}

/// A blob is there only if it was checked; its size tells one that was cut later.
fn is_here(repo: &RepoCache, wanted: &Wanted) -> bool {
    std::fs::metadata(repo.blob(&wanted.digest))
        .is_ok_and(|it| it.is_file() && it.len() == wanted.size)
}

/// Fetches a file unless it is here. Gives the bytes that came over the network.
///
/// # Errors
/// [`Error`]; the part stays, unless its bytes were wrong.
pub fn fetch(job: &Job<'_>, file: usize, wanted: &Wanted) -> Result<u64> {
    let mut received = 0;
    if !is_here(job.repo, wanted) {
        let _lock = lock(job, file, wanted)?;
        // Whoever held the lock may have brought it.
        if !is_here(job.repo, wanted) {
            received = transfer(job, file, wanted)?;
        }
    }
    (job.observer)(Event::Arrived { file, bytes: wanted.size });
    (job.observer)(Event::Finished { file });
    Ok(received)
}

/// Takes the file's lock, waiting for as long as another process holds it. The kernel gives it back
/// when its holder ends, however it ends.
fn lock(job: &Job<'_>, file: usize, wanted: &Wanted) -> Result<File> {
    let path = job.repo.lock(&wanted.digest);
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(Error::disk("open", &path))?;
    let mut told = false;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut told, true) {
                    (job.observer)(Event::Waiting { file });
                }
                let part = std::fs::metadata(job.repo.part(&wanted.digest));
                (job.observer)(Event::Arrived { file, bytes: part.map_or(0, |it| it.len()) });
                job.stop.wait(LOCK_POLL)?;
            }
            // A network file system without locks: content under its digest is safe without them.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                return Ok(lock);
            }
            Err(TryLockError::Error(error)) => return Err(Error::disk("lock", &path)(error)),
        }
    }
}

/// A file that grows beside its place, and the digest of what it holds.
struct Part<'a> {
    file: File,
    path: &'a Path,
    length: u64,
    hasher: Hasher,
}

fn transfer(job: &Job<'_>, file: usize, wanted: &Wanted) -> Result<u64> {
    let path = job.repo.part(&wanted.digest);
    let mut part = open_part(&path, wanted)?;
    let mut tries = Tries::new(job.limits, job.stop);
    let (mut received, mut wrong) = (0, 0);
    loop {
        let before = part.length;
        let outcome = match part.length < wanted.size {
            true => receive(job, file, wanted, &mut part, &mut received),
            false => Ok(()),
        };
        let outcome = outcome.and_then(|()| {
            let found = part.hasher.clone().finish();
            if found == wanted.digest {
                return Ok(());
            }
            part.restart(wanted)?;
            wrong += 1;
            let error = Error::wrong_digest(wanted.name.as_str(), &wanted.digest, &found);
            Err(if wrong < MOST_WRONG { Trouble::passing(error) } else { error.into() })
        });
        match outcome {
            Ok(()) => break,
            Err(trouble) => {
                let gained = part.length.saturating_sub(before);
                if gained >= GOOD_PROGRESS.min(1 + wanted.size / 16) {
                    tries.progressed();
                }
                tries.after(trouble, |error, wait| {
                    (job.observer)(Event::Retrying { file, error, wait });
                })?;
            }
        }
    }
    commit(job, wanted, &part)?;
    Ok(received)
}

/// Opens the part and hashes what it holds already.
fn open_part<'a>(path: &'a Path, wanted: &Wanted) -> Result<Part<'a>> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(Error::disk("open", path))?;
    let length = file.metadata().map_err(Error::disk("read", path))?.len();
    let mut hasher = wanted.digest.hasher(wanted.size);
    if length > wanted.size {
        let mut part = Part { file, path, length, hasher };
        part.restart(wanted)?;
        return Ok(part);
    }
    let mut buffer = vec![0; BUFFER];
    let mut held = 0;
    while held < length {
        match file.read(&mut buffer).map_err(Error::disk("read", path))? {
            0 => break,
            count => {
                hasher.update(&buffer[..count]);
                held += count as u64;
            }
        }
    }
    Ok(Part { file, path, length: held, hasher })
}

impl Part<'_> {
    /// Forgets what it holds.
    fn restart(&mut self, wanted: &Wanted) -> Result<()> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(Error::disk("write", self.path))?;
        self.length = 0;
        self.hasher = wanted.digest.hasher(wanted.size);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::disk("write", self.path))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// One try: asks for the rest and appends what comes.
fn receive(
    job: &Job<'_>,
    file: usize,
    wanted: &Wanted,
    part: &mut Part<'_>,
    received: &mut u64,
) -> std::result::Result<(), Trouble> {
    let url = address(job.client, &job.reference.repo, job.commit, &wanted.name);
    let answer = job.client.get(&url, part.length)?;
    check_head(job, wanted, part, &answer)?;
    let host = answer.host.clone();
    let mut reader = answer.into_reader();
    let mut pace = Pace::new(job.limits.stall, job.limits.stall_bytes);
    let mut buffer = vec![0; BUFFER];
    loop {
        let count =
            reader.read(&mut buffer).map_err(|error| job.client.read_failed(&host, &error))?;
        *received += count as u64;
        if part.length + count as u64 > wanted.size {
            part.restart(wanted)?;
            return Err(wrong_size(wanted, "more bytes than listed"));
        }
        part.append(&buffer[..count])?;
        (job.observer)(Event::Arrived { file, bytes: part.length });
        job.stop.check()?;
        match count {
            _ if part.length == wanted.size => return Ok(()),
            0 => {
                let problem = "the connection ended early".to_owned();
                return Err(Trouble::passing(Error::Unreachable { host, problem }));
            }
            _ if pace.keeps_up(count as u64) => {}
            _ => return Err(Trouble::passing(job.client.stalled(&host))),
        }
    }
}

/// Judges the head of an answer. Where a server sends the whole file instead of the rest, the part
/// begins anew.
fn check_head(
    job: &Job<'_>,
    wanted: &Wanted,
    part: &mut Part<'_>,
    answer: &Answer,
) -> std::result::Result<(), Trouble> {
    if let Some(commit) = answer.hub_header("x-repo-commit")
        && commit != job.commit.as_str()
    {
        let problem = "a file of another commit than the one asked for".to_owned();
        let error = Error::BadAnswer { host: answer.host.clone(), problem };
        return Err(Trouble::passing(error));
    }
    let length = answer.header("content-length").and_then(|it| it.parse::<u64>().ok());
    let rest = wanted.size - part.length;
    match answer.status().as_u16() {
        200 => {
            if length.is_some_and(|it| it != wanted.size) {
                return Err(wrong_size(wanted, "another size than listed"));
            }
            if part.length > 0 {
                part.restart(wanted)?;
            }
            Ok(())
        }
        206 if part.length > 0 => {
            let expected =
                format!("bytes {}-{}/{}", part.length, wanted.size.saturating_sub(1), wanted.size);
            let range = answer.header("content-range").unwrap_or_default();
            if range != expected || length.is_some_and(|it| it != rest) {
                part.restart(wanted)?;
                return Err(wrong_size(wanted, "another stretch than asked for"));
            }
            Ok(())
        }
        // The part is longer than the server's file, or the server can't count.
        416 => {
            part.restart(wanted)?;
            Err(wrong_size(wanted, "the rest of it is refused"))
        }
        _ => Err(refusal(job.client, job.reference, Some(&wanted.name), answer)),
    }
}

fn wrong_size(wanted: &Wanted, what: &str) -> Trouble {
    let problem = format!("{what} ({} bytes)", wanted.size);
    Trouble::passing(Error::Integrity { file: wanted.name.to_string(), problem })
}

/// Syncs the bytes, then gives them their name, then syncs the name.
fn commit(job: &Job<'_>, wanted: &Wanted, part: &Part<'_>) -> Result<()> {
    let blob = job.repo.blob(&wanted.digest);
    part.file.sync_all().map_err(Error::disk("sync", part.path))?;
    std::fs::rename(part.path, &blob)
        .and_then(|()| sync_folder(&job.repo.blobs()))
        .map_err(Error::disk("write", &blob))
}
