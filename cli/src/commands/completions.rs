//! `minicrit completions`: a shell's completion script.

use super::Status;
use crate::{args, printer};

/// Prints the script.
///
/// # Errors
/// A stream that is gone.
pub fn completions(shell: clap_complete::Shell) -> anyhow::Result<Status> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "minicrit", &mut script);
    printer::data(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Status::Done)
}
