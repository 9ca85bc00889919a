//! Running other programs, and finding the repository.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// The folder that holds the workspace: the parent of this crate's own.
pub fn repository_root() -> Result<PathBuf> {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir
        .parent()
        .map(Path::to_path_buf)
        .with_context(|| format!("`{}` has no parent folder", crate_dir.display()))
}

/// The cargo that runs this task, so that a chosen toolchain stays chosen.
pub fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// Runs a command whose output goes to the terminal.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("can't start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs a command and returns its standard output; its standard error goes to the terminal.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("can't start {}", shown(command)))?;
    if !output.status.success() {
        bail!("{} ended with {}", shown(command), output.status);
    }
    Ok(output.stdout)
}

/// A command as one would type it.
pub fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|it| it.to_string_lossy().into_owned()));
    format!("`{}`", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_names_itself() {
        let error =
            run(Command::new(cargo()).arg("no-such-subcommand-of-cargo").env("RUST_LOG", ""))
                .expect_err("cargo refuses it");
        assert!(error.to_string().contains("no-such-subcommand-of-cargo"), "{error}");
    }

    #[test]
    fn the_root_holds_the_workspace() {
        let root = repository_root().expect("a root");
        assert!(root.join("Cargo.lock").is_file(), "{}", root.display());
    }
}
