//! `minicrit verify`, `cache`, `audit` and `config`: looking after what is kept.

use minicrit_hub::{
    cache::{self, Health},
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

/// Takes away what nobody needs.
///
/// # Errors
/// Those of the file system.
pub fn cache(
    command: &CacheCommand,
    catalog: &Catalog,
    environment: &Environment,
) -> anyhow::Result<Status> {
    let CacheCommand::Prune { old, dry_run, json } = command;
    let folder = &catalog.hub().cache;
    let mut found = cache::prunable(folder);
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
