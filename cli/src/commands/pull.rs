//! `minicrit pull`: a model from the hub to this disk.

use minicrit_hub::pull::{self, Listing};
use serde_json::{Value, json};

use super::Status;
use crate::{
    args::PullArgs,
    catalog::Catalog,
    env::Environment,
    errors::Failure,
    fetch,
    model::{HubModel, ModelRef},
    printer,
};

/// Fetches, and prints where it is.
///
/// # Errors
/// Those of the hub, the network and the disk.
pub fn pull(
    args: &PullArgs,
    catalog: &Catalog,
    environment: &Environment,
) -> anyhow::Result<Status> {
    let PullArgs { model, dry_run, json, quiet } = args;
    let model = match ModelRef::parse(model, catalog)? {
        ModelRef::Hub(model) => model,
        ModelRef::Builtin => {
            let message = "the built-in model is part of the program: `nano`";
            return Err(Failure::usage("nothing-to-pull", message)
                .hint("minicrit run nano")
                .into());
        }
        ModelRef::Path(path) => {
            let message = format!("this is a path, not a model of a hub: `{}`", path.display());
            return Err(Failure::usage("nothing-to-pull", message)
                .hint("write organization/name, or a name from: minicrit list")
                .into());
        }
    };
    if *dry_run {
        return show_plan(&model, *json);
    }
    let pulled = fetch::pull(&model, *quiet || *json, environment)?;
    if *json {
        let mut about = describe(&model, &pulled.listing);
        about["path"] = json!(pulled.path);
        about["received_bytes"] = json!(pulled.received);
        printer::json(&about)?;
    } else {
        printer::data(&pulled.path.display().to_string())?;
        if !quiet {
            printer::note(&format!("hint: minicrit run {}", model.label));
        }
    }
    Ok(Status::Done)
}

fn show_plan(model: &HubModel, as_json: bool) -> anyhow::Result<Status> {
    let listing = pull::list(&model.hub, &model.reference)?;
    let missing = pull::missing_bytes(&model.hub, &model.reference, &listing);
    if as_json {
        let mut about = describe(model, &listing);
        about["missing_bytes"] = json!(missing);
        printer::json(&about)?;
        return Ok(Status::Done);
    }
    let rows: Vec<_> = listing
        .files
        .iter()
        .map(|it| [it.name.to_string(), printer::bytes(it.size), it.digest.to_string()])
        .collect();
    printer::data(&printer::table(["FILE", "SIZE", "DIGEST"], &rows))?;
    let (files, total) = (listing.files.len(), total(&listing));
    printer::note(&format!(
        "{files} files of {}, {} of which are not here",
        printer::bytes(total),
        printer::bytes(missing)
    ));
    Ok(Status::Done)
}

fn describe(model: &HubModel, listing: &Listing) -> Value {
    let files: Vec<_> = listing
        .files
        .iter()
        .map(|it| json!({ "name": it.name.as_str(), "bytes": it.size, "digest": it.digest.as_str() }))
        .collect();
    json!({
        "model": model.label,
        "repo": model.reference.repo.as_str(),
        "revision": model.reference.revision(),
        "commit": listing.commit.as_str(),
        "bytes": total(listing),
        "files": files,
    })
}

fn total(listing: &Listing) -> u64 {
    listing.files.iter().map(|it| it.size).sum()
}
