//! `minicrit list`: models that are here, and models known by name.

use std::path::PathBuf;

use minicrit_engine::registry::Entry;
use minicrit_hub::{
    cache,
    reference::{DEFAULT_REVISION, Reference},
};
use serde_json::json;

use super::Status;
use crate::{catalog::Catalog, model, printer};

const ABSENT: &str = "not downloaded";

/// A model that is on this machine.
pub struct Here {
    /// What a user calls it.
    pub name: String,
    source: &'static str,
    repo: Option<String>,
    commit: Option<String>,
    bytes: Option<u64>,
    /// Where it lies, if it was pulled.
    pub path: Option<PathBuf>,
}

/// Prints the models that are here: built in, pulled by whomever, made by the user.
///
/// # Errors
/// A stream that is gone.
pub fn here(catalog: &Catalog, as_json: bool) -> anyhow::Result<Status> {
    let all = models_here(catalog);
    if as_json {
        let models: Vec<_> = all
            .iter()
            .map(|it| {
                json!({
                    "name": it.name, "available": true, "source": it.source, "repo": it.repo,
                    "commit": it.commit, "bytes": it.bytes, "path": it.path,
                })
            })
            .collect();
        printer::json(&json!({ "models": models }))?;
        return Ok(Status::Done);
    }
    let rows: Vec<_> = all
        .iter()
        .map(|it| {
            let commit = it.commit.as_deref().unwrap_or_default();
            [
                it.name.clone(),
                commit.chars().take(12).collect(),
                it.bytes.map_or_else(String::new, printer::bytes),
                it.source.to_owned(),
                it.repo.clone().unwrap_or_default(),
            ]
        })
        .collect();
    printer::data(&printer::table(["NAME", "COMMIT", "SIZE", "SOURCE", "FROM"], &rows))?;
    if all.len() == 1 {
        printer::note("hint: minicrit list --available shows models to pull");
    }
    Ok(Status::Done)
}

/// The models that are on this machine.
pub fn models_here(catalog: &Catalog) -> Vec<Here> {
    let none = Here {
        name: model::BUILTIN.into(),
        source: "built in",
        repo: None,
        commit: None,
        bytes: None,
        path: None,
    };
    let mut all = vec![none];
    for name in catalog.created_names() {
        // One that can't be read is shown by `show`, with what is wrong; it hides no other.
        let from = catalog.definition(&name).ok().flatten().map(|it| it.from);
        all.push(Here {
            name,
            source: "created",
            repo: from,
            commit: None,
            bytes: None,
            path: None,
        });
    }
    let folder = &catalog.hub().cache;
    for repo in cache::scan(folder) {
        let known = catalog.find(repo.repo.as_str()).map(|it| it.name.clone());
        for snapshot in repo.snapshots {
            let revision = snapshot.refs.first().map_or(snapshot.commit.as_str(), String::as_str);
            let Ok(reference) = Reference::new(repo.repo.as_str(), Some(revision)) else {
                continue;
            };
            let Some(found) = cache::find(folder, &reference) else { continue };
            let main = revision == DEFAULT_REVISION;
            all.push(Here {
                name: match &known {
                    Some(name) if main => name.clone(),
                    _ if main => repo.repo.to_string(),
                    _ => reference.to_string(),
                },
                source: "pulled",
                repo: Some(repo.repo.to_string()),
                commit: Some(snapshot.commit.to_string()),
                bytes: Some(snapshot.bytes),
                path: Some(found.path),
            });
        }
    }
    all
}

/// Prints the registry, and which of its models are on this machine.
///
/// # Errors
/// A stream that is gone.
pub fn available(catalog: &Catalog, as_json: bool) -> anyhow::Result<Status> {
    if as_json {
        let models: Vec<_> = catalog
            .entries()
            .iter()
            .map(|it| {
                json!({
                    "name": it.name,
                    "aliases": it.aliases,
                    "title": it.title,
                    "repo": it.repo,
                    "parameters": it.params,
                    "context_length": it.context,
                    "license": it.license,
                    "available": place(catalog, it) != ABSENT,
                })
            })
            .collect();
        printer::json(&json!({ "models": models }))?;
        return Ok(Status::Done);
    }
    let rows: Vec<_> = catalog
        .entries()
        .iter()
        .map(|it| {
            [
                it.name.clone(),
                it.params.map_or_else(String::new, count),
                it.context.map_or_else(String::new, |it| it.to_string()),
                it.license.clone(),
                place(catalog, it).into(),
                it.title.clone(),
            ]
        })
        .collect();
    let header = ["NAME", "PARAMETERS", "CONTEXT", "LICENSE", "WHERE", "TITLE"];
    printer::data(&printer::table(header, &rows))?;
    printer::note("hint: minicrit pull NAME fetches a model that is not downloaded");
    Ok(Status::Done)
}

/// Where a known model is.
fn place(catalog: &Catalog, entry: &Entry) -> &'static str {
    if entry.is_builtin() {
        return "built in";
    }
    let reference = Reference::new(&entry.repo, entry.revision.as_deref());
    match reference.ok().and_then(|it| cache::find(&catalog.hub().cache, &it)) {
        Some(_) => "here",
        None => ABSENT,
    }
}

/// Parameters as people say them: `494M`, `7.2B`.
pub fn count(parameters: u64) -> String {
    let value = parameters as f64;
    match parameters {
        0..1_000_000 => format!("{:.0}k", value / 1e3),
        1_000_000..10_000_000 => format!("{:.1}M", value / 1e6),
        10_000_000..1_000_000_000 => format!("{:.0}M", value / 1e6),
        _ => format!("{:.1}B", value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn parameters_are_short() {
        let shown = [4_123_456, 494_032_768, 7_241_732_096, 640].map(count);
        assert_eq!(shown, ["4.1M", "494M", "7.2B", "1k"]);
    }
}
