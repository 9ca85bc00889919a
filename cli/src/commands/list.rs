//! `minicrit list`: models known by name.

use minicrit_engine::registry::Entry;
use minicrit_hub::{cache, reference::Reference};
use serde_json::json;

use super::Status;
use crate::{catalog::Catalog, printer};

const ABSENT: &str = "not downloaded";

/// Prints the registry, and which of its models are on this machine.
///
/// # Errors
/// A stream that is gone.
pub fn list(catalog: &Catalog, as_json: bool) -> anyhow::Result<Status> {
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
