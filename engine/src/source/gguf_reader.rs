//! Reads and checks a GGUF file: header, metadata, and where each tensor lies.
//!
//! The rules are ggml's (`gguf.cpp`), or stricter: counts fit the file before anything is
//! allocated, keys and names are unique, every tensor is aligned and inside the file, and no two
//! overlap. It must not know what a key or a tensor means.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs::File,
    io::Read,
    ops::Range,
    path::Path,
};

use minicrit_quant::{Bytes, Format};

use super::{
    Result, SourceError, StoredTensor,
    error::{Problems, map_file, quoted, unreadable},
    gguf::{Gguf, GgufValue},
    gguf_cursor::{Cursor, CursorResult, ValueType},
};

const MAGIC: &[u8; 4] = b"GGUF";
const ALIGNMENT_KEY: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;
/// No model has as many; the limit bounds the time that a hostile file can take.
const MOST_TENSORS: usize = 100_000;

/// Maps and checks a file.
pub(super) fn open(path: &Path) -> Result<Gguf> {
    let file = path.display().to_string();
    check_magic(path)?;
    let bytes = map_file(path)?;
    parse(&file, bytes)
}

/// Checks a file in memory; `origin` is what errors call it.
pub(super) fn parse(origin: &str, bytes: Bytes) -> Result<Gguf> {
    let file = || origin.to_owned();
    if !bytes.starts_with(MAGIC) {
        return Err(not_gguf(origin, &bytes[..bytes.len().min(8)]));
    }
    let bad = |problem: String| SourceError::BadGguf { file: file(), problems: problem.into() };
    let mut cursor = Cursor::new(&bytes);
    cursor.u32("the magic").map_err(bad)?;
    let version = cursor.u32("the version").map_err(bad)?;
    if let Some(found) = refused_version(version) {
        return Err(SourceError::GgufVersion { file: file(), found });
    }
    // A tensor is a name's length, a count of dimensions, one dimension, a type and an offset.
    let num_tensors = cursor.count("the number of tensors", 8 + 4 + 8 + 4 + 8).map_err(bad)?;
    if num_tensors > MOST_TENSORS {
        return Err(bad(format!("{num_tensors} tensors, more than {MOST_TENSORS}")));
    }
    // A metadata entry is a key's length, a type and one byte.
    let num_entries = cursor.count("the number of metadata entries", 8 + 4 + 1).map_err(bad)?;
    let mut metadata = BTreeMap::new();
    let alignment = read_metadata(&mut cursor, num_entries, &mut metadata).map_err(bad)?;
    let infos = (0..num_tensors)
        .map(|_| read_tensor_info(&mut cursor))
        .collect::<CursorResult<Vec<_>>>()
        .map_err(bad)?;
    let data_start = cursor.at().checked_next_multiple_of(alignment);
    let tensors = place_tensors(origin, &bytes, data_start, alignment, infos)?;
    Ok(Gguf { origin: file(), version, metadata, tensors })
}

/// What the file says about one tensor; `shape` is outermost first.
struct TensorInfo {
    name: String,
    shape: Vec<u64>,
    ggml_type: u32,
    offset: u64,
}

fn read_metadata(
    cursor: &mut Cursor<'_>,
    num_entries: usize,
    metadata: &mut BTreeMap<String, GgufValue>,
) -> CursorResult<usize> {
    let mut alignment = DEFAULT_ALIGNMENT;
    for _ in 0..num_entries {
        let at = cursor.at();
        let key = cursor.key()?;
        let (value_type, value) = cursor.value(&key)?;
        if key == ALIGNMENT_KEY {
            alignment = checked_alignment(value_type, &value)
                .map_err(|what| format!("byte {at}: {what}"))?;
        }
        match metadata.entry(key) {
            Entry::Vacant(place) => place.insert(value),
            Entry::Occupied(place) => {
                return Err(format!("byte {at}: {} stands there twice", quoted(place.key())));
            }
        };
    }
    Ok(usize::try_from(alignment).expect("invariant: an alignment is at most 65536"))
}

fn checked_alignment(value_type: ValueType, value: &GgufValue) -> CursorResult<u64> {
    match (value_type, value) {
        (ValueType::U32, GgufValue::Unsigned(alignment)) => {
            if alignment.is_power_of_two() && (8..=65536).contains(alignment) {
                Ok(*alignment)
            } else {
                Err(format!("{ALIGNMENT_KEY} is {alignment}, not a power of two from 8 to 65536"))
            }
        }
        _ => Err(format!("{ALIGNMENT_KEY} is {}, not a u32", value.type_name())),
    }
}

fn read_tensor_info(cursor: &mut Cursor<'_>) -> CursorResult<TensorInfo> {
    let at = cursor.at();
    let name = cursor.tensor_name()?;
    let num_dims = cursor.u32("a tensor's number of dimensions")?;
    if !(1..=4).contains(&num_dims) {
        return Err(format!(
            "byte {at}: tensor {} has {num_dims} dimensions, not 1 to 4",
            quoted(&name)
        ));
    }
    let mut shape = (0..num_dims)
        .map(|_| cursor.u64("a tensor's dimension"))
        .collect::<CursorResult<Vec<u64>>>()?;
    shape.reverse();
    let ggml_type = cursor.u32("a tensor's type")?;
    let offset = cursor.u64("a tensor's offset")?;
    Ok(TensorInfo { name, shape, ggml_type, offset })
}

/// Cuts every tensor out of the file, or says all that is wrong with them.
fn place_tensors(
    origin: &str,
    bytes: &Bytes,
    data_start: Option<usize>,
    alignment: usize,
    infos: Vec<TensorInfo>,
) -> Result<BTreeMap<String, StoredTensor>> {
    let mut problems = Problems::default();
    let mut unsupported: BTreeMap<u32, usize> = BTreeMap::new();
    let mut names = BTreeSet::new();
    let mut spans = Vec::with_capacity(infos.len());
    let mut tensors = BTreeMap::new();
    for info in &infos {
        if !names.insert(info.name.as_str()) {
            problems.push(format!("tensor {} stands there twice", quoted(&info.name)));
            continue;
        }
        let Some(format) = Format::from_ggml_type(info.ggml_type) else {
            *unsupported.entry(info.ggml_type).or_default() += 1;
            continue;
        };
        match place_tensor(bytes, data_start, alignment, format, info) {
            Ok((range, tensor)) => {
                spans.push((range, info.name.as_str()));
                tensors.insert(info.name.clone(), tensor);
            }
            Err(problem) => problems.push(format!("tensor {} {problem}", quoted(&info.name))),
        }
    }
    // The size of a tensor that we can't run or place is unknown, so gaps mean nothing beside one.
    if unsupported.is_empty() && problems.is_empty() {
        check_spans(data_start.unwrap_or_default(), alignment, spans, &mut problems);
    }
    if !problems.is_empty() {
        return Err(SourceError::BadGguf { file: origin.to_owned(), problems });
    }
    if !unsupported.is_empty() {
        let list = unsupported
            .iter()
            .map(|(&number, count)| format!("{} ({count})", ggml_type_name(number)));
        let formats = list.collect::<Vec<_>>().join(", ");
        return Err(SourceError::UnsupportedFormat { file: origin.to_owned(), formats });
    }
    Ok(tensors)
}

/// One tensor and where it lies in the file, or what is wrong with it.
fn place_tensor(
    bytes: &Bytes,
    data_start: Option<usize>,
    alignment: usize,
    format: Format,
    info: &TensorInfo,
) -> CursorResult<(Range<usize>, StoredTensor)> {
    let shape = info
        .shape
        .iter()
        .map(|&dim| usize::try_from(dim))
        .collect::<std::result::Result<Vec<_>, _>>();
    let too_large = || format!("of shape {:?} is too large to address", info.shape);
    let shape = shape.map_err(|_| too_large())?;
    if shape.contains(&0) {
        return Err(format!("has a dimension of 0: {shape:?}"));
    }
    let cols = shape.last().copied().unwrap_or(1);
    let values = shape
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        .ok_or_else(too_large)?;
    if !cols.is_multiple_of(format.block_len()) {
        return Err(format!(
            "has rows of {cols} values, which blocks of {} ({format}) do not divide",
            format.block_len()
        ));
    }
    let len = format.row_bytes(values).ok_or_else(too_large)?;
    let offset = usize::try_from(info.offset).ok();
    if !info.offset.is_multiple_of(alignment as u64) {
        return Err(format!(
            "is at offset {}, which is not a multiple of {alignment}",
            info.offset
        ));
    }
    let range = offset
        .and_then(|offset| data_start?.checked_add(offset))
        .and_then(|start| Some(start..start.checked_add(len)?))
        .filter(|range| range.end <= bytes.len());
    let Some(range) = range else {
        return Err(format!(
            "needs {len} bytes at offset {} of the data, past the file's end ({} bytes)",
            info.offset,
            bytes.len()
        ));
    };
    let bytes = bytes.slice(range.clone()).ok_or_else(too_large)?;
    Ok((range, StoredTensor { format, shape, bytes }))
}

/// Tensors follow each other with less than one alignment between them.
fn check_spans(
    data_start: usize,
    alignment: usize,
    mut spans: Vec<(Range<usize>, &str)>,
    problems: &mut Problems,
) {
    spans.sort_by_key(|(range, _)| (range.start, range.end));
    let (mut end, mut before) = (data_start, "the header");
    for (range, name) in spans {
        if range.start < end {
            problems.push(format!("tensors {} and {} overlap", quoted(before), quoted(name)));
        } else if range.start - end >= alignment {
            problems.push(format!(
                "{} bytes before tensor {} belong to nothing",
                range.start - end,
                quoted(name)
            ));
        }
        (end, before) = (range.end.max(end), name);
    }
}

fn refused_version(version: u32) -> Option<String> {
    match version {
        2 | 3 => None,
        1 => Some("version 1, of early 2023".to_owned()),
        _ if version.swap_bytes() <= 3 => {
            Some(format!("version {}, big-endian", version.swap_bytes()))
        }
        _ => Some(format!("version {version}")),
    }
}

/// Refuses what can't be mapped or plainly is not GGUF, before anything is mapped.
fn check_magic(path: &Path) -> Result<()> {
    let io = |source| unreadable(path, source);
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        let found = "it is neither a folder nor a regular file".to_owned();
        return Err(SourceError::NotAModel { file: path.display().to_string(), found });
    }
    let mut start = Vec::new();
    File::open(path).map_err(io)?.take(8).read_to_end(&mut start).map_err(io)?;
    match start.starts_with(MAGIC) {
        true => Ok(()),
        false => Err(not_gguf(&path.display().to_string(), &start)),
    }
}

fn not_gguf(file: &str, start: &[u8]) -> SourceError {
    let found = match start {
        [] => "it is empty".to_owned(),
        [b'P', b'K', ..] | [0x80, ..] => {
            "it looks like a Python pickle, which this program never opens".to_owned()
        }
        _ if start.starts_with(b"version ") => {
            "it is a Git LFS pointer that stands for the file".to_owned()
        }
        [b'<', ..] => "it looks like a web page".to_owned(),
        _ => format!(
            "it starts with {:?} instead of \"GGUF\"",
            start[..start.len().min(4)].escape_ascii().to_string()
        ),
    };
    SourceError::NotAModel { file: file.to_owned(), found }
}

/// ggml's name of a tensor type that is not run.
fn ggml_type_name(number: u32) -> String {
    let name = match number {
        4 => "Q4_2",
        5 => "Q4_3",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        31 => "Q4_0_4_4",
        32 => "Q4_0_4_8",
        33 => "Q4_0_8_8",
        34 => "TQ1_0",
        35 => "TQ2_0",
        36 => "IQ4_NL_4_4",
        37 => "IQ4_NL_4_8",
        38 => "IQ4_NL_8_8",
        39 => "MXFP4",
        40 => "NVFP4",
        41 => "Q1_0",
        _ => return format!("type {number}"),
    };
    name.to_owned()
}
