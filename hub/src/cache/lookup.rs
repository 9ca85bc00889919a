//! Whether a model is on this machine, whole, and where. Nothing here connects to anything.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::RepoCache;
use crate::{
    name::{Commit, SafeName},
    pull::select,
    reference::Reference,
};

/// A model that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What to open: the folder of the snapshot, or its GGUF file.
    pub path: PathBuf,
    /// The commit it belongs to.
    pub commit: Commit,
}

/// The model, if all its files are in the cache.
pub fn find(cache: &Path, reference: &Reference) -> Option<Found> {
    let repo = RepoCache::new(cache, &reference.repo);
    let commit = repo.commit_of(reference.revision())?;
    let snapshot = repo.snapshot(&commit);
    let names = names_below(&snapshot);
    let names: Vec<&str> = names.iter().map(SafeName::as_str).collect();
    let whole_folder = reference.gguf.is_none() && is_whole(&snapshot, &names);
    if whole_folder {
        return Some(Found { path: snapshot, commit });
    }
    let gguf = select::gguf(&reference.repo, &names, reference.gguf.as_deref()).ok()?;
    let path = SafeName::parse(gguf).ok()?.below(&snapshot);
    Some(Found { path, commit })
}

/// Whether a snapshot has a config and every file of weights that belongs to it, or is an adapter.
fn is_whole(snapshot: &Path, names: &[&str]) -> bool {
    let has = |name: &str| names.contains(&name);
    if has("adapter_config.json") && has("adapter_model.safetensors") {
        return true;
    }
    let weights = has("model.safetensors")
        || shards(&snapshot.join("model.safetensors.index.json"))
            .is_some_and(|it| it.iter().all(|shard| has(shard)));
    // A pull links config.json last, so the other files that it wanted are here as well.
    has("config.json") && weights
}

/// Files that an index of weights names.
fn shards(index: &Path) -> Option<BTreeSet<String>> {
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(index).ok()?).ok()?;
    let map = index.get("weight_map")?.as_object()?;
    let shards: BTreeSet<String> =
        map.values().filter_map(|it| it.as_str().map(str::to_owned)).collect();
    (!shards.is_empty()).then_some(shards)
}

/// Files below a snapshot whose bytes are there; links to nothing are left out.
pub(super) fn names_below(snapshot: &Path) -> Vec<SafeName> {
    let mut names = Vec::new();
    let mut folders = vec![(snapshot.to_path_buf(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let name = format!("{prefix}{name}");
            let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
            if metadata.is_dir() && depth < 8 && entry.file_type().is_ok_and(|it| it.is_dir()) {
                folders.push((entry.path(), format!("{name}/"), depth + 1));
            } else if metadata.is_file() {
                names.extend(SafeName::parse(&name));
            }
        }
    }
    names.sort();
    names
}
