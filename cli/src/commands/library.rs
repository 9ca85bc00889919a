//! `minicrit create`, `cp` and `rm`: models of one's own, and taking models away.

use std::{io::Read, path::Path};

use minicrit_hub::{cache, modelfile::Definition};
use serde_json::json;

use super::Status;
use crate::{
    args::{CopyArgs, CreateArgs, RemoveArgs},
    catalog::Catalog,
    env::Environment,
    errors::{self, Failure},
    journal,
    model::{HubModel, ModelRef},
    printer,
};

/// The longest Modelfile.
const MOST_BYTES: u64 = 4 << 20;

/// Reads a Modelfile and keeps it under a name.
///
/// # Errors
/// Every problem of the file; a name that is taken.
pub fn create(
    args: &CreateArgs,
    catalog: &Catalog,
    environment: &Environment,
) -> anyhow::Result<Status> {
    let CreateArgs { name, file } = args;
    let mut definition = Definition::parse(&read(file)?)?;
    // Paths in a Modelfile are meant from where it lies, wherever the model is run.
    let folder = file.parent().filter(|_| file != Path::new("-"));
    let absolute = |text: &mut String| {
        let path = folder.map_or_else(|| Path::new(&*text).to_path_buf(), |it| it.join(&*text));
        if let Ok(path) = std::fs::canonicalize(path) {
            *text = path.display().to_string();
        }
    };
    absolute(&mut definition.from);
    definition.adapter.iter_mut().for_each(absolute);
    keep(name, &definition, catalog, environment)?;
    printer::note(&format!("hint: minicrit run {name}"));
    Ok(Status::Done)
}

/// Gives a model a further name.
///
/// # Errors
/// An unknown model; a name that is taken.
pub fn copy(
    args: &CopyArgs,
    catalog: &Catalog,
    environment: &Environment,
) -> anyhow::Result<Status> {
    let CopyArgs { source, name } = args;
    let definition = match ModelRef::parse(source, catalog)? {
        ModelRef::Created(model) => model.definition,
        ModelRef::Path(path) => {
            let path = std::fs::canonicalize(&path)
                .map_err(|error| errors::file("read", &path, &error))?;
            Definition { from: path.display().to_string(), ..Definition::default() }
        }
        model => Definition { from: model.label(), ..Definition::default() },
    };
    keep(name, &definition, catalog, environment)?;
    Ok(Status::Done)
}

fn keep(
    name: &str,
    definition: &Definition,
    catalog: &Catalog,
    environment: &Environment,
) -> anyhow::Result<()> {
    if catalog.find(name).is_some() {
        let message = format!("this name is taken by a model of models.toml: `{name}`");
        return Err(Failure::usage("name-taken", message).hint("choose another name").into());
    }
    if let ModelRef::Created(base) = ModelRef::parse(&definition.from, catalog)? {
        let message = format!("`{}` is made by `create` itself", base.name);
        return Err(Failure::usage("definition", message)
            .hint(format!("write FROM {}, or: minicrit cp {} {name}", base.base.label(), base.name))
            .into());
    }
    catalog.created()?.put(name, definition)?;
    journal::record(environment, "create", json!({ "name": name, "from": definition.from }))
}

fn read(file: &Path) -> anyhow::Result<String> {
    let failed = |error: std::io::Error| errors::file("read", file, &error);
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(MOST_BYTES).read_to_string(&mut text).map_err(failed)?;
    } else {
        std::fs::File::open(file)
            .map_err(failed)?
            .take(MOST_BYTES)
            .read_to_string(&mut text)
            .map_err(failed)?;
    }
    Ok(text)
}

/// Takes models away: definitions, and files of the cache.
///
/// # Errors
/// What is not here, or is not ours to remove.
pub fn remove(
    args: &RemoveArgs,
    catalog: &Catalog,
    environment: &Environment,
) -> anyhow::Result<Status> {
    let RemoveArgs { models, yes } = args;
    // All names are looked at before anything is gone. A definition need not be readable to go.
    let created = catalog.created_names();
    let (own, others): (Vec<&String>, Vec<&String>) =
        models.iter().partition(|it| created.contains(it));
    let parsed: Vec<ModelRef> =
        others.iter().map(|it| ModelRef::parse(it, catalog)).collect::<Result<_, _>>()?;
    for model in &parsed {
        match model {
            ModelRef::Hub(model) => check_removable(model, *yes, environment)?,
            ModelRef::Created(_) => {}
            ModelRef::Builtin | ModelRef::Path(_) => {
                let message = format!("this can't be removed: `{}`", model.label());
                return Err(Failure::usage("not-removable", message)
                    .hint("delete your own folders and files yourself; the built-in model stays")
                    .into());
            }
        }
    }
    for name in own {
        journal::record(environment, "delete", json!({ "name": name }))?;
        catalog.created()?.remove(name)?;
        printer::note(&format!("removed {name}"));
    }
    for model in &parsed {
        if let ModelRef::Hub(model) = model {
            remove_pulled(model, environment)?;
        }
    }
    Ok(Status::Done)
}

fn check_removable(model: &HubModel, yes: bool, environment: &Environment) -> anyhow::Result<()> {
    let Some(found) = model.found() else {
        return Err(crate::model::not_downloaded(model).into());
    };
    let repo = model.reference.repo.as_str();
    let ours = journal::state(environment)?.models()?;
    if yes || ours.iter().any(|it| it.repo == repo && it.commit == found.commit.as_str()) {
        return Ok(());
    }
    let message = format!("other programs may use these files: `{}`", model.label);
    Err(Failure::failed("not-ours", message)
        .hint(format!(
            "minicrit did not pull them; to remove them all the same: minicrit rm --yes {}",
            model.label
        ))
        .into())
}

fn remove_pulled(model: &HubModel, environment: &Environment) -> anyhow::Result<()> {
    let Some(found) = model.found() else { return Ok(()) };
    let (repo, commit) = (&model.reference.repo, &found.commit);
    let fields = json!({ "repo": repo.as_str(), "commit": commit.as_str() });
    journal::record(environment, "delete", fields)?;
    let freed = cache::remove(&model.hub.cache, repo, commit)?;
    journal::state(environment)?.forget_model(repo.as_str(), commit.as_str())?;
    printer::note(&format!("removed {}: {} are free again", model.label, printer::bytes(freed)));
    Ok(())
}
