//! `minicrit verify`, `cache`, `audit` and `config`: looking after what is kept.

use std::path::Path;

use minicrit_hub::{
    cache::{self, Health},
    kept::{KeptFile, KeptModels},
    name::{Commit, RepoId},
};
use serde_json::{Value, json};

use super::Status;
use crate::{
    args::{AuditCommand, CacheCommand, ConfigCommand, VerifyArgs},
    catalog::Catalog,
    config::Setting,
    env::Environment,
    errors::Failure,
    journal,
    model::{self, ModelRef},
    printer,
};

/// Hashes the files of pulled models again; fails where one is wrong.
///
/// # Errors
/// A model that is not here; files that can't be read.
pub fn verify(args: &VerifyArgs, catalog: &Catalog) -> anyhow::Result<Status> {
    let VerifyArgs { model, discard, json } = args;
    let folder = &catalog.hub().cache;
    let mut wrong = 0;
    let mut rows = Vec::new();
    for (repo, commit) in to_verify(model.as_deref(), catalog)? {
        let _progress = printer::Progress::start(format!("hashing {repo}"));
        for (name, health) in cache::verify(folder, &repo, &commit)? {
            let (word, found) = match &health {
                Health::Good => ("good", None),
                Health::Unnamed => ("unknown", None),
                Health::Wrong { found } => ("wrong", Some(found.to_string())),
            };
            if found.is_some() {
                wrong += 1;
                if *discard {
                    cache::discard(folder, &repo, &commit, &name)?;
                }
            }
            rows.push((repo.to_string(), name.to_string(), word, found));
        }
    }
    if *json {
        let files: Vec<Value> = rows
            .iter()
            .map(|(repo, name, word, found)| {
                json!({ "repo": repo, "file": name, "state": word, "found": found })
            })
            .collect();
        printer::json(&json!({ "files": files, "wrong": wrong }))?;
    } else {
        let rows: Vec<_> = rows.into_iter().map(|it| [it.0, it.1, it.2.to_owned()]).collect();
        printer::data(&printer::table(["MODEL", "FILE", "STATE"], &rows))?;
        if wrong > 0 && !discard {
            printer::note("hint: minicrit verify --discard, then minicrit pull MODEL");
        }
    }
    Ok(if wrong > 0 { Status::Failed } else { Status::Done })
}

fn to_verify(name: Option<&str>, catalog: &Catalog) -> anyhow::Result<Vec<(RepoId, Commit)>> {
    let Some(name) = name else {
        let all = cache::scan(&catalog.hub().cache).into_iter().flat_map(|it| {
            let repo = it.repo;
            it.snapshots.into_iter().map(move |snapshot| (repo.clone(), snapshot.commit))
        });
        return Ok(all.collect());
    };
    match ModelRef::parse(name, catalog)? {
        ModelRef::Hub(model) => match model.found() {
            Some(found) => Ok(vec![(model.reference.repo.clone(), found.commit)]),
            None => Err(model::not_downloaded(&model).into()),
        },
        other => {
            let message = format!("only models of a hub have digests: `{}`", other.label());
            Err(Failure::usage("nothing-to-verify", message).hint("minicrit verify").into())
        }
    }
}

/// Lists what lies in the caches, or takes away what nobody needs.
///
/// # Errors
/// Those of the file system.
pub fn cache(
    command: &CacheCommand,
    catalog: &Catalog,
    environment: &Environment,
) -> anyhow::Result<Status> {
    let folder = &catalog.hub().cache;
    let kept = environment.kept_folder_of_any().map(|it| KeptModels::new(&it));
    let (quant, old, dry_run, json) = match command {
        CacheCommand::List { json } => return list_caches(folder, kept.as_ref(), *json),
        CacheCommand::Prune { quant, old, dry_run, json } => (quant, old, dry_run, json),
    };
    let mut found = cache::prunable(folder);
    found.files.extend(kept.iter().flat_map(|it| match quant {
        true => it.scan().into_iter().map(|it| it.path).collect(),
        false => it.prunable(),
    }));
    if !old {
        found.old.clear();
    }
    let mut freed = 0;
    if !dry_run {
        freed += cache::prune(&found.files)?;
        for (repo, commit) in &found.old {
            let fields = json!({ "repo": repo.as_str(), "commit": commit.as_str() });
            journal::record(environment, "delete", fields)?;
            freed += cache::remove(folder, repo, commit)?;
        }
    }
    if *json {
        let old: Vec<_> = found.old.iter().map(|it| format!("{}@{}", it.0, it.1)).collect();
        printer::json(&json!({ "files": found.files, "old": old, "freed_bytes": freed }))?;
        return Ok(Status::Done);
    }
    for file in &found.files {
        printer::data(&printer::clean(&file.display().to_string()))?;
    }
    for (repo, commit) in &found.old {
        printer::data(&format!("{repo}@{commit}"))?;
    }
    match dry_run {
        true => printer::note("nothing was removed (--dry-run)"),
        false => printer::note(&format!("{} are free again", printer::bytes(freed))),
    }
    Ok(Status::Done)
}

fn list_caches(folder: &Path, kept: Option<&KeptModels>, as_json: bool) -> anyhow::Result<Status> {
    let pulled = cache::scan(folder);
    let kept: Vec<KeptFile> = kept.map(KeptModels::scan).unwrap_or_default();
    let source = |it: &KeptFile| it.about.as_ref().map(|it| it.source.clone());
    let format = |it: &KeptFile| it.about.as_ref().map(|it| it.format.clone());
    let bytes = pulled.iter().map(|it| it.bytes).chain(kept.iter().map(|it| it.bytes)).sum();
    if as_json {
        let models: Vec<Value> = pulled
            .iter()
            .map(|it| json!({ "repo": it.repo.as_str(), "bytes": it.bytes }))
            .collect();
        let kept: Vec<Value> = kept
            .iter()
            .map(|it| {
                json!({
                    "path": it.path, "source": source(it), "format": format(it),
                    "bytes": it.bytes, "current": it.current,
                })
            })
            .collect();
        printer::json(&json!({ "models": models, "rounded": kept, "bytes": bytes }))?;
        return Ok(Status::Done);
    }
    let models = pulled
        .iter()
        .map(|it| [it.repo.to_string(), "pulled".to_owned(), printer::bytes(it.bytes)]);
    let rounded = kept.iter().map(|it| {
        let what = match (format(it), it.current) {
            (Some(format), true) => format,
            (Some(format), false) => format!("{format}, stale"),
            (None, _) => "unfinished".to_owned(),
        };
        let name = source(it).unwrap_or_else(|| it.path.display().to_string());
        [printer::clean(&name), what, printer::bytes(it.bytes)]
    });
    let rows: Vec<_> = models.chain(rounded).collect();
    printer::data(&printer::table(["MODEL", "WHAT", "SIZE"], &rows))?;
    printer::note(&format!("{} in all", printer::bytes(bytes)));
    Ok(Status::Done)
}

/// Checks or prints the audit log.
///
/// # Errors
/// `audit-broken`, with the line.
pub fn audit(command: &AuditCommand, environment: &Environment) -> anyhow::Result<Status> {
    let log = journal::audit_log(environment)?;
    match command {
        AuditCommand::Verify { json } => {
            let verified = log.verify()?;
            if *json {
                let (records, hash) = (verified.records, verified.last_hash);
                printer::json(&json!({ "records": records, "last_hash": hash }))?;
            } else {
                printer::data(&format!("{} records hold", verified.records))?;
                printer::note(&format!("last hash {}", verified.last_hash));
            }
        }
        AuditCommand::Show { json } => {
            let records = log.records()?;
            if *json {
                records.iter().try_for_each(printer::json)?;
                return Ok(Status::Done);
            }
            let rows: Vec<_> = records
                .into_iter()
                .map(|it| {
                    [it.seq.to_string(), it.time, it.event, Value::Object(it.fields).to_string()]
                })
                .collect();
            printer::data(&printer::table(["LINE", "TIME", "EVENT", "FIELDS"], &rows))?;
        }
    }
    Ok(Status::Done)
}

/// Prints the settings that hold.
///
/// # Errors
/// A stream that is gone.
pub fn config(command: &ConfigCommand, settings: &[Setting]) -> anyhow::Result<Status> {
    let ConfigCommand::Show { origin, json } = command;
    if *json {
        let all: serde_json::Map<_, _> = settings
            .iter()
            .map(|it| {
                let about = json!({ "value": it.value, "origin": it.origin.describe() });
                (it.key.to_owned(), about)
            })
            .collect();
        printer::json(&all)?;
        return Ok(Status::Done);
    }
    let cell = |it: &Setting| if *origin { it.origin.describe() } else { String::new() };
    let rows: Vec<_> =
        settings.iter().map(|it| [it.key.to_owned(), it.value.clone(), cell(it)]).collect();
    let last = if *origin { "ORIGIN" } else { "" };
    printer::data(&printer::table(["SETTING", "VALUE", last], &rows))?;
    Ok(Status::Done)
}
