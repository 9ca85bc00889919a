//! Reads and checks a packed file: weights in this program's own int8 and int4, and everything else
//! that it takes to run the model.
//!
//! Tensors are views of the mapped file. Hash and scales of packed ones are checked when they are
//! loaded, because that reads them; all else is checked here, before anything is used.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::Path,
};

use minicrit_quant::{Bytes, Format, PackedHeader, PackedKind};
use serde_json::Value;

use super::{
    ModelFiles, Result, SourceError, StoredPacked, StoredTensor,
    error::{Problems, map_file, quoted, unreadable},
    json,
    packed_index::{
        ALIGNMENT, CHAT_TEMPLATE, CONFIG, END_BYTES, GENERATION_CONFIG, Index, Kept, MAGIC, PAGE,
        TOKENIZER, TOKENIZER_CONFIG, TensorEntry, VERSION,
    },
};

/// Longest index; real ones have a tenth of a megabyte.
const INDEX_LIMIT: usize = 64 << 20;
/// Most tensors of a file.
const MOST_TENSORS: usize = 100_000;
const NAME_LIMIT: usize = 512;

/// Whether the file at `path` says that it is a packed one.
pub(super) fn is_packed(path: &Path) -> bool {
    let mut start = [0; 8];
    File::open(path).and_then(|mut it| it.read_exact(&mut start)).is_ok() && start == *MAGIC
}

/// What the file at `path` is kept for: its index alone is read. `None` where it is no whole packed
/// file, or one that was not kept.
pub fn kept(path: &Path) -> Option<Kept> {
    let bytes = map_file(path).ok()?;
    let (_, index) = split(&path.display().to_string(), &bytes).ok()?;
    serde_json::from_slice::<Index>(&index).ok()?.kept
}

/// Maps and checks a file.
pub(super) fn open(path: &Path) -> Result<ModelFiles> {
    let io = |source| unreadable(path, source);
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(io(std::io::Error::other("not a regular file")));
    }
    parse(&path.display().to_string(), map_file(path)?)
}

/// Checks a file in memory; `origin` is what errors call it.
pub(super) fn parse(origin: &str, bytes: Bytes) -> Result<ModelFiles> {
    let bad =
        |problem: String| SourceError::BadPacked { file: origin.into(), problems: problem.into() };
    let (data_end, index) = split(origin, &bytes)?;
    let index: Index = serde_json::from_slice(&index)
        .map_err(|error| bad(format!("its index is not usable: {error}")))?;
    let mut reader = Reader {
        bytes: &bytes,
        data_end,
        spans: Vec::new(),
        names: BTreeSet::new(),
        problems: Problems::default(),
    };
    if index.tensors.len() + index.files.len() > MOST_TENSORS {
        return Err(bad(format!("it has more than {MOST_TENSORS} tensors")));
    }
    let (mut tensors, mut packed) = (BTreeMap::new(), BTreeMap::new());
    let mut hashed = Vec::new();
    for entry in &index.tensors {
        match reader.tensor(entry) {
            Some(Found::Stored(it)) => {
                hashed.push((&entry.name, it.bytes.clone(), &entry.hash));
                tensors.insert(entry.name.clone(), it);
            }
            Some(Found::Packed(it)) => drop(packed.insert(entry.name.clone(), it)),
            None => {}
        }
    }
    let mut files = BTreeMap::new();
    for entry in &index.files {
        if let Some(bytes) = reader.span(&entry.name, entry.offset, entry.length, ALIGNMENT) {
            hashed.push((&entry.name, bytes.clone(), &entry.hash));
            files.insert(entry.name.as_str(), bytes);
        }
    }
    reader.check_spans();
    reader.check_hashes(&hashed);
    let known = [CONFIG, TOKENIZER, TOKENIZER_CONFIG, GENERATION_CONFIG, CHAT_TEMPLATE];
    for name in files.keys().filter(|it| !known.contains(it)) {
        reader.problems.push(format!("file {} has no use", quoted(name)));
    }
    if !files.contains_key(CONFIG) {
        reader.problems.push(format!("{CONFIG} is missing"));
    }
    if !reader.problems.is_empty() {
        return Err(SourceError::BadPacked { file: origin.into(), problems: reader.problems });
    }
    let object = |name: &str| {
        files.get(name).map(|it| json::parse_object(&format!("{origin}/{name}"), it)).transpose()
    };
    let template = files.get(CHAT_TEMPLATE).map(|it| String::from_utf8(it.to_vec())).transpose();
    Ok(ModelFiles {
        origin: origin.to_owned(),
        config: object(CONFIG)?.unwrap_or(Value::Null),
        tensors,
        packed,
        tokenizer: files.get(TOKENIZER).map(|it| it.to_vec()),
        tokenizer_config: object(TOKENIZER_CONFIG)?,
        generation_config: object(GENERATION_CONFIG)?,
        chat_template: template.map_err(|_| bad(format!("{CHAT_TEMPLATE} is not UTF-8")))?,
    })
}

/// Where the data ends, and the index.
fn split(origin: &str, bytes: &Bytes) -> Result<(usize, Bytes)> {
    let bad =
        |problem: String| SourceError::BadPacked { file: origin.into(), problems: problem.into() };
    let cut = || bad(format!("it ends too early ({} bytes)", bytes.len()));
    let head = bytes.slice(0..END_BYTES).ok_or_else(cut)?;
    if !head.starts_with(MAGIC) {
        return Err(bad("it does not start with `MINICRIT`".into()));
    }
    let number =
        |bytes: &[u8]| bytes.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    if number(&head[8..12]) != u64::from(VERSION) {
        let found = format!("version {}", number(&head[8..12]));
        return Err(SourceError::PackedVersion { file: origin.into(), found });
    }
    let end = bytes.len().checked_sub(END_BYTES).filter(|it| *it >= END_BYTES).ok_or_else(cut)?;
    let trailer = bytes.slice(end..bytes.len()).ok_or_else(cut)?;
    let is_trailer = trailer.ends_with(MAGIC) && number(&trailer[48..52]) == u64::from(VERSION);
    if !is_trailer || head[12..].iter().chain(&trailer[52..56]).any(|it| *it != 0) {
        return Err(cut());
    }
    let offset = usize::try_from(number(&trailer[..8])).ok();
    let length = usize::try_from(number(&trailer[8..16])).ok().filter(|it| *it <= INDEX_LIMIT);
    let range = offset.zip(length).and_then(|(offset, length)| {
        let range = offset..offset.checked_add(length)?;
        (range.start >= END_BYTES && range.end == end).then_some(range)
    });
    let outside = || bad("its index does not lie in front of its end".into());
    let range = range.ok_or_else(outside)?;
    let data_end = range.start;
    // A copy, so that a file that changes under us can't change between check and use.
    let index = Bytes::from(bytes.slice(range).ok_or_else(outside)?.to_vec());
    if blake3::hash(&index).as_bytes() != &trailer[16..48] {
        return Err(bad("its index is damaged: the hash differs".into()));
    }
    Ok((data_end, index))
}

enum Found {
    Stored(StoredTensor),
    Packed(StoredPacked),
}

struct Reader<'a> {
    bytes: &'a Bytes,
    data_end: usize,
    spans: Vec<(usize, usize, String)>,
    names: BTreeSet<String>,
    problems: Problems,
}

impl Reader<'_> {
    /// The bytes of one entry, if its name and place are sound.
    fn span(&mut self, name: &str, offset: u64, length: u64, alignment: usize) -> Option<Bytes> {
        let sound = !name.is_empty()
            && name.chars().count() <= NAME_LIMIT
            && !name.chars().any(char::is_control);
        if !sound || !self.names.insert(name.to_owned()) {
            self.problems.push(format!("name {} is unfit or stands there twice", quoted(name)));
            return None;
        }
        let range = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
        let range = range.and_then(|(offset, length)| Some(offset..offset.checked_add(length)?));
        let inside = range.clone().filter(|it| it.start >= END_BYTES && it.end <= self.data_end);
        let Some(range) = inside.filter(|it| it.start.is_multiple_of(alignment)) else {
            self.problems.push(format!(
                "{} at {offset} of {length} bytes is not at a multiple of {alignment} inside the \
                 file's {} bytes of data",
                quoted(name),
                self.data_end
            ));
            return None;
        };
        self.spans.push((range.start, range.end, name.to_owned()));
        self.bytes.slice(range)
    }

    fn tensor(&mut self, entry: &TensorEntry) -> Option<Found> {
        let TensorEntry { name, format, shape, offset, length, hash, group, factor } = entry;
        let kind = PackedKind::ALL.into_iter().find(|it| it.name() == format);
        let alignment = if kind.is_some() { PAGE } else { ALIGNMENT };
        let bytes = self.span(name, *offset, *length, alignment)?;
        let hash = hash.clone();
        let found = match (kind, shape.as_slice(), group, factor) {
            (Some(kind), &[rows, cols], &Some(group), &Some(factor)) => {
                let header = PackedHeader { kind, rows, cols, group, factor };
                header
                    .check_len(bytes.len())
                    .map_err(|error| error.to_string())
                    .map(|()| Found::Packed(StoredPacked { header, bytes, hash }))
            }
            (None, _, None, None) => stored(format, shape, bytes).map(Found::Stored),
            _ => Err(format!("has a shape of {shape:?}, or numbers that {format} has not")),
        };
        found.map_err(|it| self.problems.push(format!("tensor {}: {it}", quoted(name)))).ok()
    }

    /// Bytes that will not be looked at once more are what was written.
    fn check_hashes(&mut self, all: &[(&String, Bytes, &Option<String>)]) {
        let damaged = std::sync::Mutex::new(BTreeSet::new());
        minicrit_quant::pool::for_each(all.len(), true, |at| {
            let (name, bytes, hash) = &all[at];
            if hash.as_ref().is_some_and(|it| *it != blake3::hash(bytes).to_hex().as_str()) {
                damaged.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(*name);
            }
        });
        for name in damaged.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            self.problems.push(format!("{} is damaged: the hash differs", quoted(name)));
        }
    }

    /// Nothing overlaps, and nothing lies between but padding.
    fn check_spans(&mut self) {
        self.spans.sort_unstable();
        let mut filled = END_BYTES;
        for (start, end, name) in &self.spans {
            if *start < filled {
                self.problems.push(format!("{} overlaps what lies before it", quoted(name)));
            } else if start - filled >= PAGE {
                self.problems.push(format!("{} bytes before {}", start - filled, quoted(name)));
            }
            filled = filled.max(*end);
        }
        if self.data_end - filled.min(self.data_end) >= PAGE {
            self.problems.push(format!("{} bytes before the index", self.data_end - filled));
        }
    }
}

fn stored(
    format: &str,
    shape: &[usize],
    bytes: Bytes,
) -> std::result::Result<StoredTensor, String> {
    let known = Format::ALL.into_iter().find(|it| it.name() == format);
    let format = known.ok_or_else(|| format!("is of unknown format {}", quoted(format)))?;
    let values = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
    let whole = values.filter(|it| *it > 0 && shape.len() <= 2 && !shape.is_empty());
    let expected = whole.and_then(|it| format.row_bytes(it));
    let blocks = shape.last().is_some_and(|it| it.is_multiple_of(format.block_len()));
    if expected != Some(bytes.len()) || !blocks {
        return Err(format!("of shape {shape:?} in {format} does not have {} bytes", bytes.len()));
    }
    Ok(StoredTensor { format, shape: shape.to_vec(), bytes })
}
