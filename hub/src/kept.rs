//! Rounded models that are kept for the next start: packed files, each named by a key of its source's
//! content and of its form.
//!
//! A file appears whole or not at all, and one process at a time writes it. Whoever reads it checks
//! every byte against the hashes inside. Files of a hub are known by their digests; others by place,
//! size and times, because hashing them would take as long as what is saved. So a file that changed
//! a moment ago, and could change again within the same tick of the clock, has no key yet.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use minicrit_engine::{
    export::{self, ExportError},
    recipe::{Mix, Recipe},
    source::{self, Kept, ModelFiles},
};

use crate::{
    Error, Result,
    atomic_file::{self, Readers},
    name::Digest,
    pull::room,
};

/// Another rounding, or another layout, makes other files.
const ROUNDING: &str = concat!("1 ", env!("CARGO_PKG_VERSION"));
const SUFFIX: &str = ".minicrit";
/// The coarsest clock of a file system in use has ticks of this length.
const TICK: Duration = Duration::from_millis(20);

/// The folder of kept files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptModels {
    folder: PathBuf,
}

/// What a kept file is looked up by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    hash: String,
    source: PathBuf,
    mix: Mix,
}

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// What it stands for; `None` for a part of one, or something unreadable.
    pub about: Option<Kept>,
    /// Whether a start would use it: its source is there and has not changed.
    pub current: bool,
}

impl Key {
    /// The key of the model at `source` (a folder or a GGUF file) rounded to `mix`. `None` where its
    /// files can't be told apart from what they may be in a moment.
    pub fn of(source: &Path, mix: Mix) -> Option<Self> {
        let source = std::fs::canonicalize(source).ok()?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{ROUNDING} {}\n", mix.name()).as_bytes());
        if source.is_dir() {
            let mut names: Vec<PathBuf> =
                std::fs::read_dir(&source).ok()?.flatten().map(|it| it.path()).collect();
            names.sort();
            for path in names.iter().filter(|it| is_of_model(it)) {
                hasher.update(identity(path)?.as_bytes());
            }
        } else {
            hasher.update(identity(&source)?.as_bytes());
        }
        Some(Self { hash: hasher.finalize().to_hex().to_string(), source, mix })
    }
}

/// Whether a file of a model's folder may be part of the model.
fn is_of_model(path: &Path) -> bool {
    let known = ["json", "safetensors", "jinja"];
    path.is_file() && path.extension().is_some_and(|it| known.iter().any(|known| it == *known))
}

/// A line that is another one when the file is another one.
fn identity(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    let name = path.file_name()?.to_string_lossy().into_owned();
    let target = std::fs::canonicalize(path).ok()?;
    let size = metadata.len();
    let digest = target.file_name().and_then(|it| Digest::parse(it.to_str()?));
    // The hub's own files lie under their digest; their bytes were checked against it.
    if let Some(digest) = digest.filter(|_| target.parent().is_some_and(|it| it.ends_with("blobs")))
    {
        return Some(format!("{name:?} {size} {digest}\n"));
    }
    let changed = last_change(&metadata)?;
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + changed).ok()?;
    (age > TICK)
        .then(|| format!("{name:?} {size} {target:?} {changed:?} {:?}\n", number(&metadata)))
}

/// When the file's content or name last changed, since 1970. On Unix not even its owner can set that
/// time back.
fn last_change(metadata: &Metadata) -> Option<Duration> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let seconds = u64::try_from(metadata.ctime()).ok()?;
        Some(Duration::new(seconds, u32::try_from(metadata.ctime_nsec()).ok()?))
    }
    #[cfg(not(unix))]
    metadata.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()
}

fn number(metadata: &Metadata) -> (u64, u64) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (metadata.dev(), metadata.ino())
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        (0, 0)
    }
}

impl KeptModels {
    /// The files in `folder`, which need not exist.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(format!("{}{SUFFIX}", key.hash))
    }

    /// The kept file, if there is one.
    pub fn find(&self, key: &Key) -> Option<PathBuf> {
        Some(self.path(key)).filter(|it| it.is_file())
    }

    /// Rounds `files` tensor by tensor into a kept file. `rounded`: the bytes that it will have,
    /// nearly. Where another process does so already, waits for it.
    ///
    /// # Errors
    /// [`Error::Model`] for weights that can't be rounded; `no-space`, `disk`.
    pub fn write(&self, key: &Key, files: &ModelFiles, rounded: u64) -> Result<PathBuf> {
        let folder = &self.folder;
        std::fs::create_dir_all(folder).map_err(Error::disk("create", folder))?;
        let path = self.path(key);
        let lock = folder.join(format!("{}.lock", key.hash));
        let held = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock)
            .map_err(Error::disk("open", &lock))?;
        match held.lock() {
            // A network file system without locks: files are renamed into place all the same.
            Err(error) if error.kind() != io::ErrorKind::Unsupported => {
                return Err(Error::disk("lock", &lock)(error));
            }
            _ => {}
        }
        if path.is_file() {
            return Ok(path);
        }
        self.remove_parts(&key.hash);
        room::check(folder, rounded)?;
        let kept = Kept {
            key: key.hash.clone(),
            source: key.source.display().to_string(),
            format: key.mix.name().to_owned(),
        };
        let recipe = Recipe::new(key.mix);
        let written = atomic_file::write::<Failure>(&path, Readers::Umask, |file| {
            let mut out = Unread(file, 0);
            Ok(export::write_kept(files, &recipe, kept, &mut out)?)
        });
        match written {
            Ok(()) => Ok(path),
            Err(Failure::Disk(error)) => Err(Error::disk("write", &path)(error)),
            Err(Failure::Model(error)) => Err(Error::Model(Box::new(error))),
        }
    }

    /// Takes a file away that turned out to be damaged.
    pub fn discard(&self, path: &Path) {
        // One that can't be removed is found damaged again, and said so again.
        let _ = std::fs::remove_file(path);
    }

    /// All files of the folder.
    pub fn scan(&self) -> Vec<KeptFile> {
        let mut found: Vec<KeptFile> = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|it| it.path())
            .filter(|it| it.is_file())
            .filter_map(|path| {
                let name = path.file_name()?.to_str()?.to_owned();
                let stem = name.strip_suffix(SUFFIX);
                // Locks are empty, and stay: who waits for one has it open.
                if stem.is_none() && !name.ends_with(".part") {
                    return None;
                }
                let about = stem.and_then(|_| source::kept(&path));
                let is_current = |it: &Kept| {
                    let key = Key::of(Path::new(&it.source), Mix::named(&it.format)?)?;
                    Some(Some(key.hash.as_str()) == stem && it.key == key.hash)
                };
                let current = about.as_ref().and_then(is_current).unwrap_or(false);
                let bytes = std::fs::metadata(&path).map_or(0, |it| it.len());
                Some(KeptFile { path, bytes, about, current })
            })
            .collect();
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    /// What no start will use: files whose source is gone or has changed, and parts that nobody
    /// writes any more.
    pub fn prunable(&self) -> Vec<PathBuf> {
        self.scan()
            .into_iter()
            .filter(|it| !it.current && !self.is_being_written(&it.path))
            .map(|it| it.path)
            .collect()
    }

    fn is_being_written(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        let hash = name.trim_start_matches('.').split('.').next().unwrap_or_default();
        let lock = self.folder.join(format!("{hash}.lock"));
        let opened = OpenOptions::new().write(true).open(lock);
        opened.is_ok_and(|it| matches!(it.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
    }

    /// Takes parts of this file away that a killed process left. Its lock is held.
    fn remove_parts(&self, hash: &str) {
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|it| it.starts_with(&format!(".{hash}"))) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// A file whose bytes nobody reads soon: it is told to the disk as it grows, so that the end is
/// not one long wait.
struct Unread<'a>(&'a mut io::BufWriter<File>, usize);

impl Write for Unread<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        const AT_ONCE: usize = 64 << 20;
        let count = self.0.write(bytes)?;
        self.1 += count;
        if self.1 >= AT_ONCE {
            self.1 = 0;
            self.0.flush()?;
            self.0.get_ref().sync_data()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

enum Failure {
    Disk(io::Error),
    Model(minicrit_engine::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<minicrit_engine::Error> for Failure {
    fn from(error: minicrit_engine::Error) -> Self {
        match error {
            minicrit_engine::Error::Export(ExportError::Write(error)) => Self::Disk(error),
            other => Self::Model(other),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use minicrit_quant::PackedKind;

    use super::*;

    fn model() -> PathBuf {
        minicrit_testkit::fixtures_dir().join("qwen2")
    }

    fn key(kind: PackedKind) -> Key {
        Key::of(&model(), kind.into()).unwrap()
    }

    #[test]
    fn a_kept_file_is_found_shown_and_outlives_only_its_source() {
        let dir = tempfile::tempdir().unwrap();
        let kept = KeptModels::new(&dir.path().join("packed"));
        assert_eq!((kept.find(&key(PackedKind::Q4)), kept.scan()), (None, Vec::new()));
        let files = ModelFiles::open(&model()).unwrap();
        let path = kept.write(&key(PackedKind::Q4), &files, 1).unwrap();
        assert_eq!(kept.find(&key(PackedKind::Q4)), Some(path.clone()));
        assert_eq!(kept.find(&key(PackedKind::Q8)), None);
        // Ours, a part of it that a kill left, and one of a source that is gone.
        let hash = key(PackedKind::Q4).hash;
        let part = path.with_file_name(format!(".{hash}{SUFFIX}.77-0.part"));
        std::fs::write(&part, "half").unwrap();
        let gone = Key { source: "/nowhere".into(), hash: "00".into(), mix: PackedKind::Q8.into() };
        let gone = kept.write(&gone, &files, 1).unwrap();
        let all = kept.scan();
        assert_eq!(all.len(), 3);
        let ours = all.iter().find(|it| it.path == path).unwrap();
        assert!(ours.current && ours.about.as_ref().unwrap().format == "q4");
        let mut prunable = kept.prunable();
        prunable.sort();
        assert_eq!(prunable, [part.clone(), gone]);
        // The next writer clears what a kill left of this file.
        std::fs::remove_file(&path).unwrap();
        kept.write(&key(PackedKind::Q4), &files, 1).unwrap();
        assert!(!part.exists());
        assert!(kept.write(&key(PackedKind::Q8), &files, u64::MAX / 2).is_err(), "no room");
    }

    #[test]
    fn a_changed_file_has_another_key() {
        let dir = tempfile::tempdir().unwrap();
        let copy = |name: &str| std::fs::copy(model().join(name), dir.path().join(name)).unwrap();
        copy("config.json");
        copy("model.safetensors");
        let key = || loop {
            // A file that was written this instant has none.
            if let Some(key) = Key::of(dir.path(), PackedKind::Q4.into()) {
                break key;
            }
            std::thread::yield_now();
        };
        let first = key();
        assert_eq!(key(), first);
        copy("model.safetensors");
        let second = key();
        assert_ne!(second, first, "the same bytes, written again");
        std::fs::write(dir.path().join("notes.txt"), "no part of it").unwrap();
        assert_eq!(key(), second);
        copy("tokenizer.json");
        assert_ne!(key(), second);
    }
}
