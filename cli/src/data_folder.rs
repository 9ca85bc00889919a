//! Where chats and history live: `MINICRIT_HOME`, or the system's folder for a user's data.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::{
    env::Environment,
    errors::{self, Failure},
};

/// The folder, whether it exists or not; `None` where the system has no home for this user.
pub fn path(environment: &Environment) -> Option<PathBuf> {
    if let Some(home) = &environment.home {
        return Some(home.clone());
    }
    etcetera::choose_base_strategy().ok().map(|it| it.data_dir().join("minicrit"))
}

/// The history of typed lines, or `None` where none is wanted or possible. Creates the folder, and
/// the file so that only its owner can read it.
pub fn history_file(environment: &Environment) -> Option<PathBuf> {
    if environment.no_history {
        return None;
    }
    let folder = path(environment)?;
    create_private(&folder).ok()?;
    let file = folder.join("history.txt");
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&file).ok()?;
    Some(file)
}

/// Where adapters are looked for by name.
///
/// # Errors
/// A user without a home folder.
pub fn adapters(environment: &Environment) -> Result<PathBuf, Failure> {
    let home = path(environment)
        .ok_or_else(|| Failure::failed("no-data-folder", "this user has no home folder"))?;
    Ok(home.join("adapters"))
}

/// The file of a saved chat: a path where `name` looks like one, else a file in the data folder.
///
/// # Errors
/// A name that is neither, or a folder that can't be made.
pub fn chat_file(environment: &Environment, name: &str) -> anyhow::Result<PathBuf> {
    if name.contains(['/', '\\']) || name.ends_with(".json") {
        return Ok(PathBuf::from(name));
    }
    let plain = |it: char| it.is_alphanumeric() || matches!(it, '-' | '_' | '.' | ' ');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        let message = format!("`{name}` can't be the name of a chat");
        return Err(Failure::usage("bad-name", message)
            .hint("use letters, digits, - and _, or a file name that ends in .json")
            .into());
    }
    let home = path(environment)
        .ok_or_else(|| Failure::failed("no-data-folder", "this user has no home folder"))?;
    let folder = home.join("chats");
    create_private(&folder).map_err(|error| errors::file("create", &folder, &error))?;
    Ok(folder.join(format!("{name}.json")))
}

fn create_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_name_never_leaves_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let environment =
            Environment { home: Some(dir.path().to_path_buf()), ..Environment::default() };
        let file = chat_file(&environment, "monday").unwrap();
        assert_eq!(file, dir.path().join("chats").join("monday.json"));
        for bad in ["", "..", ".hidden", "a\0b", "a\nb", "c:d"] {
            assert!(chat_file(&environment, bad).is_err(), "{bad:?}");
        }
        assert_eq!(chat_file(&environment, "./x.json").unwrap(), PathBuf::from("./x.json"));
    }

    #[test]
    fn no_history_means_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let home = Some(dir.path().to_path_buf());
        let silent = Environment { home: home.clone(), no_history: true, ..Environment::default() };
        assert_eq!(history_file(&silent), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let normal = Environment { home, ..Environment::default() };
        assert!(history_file(&normal).unwrap().is_file());
    }
}
