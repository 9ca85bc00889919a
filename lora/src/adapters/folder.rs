//! Folders of adapters: what lies in them, and how to remove one.

use std::path::{Path, PathBuf};

use crate::{
    LoraError, Result,
    peft::{self, AdapterConfig, CONFIG_FILE, TENSORS_FILE},
};

/// What an adapter's files say about it.
#[derive(Debug, Clone)]
pub struct AdapterSummary {
    /// Its folder.
    pub folder: PathBuf,
    /// Its settings.
    pub config: AdapterConfig,
    /// Names and shapes of its tensors.
    pub tensors: Vec<(String, Vec<usize>)>,
    /// Values in all tensors.
    pub num_parameters: u64,
    /// Bytes of its two files.
    pub bytes: u64,
}

/// What the adapter in `folder` is.
///
/// # Errors
/// `adapter-not-found`, `bad-adapter-config`, or a broken file of tensors.
pub fn summary(folder: &Path) -> Result<AdapterSummary> {
    let config = peft::read_config(folder)?;
    let stored = peft::stored_tensors(&folder.join(TENSORS_FILE))?;
    let bytes = [CONFIG_FILE, TENSORS_FILE]
        .iter()
        .filter_map(|it| Some(std::fs::metadata(folder.join(it)).ok()?.len()))
        .sum();
    let tensors: Vec<(String, Vec<usize>)> =
        stored.into_iter().map(|(name, it)| (name, it.shape)).collect();
    let num_parameters =
        tensors.iter().map(|(_, shape)| shape.iter().map(|it| *it as u64).product::<u64>()).sum();
    Ok(AdapterSummary { folder: folder.to_path_buf(), config, tensors, num_parameters, bytes })
}

/// The adapters in the folders of `parent`, by name; those that can't be read with the reason.
///
/// # Errors
/// A folder that can't be read. One that is absent holds nothing.
pub fn list(parent: &Path) -> Result<Vec<(PathBuf, Result<AdapterSummary>)>> {
    let entries = match std::fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(LoraError::file("read", parent, error)),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.map_err(|it| LoraError::file("read", parent, it))?.path();
        if path.join(CONFIG_FILE).is_file() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders.into_iter().map(|it| (it.clone(), summary(&it))).collect())
}

/// What stands in the folders of adapters that this program, PEFT and transformers write.
const KNOWN: [&str; 21] = [
    CONFIG_FILE,
    TENSORS_FILE,
    "README.md",
    "minicrit.json",
    "critic.json",
    "trainer_log.jsonl",
    "trainer_state.json",
    "training_loss.svg",
    "training_args.bin",
    "all_results.json",
    "train_results.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "best",
    ".gitattributes",
    ".gitignore",
];

/// That a folder holds an adapter and what belongs to it, and nothing else.
///
/// # Errors
/// `adapter-not-found`, or `foreign-files` with what is not an adapter's.
pub fn check_removable(folder: &Path) -> Result<()> {
    let failed = |error| LoraError::file("read", folder, error);
    if !folder.join(CONFIG_FILE).is_file() {
        return Err(LoraError::NoAdapter { path: folder.to_path_buf(), missing: CONFIG_FILE });
    }
    let mut foreign = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        let number = name.strip_prefix("checkpoint-");
        let checkpoint = number.is_some_and(|it| it.bytes().all(|it| it.is_ascii_digit()));
        let reference = name.starts_with("reference_") && name.ends_with(".bin");
        let part = name.ends_with(".part");
        let ours = match is_folder {
            true => checkpoint || part || name == "best",
            false => reference || part || KNOWN.contains(&name.as_str()),
        };
        if !ours {
            foreign.push(name);
        }
    }
    foreign.sort();
    match foreign.is_empty() {
        true => Ok(()),
        false => Err(LoraError::Foreign { path: folder.to_path_buf(), names: foreign }),
    }
}

/// Removes an adapter's folder with all that is in it, checkpoints too. A folder that holds no
/// adapter, or anything else beside it, is refused.
///
/// # Errors
/// Those of [`check_removable`], or what the file system says.
pub fn remove(folder: &Path) -> Result<()> {
    let failed = |error| LoraError::file("remove", folder, error);
    check_removable(folder)?;
    // The folder could be named through a link; then the link goes and its target stays.
    if std::fs::symlink_metadata(folder).map_err(failed)?.is_symlink() {
        return std::fs::remove_file(folder).map_err(failed);
    }
    // Without its config the folder is no adapter any more, even if the rest is interrupted.
    std::fs::remove_file(folder.join(CONFIG_FILE)).map_err(failed)?;
    std::fs::remove_dir_all(folder).map_err(failed)
}

/// Makes the folder `path` by `fill`, which gets an empty folder beside it: the whole folder
/// appears, or nothing.
///
/// # Errors
/// `file-exists` where there is something of that name; those of `fill` and the file system.
pub fn create<E: From<LoraError>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    if std::fs::symlink_metadata(path).is_ok() {
        return Err(LoraError::Exists { path: path.to_path_buf() }.into());
    }
    let failed = |error| LoraError::file("write", path, error);
    let name = path.file_name().ok_or_else(|| failed(std::io::ErrorKind::InvalidInput.into()))?;
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.part", std::process::id()));
    let part = parent.join(hidden);
    std::fs::create_dir(&part).map_err(failed)?;
    let done = fill(&part).and_then(|()| {
        sync(&part).map_err(failed)?;
        std::fs::rename(&part, path).map_err(failed)?;
        Ok(sync(parent).map_err(failed)?)
    });
    if done.is_err() {
        // The error that counts is already on its way.
        let _ = std::fs::remove_dir_all(&part);
    }
    done
}

/// Writes a file of a new folder.
///
/// # Errors
/// Those of the file system and of `fill`.
pub fn write_file(
    path: &Path,
    fill: impl FnOnce(&mut dyn std::io::Write) -> Result<()>,
) -> Result<()> {
    let failed = |error| LoraError::file("write", path, error);
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).map_err(failed)?);
    fill(&mut file)?;
    let file = file.into_inner().map_err(|it| failed(it.into_error()))?;
    file.sync_all().map_err(failed)
}

#[cfg(unix)]
fn sync(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}
