//! What lies in the cache, whether it is still what it was, and taking it away.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{PART, RepoCache, lookup::names_below};
use crate::{
    Error, Result,
    name::{Commit, Digest, RepoId, SafeName},
};

/// The longest time between a blob and the links to it, with room to spare.
const YOUNG: Duration = Duration::from_hours(24);

/// A repository that has files here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedRepo {
    /// Which.
    pub repo: RepoId,
    /// Its commits that have files here.
    pub snapshots: Vec<Snapshot>,
    /// Bytes of all its blobs and parts.
    pub bytes: u64,
}

/// A commit that has files here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Which.
    pub commit: Commit,
    /// Branches and tags that had this commit when they were last looked at.
    pub refs: Vec<String>,
    /// Its files whose bytes are here.
    pub files: Vec<SafeName>,
    /// Bytes of these files.
    pub bytes: u64,
}

/// All repositories in the cache.
pub fn scan(cache: &Path) -> Vec<CachedRepo> {
    let mut found: Vec<CachedRepo> = entries(cache)
        .iter()
        .filter_map(|it| RepoId::of_folder_name(it))
        .map(|it| read(cache, it))
        .collect();
    found.retain(|it| !it.snapshots.is_empty());
    found.sort_by(|a, b| a.repo.cmp(&b.repo));
    found
}

fn read(cache: &Path, repo: RepoId) -> CachedRepo {
    let place = RepoCache::new(cache, &repo);
    let refs = names_below(&place.root().join("refs"));
    let commits = entries(&place.root().join("snapshots"));
    let snapshots = commits
        .iter()
        .filter_map(|it| Commit::parse(it))
        .map(|commit| {
            let folder = place.snapshot(&commit);
            let files = names_below(&folder);
            let size =
                |it: &SafeName| std::fs::metadata(it.below(&folder)).map_or(0, |it| it.len());
            let bytes = files.iter().map(size).sum();
            let has = |it: &&SafeName| place.commit_of(it.as_str()).as_ref() == Some(&commit);
            let refs = refs.iter().filter(has).map(ToString::to_string).collect();
            Snapshot { commit, refs, files, bytes }
        })
        .collect();
    let blobs = place.blobs();
    let size = |it: &String| std::fs::metadata(blobs.join(it)).map_or(0, |it| it.len());
    CachedRepo { repo, snapshots, bytes: entries(&blobs).iter().map(size).sum() }
}

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Its bytes hash to the name they are stored under.
    Good,
    /// They hash to something else.
    Wrong {
        /// To what.
        found: Digest,
    },
    /// It is not stored under a digest: nothing to compare with.
    Unnamed,
}

/// Hashes every file of a snapshot again.
///
/// # Errors
/// A file that can't be read.
pub fn verify(cache: &Path, repo: &RepoId, commit: &Commit) -> Result<Vec<(SafeName, Health)>> {
    let folder = RepoCache::new(cache, repo).snapshot(commit);
    names_below(&folder)
        .into_iter()
        .map(|name| Ok((name.clone(), health(&name.below(&folder))?)))
        .collect()
}

fn health(path: &Path) -> Result<Health> {
    // The blob that the link leads to; in newer layouts of Python's it may be a link itself.
    let target = std::fs::read_link(path).unwrap_or_else(|_| path.to_path_buf());
    let name = target.file_name().and_then(|it| it.to_str()).unwrap_or_default();
    let Some(digest) = Digest::parse(name) else { return Ok(Health::Unnamed) };
    let mut file = File::open(path).map_err(Error::disk("read", path))?;
    let size = file.metadata().map_err(Error::disk("read", path))?.len();
    let mut hasher = digest.hasher(size);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(Error::disk("read", path))? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    let found = hasher.finish();
    Ok(if found == digest { Health::Good } else { Health::Wrong { found } })
}

/// Takes bytes with wrong content away, so that the next pull fetches them again.
///
/// # Errors
/// Those of the file system.
pub fn discard(cache: &Path, repo: &RepoId, commit: &Commit, name: &SafeName) -> Result<()> {
    let path = name.below(&RepoCache::new(cache, repo).snapshot(commit));
    let blob = std::fs::canonicalize(&path).map_err(Error::disk("read", &path))?;
    delete(&path)?;
    if blob.starts_with(RepoCache::new(cache, repo).blobs()) { delete(&blob) } else { Ok(()) }
}

/// Takes a commit away, and every blob that only it had. Gives the bytes that became free.
///
/// # Errors
/// Those of the file system; what is gone by then is gone.
pub fn remove(cache: &Path, repo: &RepoId, commit: &Commit) -> Result<u64> {
    let place = RepoCache::new(cache, repo);
    let before = read(cache, repo.clone());
    for snapshot in before.snapshots.iter().filter(|it| it.commit == *commit) {
        for reference in &snapshot.refs {
            delete(&SafeName::parse(reference)?.below(&place.root().join("refs")))?;
        }
    }
    let folder = place.snapshot(commit);
    let own = linked(&folder);
    // Without its config a half removed model is no model.
    let config = folder.join("config.json");
    if config.symlink_metadata().is_ok() {
        delete(&config)?;
    }
    std::fs::remove_dir_all(&folder).map_err(Error::disk("remove", &folder))?;
    let used = used(&place);
    let mut freed = 0;
    for name in own.difference(&used) {
        if let Some(digest) = name.to_str().and_then(Digest::parse) {
            freed += take(&place.blob(&digest))?;
        }
    }
    if entries(&place.root().join("snapshots")).is_empty() {
        std::fs::remove_dir_all(place.root()).map_err(Error::disk("remove", place.root()))?;
    }
    Ok(freed)
}

/// What [`prune`] would take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prunable {
    /// Parts of pulls that ended early, and blobs that no commit has.
    pub files: Vec<PathBuf>,
    /// Commits that no branch or tag has any more.
    pub old: Vec<(RepoId, Commit)>,
}

/// Finds what nobody needs. What a running pull holds is not among it.
pub fn prunable(cache: &Path) -> Prunable {
    let mut found = Prunable::default();
    let repos = entries(cache);
    for repo in repos.iter().filter_map(|it| RepoId::of_folder_name(it)) {
        let place = RepoCache::new(cache, &repo);
        found.files.extend(parts(&place));
        found.files.extend(orphans(&place));
        for snapshot in read(cache, repo.clone()).snapshots {
            if snapshot.refs.is_empty() {
                found.old.push((repo.clone(), snapshot.commit));
            }
        }
    }
    found
}

/// Takes files away. Gives the bytes that became free.
///
/// # Errors
/// Those of the file system.
pub fn prune(files: &[PathBuf]) -> Result<u64> {
    files.iter().map(|it| take(it)).sum()
}

/// Our unfinished files whose lock nobody holds.
fn parts(place: &RepoCache) -> Vec<PathBuf> {
    let blobs = place.blobs();
    let is_free = |name: &&String| {
        name.strip_suffix(&format!(".{PART}"))
            .and_then(Digest::parse)
            .is_some_and(|it| File::open(place.lock(&it)).is_ok_and(|lock| lock.try_lock().is_ok()))
    };
    entries(&blobs).iter().filter(is_free).map(|it| blobs.join(it)).collect()
}

/// Blobs that no file of any commit leads to. Young ones may belong to a pull that has not made its
/// links yet.
fn orphans(place: &RepoCache) -> Vec<PathBuf> {
    let used = used(place);
    let is_old = |path: &PathBuf| {
        let changed = std::fs::symlink_metadata(path).and_then(|it| it.modified());
        changed.is_ok_and(|it| it.elapsed().is_ok_and(|it| it > YOUNG))
    };
    entries(&place.blobs())
        .iter()
        .filter(|it| !used.contains(OsStr::new(it)))
        .filter_map(|it| Digest::parse(it))
        .map(|it| place.blob(&it))
        .filter(is_old)
        .collect()
}

/// Names of the blobs that any commit's files lead to.
fn used(place: &RepoCache) -> BTreeSet<OsString> {
    let snapshots = place.root().join("snapshots");
    entries(&snapshots).iter().flat_map(|it| linked(&snapshots.join(it))).collect()
}

/// Names of the blobs that a commit's files lead to.
fn linked(snapshot: &Path) -> BTreeSet<OsString> {
    let target = |name: &SafeName| {
        let path = name.below(snapshot);
        std::fs::read_link(&path).unwrap_or(path).file_name().map(ToOwned::to_owned)
    };
    names_below(snapshot).iter().filter_map(target).collect()
}

fn take(path: &Path) -> Result<u64> {
    let bytes = std::fs::symlink_metadata(path).map_or(0, |it| it.len());
    delete(path)?;
    Ok(bytes)
}

fn delete(path: &Path) -> Result<()> {
    std::fs::remove_file(path).map_err(Error::disk("remove", path))
}

/// Names in a folder, in order; none where it does not exist.
fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|it| it.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}
