//! What was done to models is written down twice: in the audit log, for people who have to show it,
//! and in the library's database, for the program.

use minicrit_hub::{
    audit::{self, AuditLog},
    state::State,
};
use serde_json::Value;

use crate::{data_folder, env::Environment, errors::Failure, printer};

/// The audit log of this user.
///
/// # Errors
/// A user without a home folder.
pub fn audit_log(environment: &Environment) -> Result<AuditLog, Failure> {
    Ok(audit::of_folder(&folder(environment)?))
}

/// The library's database of this user.
///
/// # Errors
/// A user without a home folder; a database that can't be opened.
pub fn state(environment: &Environment) -> anyhow::Result<State> {
    Ok(State::open(&folder(environment)?)?)
}

/// The data folder.
///
/// # Errors
/// A user without a home folder.
pub fn folder(environment: &Environment) -> Result<std::path::PathBuf, Failure> {
    data_folder::path(environment).ok_or_else(|| {
        Failure::failed("no-data-folder", "this user has no home folder")
            .hint(format!("set {}", crate::env::HOME))
    })
}

/// Adds a line to the audit log.
///
/// # Errors
/// Those of the log. What may not happen unrecorded is recorded before it happens.
pub fn record(environment: &Environment, event: &str, fields: Value) -> anyhow::Result<()> {
    let fields = match fields {
        Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    };
    audit_log(environment)?.append(event, fields)?;
    Ok(())
}

/// Says that something could not be written down, where that is no reason to fail.
pub fn note_if_failed(outcome: anyhow::Result<()>) {
    if let Err(error) = outcome {
        printer::note(&format!("warning: not written down: {error:#}"));
    }
}
