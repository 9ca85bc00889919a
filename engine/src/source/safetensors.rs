//! Reads and checks a safetensors file: a JSON header, then the tensors' bytes end to end.
//!
//! Stricter than the `safetensors` crate (0.8.0), which takes the last of two tensors with one name
//! and never looks at the first: names are unique and printable, shapes are multiplied with checks,
//! tensors fill the data without hole, overlap or rest, and everything wrong is listed at once.
//! This module must not know what a tensor's name means.
//!
//! ```
//! use minicrit_engine::source::safetensors;
//! let header = br#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
//! let file = [&(header.len() as u64).to_le_bytes()[..], header, &1f32.to_le_bytes()].concat();
//! let tensors = safetensors::parse("x.safetensors", file.into())?;
//! assert_eq!(tensors["x"].shape, [1]);
//! # Ok::<(), minicrit_engine::source::SourceError>(())
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use minicrit_quant::{Bytes, Format};
use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    Result, SourceError, StoredTensor,
    error::{Problems, map_file, quoted, unreadable},
};

/// Longest header, as the format's specification has it.
const HEADER_LIMIT: u64 = 100_000_000;
/// Longest name of a tensor, in characters.
const NAME_LIMIT: usize = 512;
/// Most tensors of a file.
const MOST_TENSORS: usize = 100_000;
/// Most dimensions of a tensor.
const MOST_DIMS: usize = 8;
const METADATA_KEY: &str = "__metadata__";

/// Maps and checks a file; the tensors are views of it.
///
/// # Errors
/// [`SourceError::BadSafetensors`] with all that is wrong, [`SourceError::UnsupportedFormat`] with
/// every type that is not run, or why the file can't be read.
pub fn open(path: &Path) -> Result<BTreeMap<String, StoredTensor>> {
    let io = |source| unreadable(path, source);
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(io(std::io::Error::other("not a regular file")));
    }
    parse(&path.display().to_string(), map_file(path)?)
}

/// Checks a file in memory; `origin` is what errors call it.
///
/// # Errors
/// As [`open`].
pub fn parse(origin: &str, bytes: Bytes) -> Result<BTreeMap<String, StoredTensor>> {
    let bad = |problem: String| SourceError::BadSafetensors {
        file: origin.to_owned(),
        problems: problem.into(),
    };
    let (header, data) = split_header(&bytes).map_err(bad)?;
    // A copy, so that a file that changes under us can't change between check and use.
    let header = String::from_utf8(header.to_vec())
        .map_err(|_| bad("the header is not UTF-8".to_owned()))?;
    let Entries(entries) = serde_json::from_str(&header)
        .map_err(|error| bad(format!("the header is not usable JSON: {error}")))?;
    let mut problems = Problems::default();
    if entries.len() > MOST_TENSORS {
        problems.push(format!("{} tensors, more than {MOST_TENSORS}", entries.len()));
        return Err(SourceError::BadSafetensors { file: origin.to_owned(), problems });
    }
    let mut unsupported = BTreeMap::new();
    let tensors = read_entries(&entries, &data, &mut unsupported, &mut problems);
    if !problems.is_empty() {
        return Err(SourceError::BadSafetensors { file: origin.to_owned(), problems });
    }
    if !unsupported.is_empty() {
        let list = unsupported.iter().map(|(dtype, count)| format!("{} ({count})", quoted(dtype)));
        let formats = list.collect::<Vec<_>>().join(", ");
        return Err(SourceError::UnsupportedFormat { file: origin.to_owned(), formats });
    }
    Ok(tensors)
}

/// The header's entries in the file's order, duplicates included.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

/// What the header says about one tensor. A field that we don't know could change what the bytes
/// mean, so it is refused; serde refuses a field that stands twice.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<String, &RawValue>()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor)
    }
}

/// Header and data of a file.
fn split_header(bytes: &Bytes) -> std::result::Result<(Bytes, Bytes), String> {
    let Some((len, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(format!("it has {} bytes, fewer than the 8 of a header's length", bytes.len()));
    };
    let len = u64::from_le_bytes(*len);
    if len > HEADER_LIMIT {
        return Err(format!("its header would have {len} bytes, more than {HEADER_LIMIT}"));
    }
    let cut = || format!("its header needs {len} bytes, but {} follow", rest.len());
    let end = usize::try_from(len).ok().and_then(|len| len.checked_add(8)).ok_or_else(cut)?;
    let header = bytes.slice(8..end).ok_or_else(cut)?;
    if header.first() != Some(&b'{') {
        return Err("its header does not start with `{`".to_owned());
    }
    let data = bytes.slice(end..bytes.len()).ok_or_else(cut)?;
    Ok((header, data))
}

fn read_entries(
    entries: &[(String, &RawValue)],
    data: &Bytes,
    unsupported: &mut BTreeMap<String, usize>,
    problems: &mut Problems,
) -> BTreeMap<String, StoredTensor> {
    let mut names = BTreeSet::new();
    let mut spans = Vec::with_capacity(entries.len());
    let mut tensors = BTreeMap::new();
    let mut all_spans_known = true;
    for (name, raw) in entries {
        if !names.insert(name.as_str()) {
            problems.push(format!("{} stands there twice", quoted(name)));
            continue;
        }
        if name == METADATA_KEY {
            if let Err(error) = serde_json::from_str::<TextEntries>(raw.get()) {
                problems.push(format!("{METADATA_KEY} is not an object of unique texts: {error}"));
            }
            continue;
        }
        let tensor = check_name(name).and_then(|()| read_tensor(raw, data, unsupported));
        match tensor {
            Ok((start, end, tensor)) => {
                spans.push((start, end, name.as_str()));
                if let Some(tensor) = tensor {
                    tensors.insert(name.clone(), tensor);
                }
            }
            Err(problem) => {
                all_spans_known = false;
                problems.push(format!("tensor {}: {problem}", quoted(name)));
            }
        }
    }
    if all_spans_known {
        check_spans(spans, data.len(), problems);
    }
    tensors
}

fn check_name(name: &str) -> std::result::Result<(), String> {
    if name.is_empty() {
        return Err("its name is empty".to_owned());
    }
    if name.chars().count() > NAME_LIMIT {
        return Err(format!("its name has more than {NAME_LIMIT} characters"));
    }
    match name.chars().any(char::is_control) {
        true => Err("its name has control characters".to_owned()),
        false => Ok(()),
    }
}

/// Start, end, and the tensor where its type is one that is run.
fn read_tensor(
    raw: &RawValue,
    data: &Bytes,
    unsupported: &mut BTreeMap<String, usize>,
) -> std::result::Result<(usize, usize, Option<StoredTensor>), String> {
    let entry: TensorEntry = serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
    let (start, end) = entry.data_offsets;
    let outside =
        || format!("its bytes {start}..{end} lie outside the file's {} bytes of data", data.len());
    let bytes = data.slice(start..end).ok_or_else(outside)?;
    if entry.shape.len() > MOST_DIMS {
        return Err(format!("it has {} dimensions, more than {MOST_DIMS}", entry.shape.len()));
    }
    let format = match entry.dtype.as_str() {
        "F32" => Format::F32,
        "F16" => Format::F16,
        "BF16" => Format::Bf16,
        _ => {
            *unsupported.entry(entry.dtype).or_default() += 1;
            return Ok((start, end, None));
        }
    };
    // Zeros are left out of the product, so that [0, 2^64 - 1] overflows as it should.
    let product =
        entry.shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim.max(1)));
    let full_bytes = product.and_then(|product| product.checked_mul(format.block_bytes()));
    let Some(full_bytes) = full_bytes else {
        return Err(format!("its shape {:?} is too large to address", entry.shape));
    };
    let expected = if entry.shape.contains(&0) { 0 } else { full_bytes };
    if expected != bytes.len() {
        return Err(format!(
            "its shape {:?} in {format} needs {expected} bytes, but it has {}",
            entry.shape,
            bytes.len()
        ));
    }
    Ok((start, end, Some(StoredTensor { format, shape: entry.shape, bytes })))
}

/// The tensors fill the data exactly.
fn check_spans(mut spans: Vec<(usize, usize, &str)>, data_len: usize, problems: &mut Problems) {
    spans.sort_unstable();
    let (mut filled, mut before) = (0, "");
    for (start, end, name) in spans {
        if start < filled {
            problems.push(format!("tensors {} and {} overlap", quoted(before), quoted(name)));
        } else if start > filled {
            problems.push(format!(
                "bytes {filled}..{start}, before tensor {}, belong to nothing",
                quoted(name)
            ));
        }
        (filled, before) = (filled.max(end), name);
    }
    if filled < data_len {
        problems
            .push(format!("the last {} bytes of the file belong to nothing", data_len - filled));
    }
}

/// An object of texts without duplicates, whose contents nobody needs.
struct TextEntries;

impl<'de> Deserialize<'de> for TextEntries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = TextEntries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<TextEntries, A::Error> {
                let mut keys = BTreeSet::new();
                while let Some((key, _)) = map.next_entry::<String, String>()? {
                    if let Some(twice) = keys.replace(key) {
                        let message = format!("the key {} stands there twice", quoted(&twice));
                        return Err(serde::de::Error::custom(message));
                    }
                }
                Ok(TextEntries)
            }
        }

        deserializer.deserialize_map(TextVisitor)
    }
}
