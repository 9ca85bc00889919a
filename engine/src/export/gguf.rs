//! A model as a GGUF file that llama.cpp and this program run.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

use minicrit_quant::{Format, QuantTensor, WeightFormat};

use super::{
    ExportError, Written,
    container::{self, TensorInfo},
    metadata,
    names::gguf_place,
    vocabulary,
};
use crate::{
    Result, arch,
    importance::Importance,
    load,
    recipe::{self, Place, Recipe},
    source::{ModelFiles, StoredTensor, gguf_config::Family},
    spec::ModelSpec,
};

/// Writes `files` to `out` by `recipe`, which must not ask for packed kinds. `name` is the model's
/// own in the file; `progress` is told of every tensor once it is written.
///
/// # Errors
/// [`ExportError`], or what is wrong with the files.
pub fn write_gguf(
    files: &ModelFiles,
    name: &str,
    recipe: &Recipe,
    importance: &Importance,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(&Written),
) -> Result<()> {
    if !files.packed.is_empty() {
        return Err(ExportError::AlreadyPacked.into());
    }
    let spec = load::checked_spec(files)?;
    let family = metadata::family(&spec)?;
    let mut keys = metadata::metadata(files, &spec, family, recipe.mix, name)?;
    keys.extend(vocabulary::vocabulary(files, spec.vocab_size)?);
    let entries = entries(files, &spec, family, recipe)?;
    let infos: Vec<TensorInfo> = entries.iter().map(|it| it.info.clone()).collect();
    let write =
        |out: &mut dyn Write, bytes: &[u8]| out.write_all(bytes).map_err(ExportError::Write);
    write(out, &container::header(&keys, &infos))?;
    for Entry { info, content, place } in entries {
        match content {
            Content::Values(values) => {
                for value in values {
                    write(out, &value.to_le_bytes())?;
                }
            }
            Content::Stored(pieces) => {
                for piece in pieces {
                    let encoded = encode(&piece, info.format, importance)?;
                    for row in piece.rows_in_order(encoded.rows()) {
                        write(out, row_bytes(&encoded, row))?;
                    }
                }
            }
        }
        write(out, container::padding(info.byte_len))?;
        progress(&Written {
            place,
            format: info.format.name().to_owned(),
            values: info.shape.iter().product(),
            bytes: info.byte_len,
            name: info.name,
        });
    }
    Ok(())
}

/// One tensor of the file.
struct Entry<'a> {
    info: TensorInfo,
    content: Content<'a>,
    place: Option<Place>,
}

enum Content<'a> {
    Values(Vec<f32>),
    /// Tensors of the source, one on the other: several only for experts.
    Stored(Vec<Piece<'a>>),
}

/// One tensor of the source.
struct Piece<'a> {
    name: &'a str,
    stored: &'a StoredTensor,
    place: Option<Place>,
    /// Heads whose rows are stored in the order of interleaved rotary pairs.
    interleaved_heads: Option<usize>,
}

impl Piece<'_> {
    /// Rows of the source in the file's order: in each head, the rows of a rotary pair side by side.
    fn rows_in_order(&self, rows: usize) -> Vec<usize> {
        let Some(heads) = self.interleaved_heads else { return (0..rows).collect() };
        let pairs = rows / heads / 2;
        let row = |to: usize| {
            let (head, within) = (to / (2 * pairs), to % (2 * pairs));
            head * 2 * pairs + within % 2 * pairs + within / 2
        };
        (0..rows).map(row).collect()
    }
}

fn row_bytes(tensor: &QuantTensor, row: usize) -> &[u8] {
    let len = tensor.byte_len() / tensor.rows();
    &tensor.bytes()[row * len..(row + 1) * len]
}

fn encode(piece: &Piece<'_>, format: Format, importance: &Importance) -> Result<QuantTensor> {
    let tensor = |source| ExportError::Tensor { tensor: piece.name.to_owned(), source };
    let (rows, cols) = match piece.stored.shape[..] {
        // A vector's values are rows of one, so that those of heads can be put in order too.
        [len] => (len, 1),
        [rows, cols] => (rows, cols),
        _ => unreachable!("invariant: the check of the weights allows one or two dimensions"),
    };
    let stored = QuantTensor::new(piece.stored.format, rows, cols, piece.stored.bytes.clone());
    let stored = match stored {
        Ok(it) => it,
        // Blocks may span the values of a vector.
        Err(_) if cols == 1 => {
            let whole = QuantTensor::new(piece.stored.format, 1, rows, piece.stored.bytes.clone());
            QuantTensor::from_f32(rows, 1, &whole.map_err(tensor)?.dequantize()).map_err(tensor)?
        }
        Err(error) => return Err(tensor(error).into()),
    };
    if stored.format() == format {
        return Ok(stored);
    }
    let importance = piece.place.and_then(|it| importance.of(it));
    Ok(QuantTensor::quantize(format, &stored, importance).map_err(tensor)?)
}

fn entries<'a>(
    files: &'a ModelFiles,
    spec: &ModelSpec,
    family: Family,
    recipe: &Recipe,
) -> Result<Vec<Entry<'a>>> {
    let names = arch::names(spec);
    let expected: BTreeSet<&str> = names.expected().into_keys().collect();
    let mut matrices: BTreeMap<&str, (Place, Format)> = BTreeMap::new();
    for (place, part) in recipe::matrices(&names) {
        let WeightFormat::Stored(format) = recipe.format(spec, place, part.shape[1]) else {
            let problems = vec!["packed weights are no GGUF types".to_owned()];
            return Err(ExportError::NoGgufForm { problems }.into());
        };
        // Parts of one tensor get the finest of their formats.
        let (_, chosen) = matrices.entry(&part.name).or_insert((place, format));
        if format.bits_per_weight() > chosen.bits_per_weight() {
            *chosen = format;
        }
    }
    let mut stacks: BTreeMap<String, (Format, BTreeMap<usize, Piece<'a>>)> = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, stored) in &files.tensors {
        if !expected.contains(name.as_str()) {
            continue;
        }
        let Some(there) = gguf_place(family, name) else {
            problems.push(format!("there is no name for tensor `{name}`"));
            continue;
        };
        let matrix = matrices.get(name.as_str()).copied();
        let piece = Piece {
            name,
            stored,
            place: matrix.map(|it| it.0),
            interleaved_heads: interleaved_heads(spec, family, &there.name),
        };
        let format = matrix.map_or(Format::F32, |it| it.1);
        let (stack_format, stack) =
            stacks.entry(there.name).or_insert_with(|| (format, BTreeMap::new()));
        if format.bits_per_weight() > stack_format.bits_per_weight() {
            *stack_format = format;
        }
        stack.insert(there.expert.unwrap_or(0), piece);
    }
    if !problems.is_empty() {
        return Err(ExportError::NoGgufForm { problems }.into());
    }
    let mut entries = Vec::new();
    for (name, values) in metadata::rope_tensors(spec) {
        let info = TensorInfo {
            name: name.to_owned(),
            shape: vec![values.len()],
            format: Format::F32,
            byte_len: 4 * values.len(),
        };
        entries.push(Entry { info, content: Content::Values(values), place: None });
    }
    let is_stack = |name: &str| name.contains("_exps.");
    for (name, (format, pieces)) in stacks {
        let pieces: Vec<Piece<'a>> = pieces.into_values().collect();
        let mut shape = pieces[0].stored.shape.clone();
        if is_stack(&name) {
            shape.insert(0, pieces.len());
        }
        let values: usize = shape.iter().product();
        let byte_len = format.row_bytes(values).ok_or_else(|| ExportError::NoGgufForm {
            problems: vec![format!("tensor `{name}` of shape {shape:?} has no {format} blocks")],
        })?;
        let place = pieces[0].place;
        let info = TensorInfo { name, shape, format, byte_len };
        entries.push(Entry { info, content: Content::Stored(pieces), place });
    }
    Ok(entries)
}

/// The number of heads in the rows of a query or key tensor, for architectures that turn them.
fn interleaved_heads(spec: &ModelSpec, family: Family, name: &str) -> Option<usize> {
    if !family.has_interleaved_rows() {
        return None;
    }
    match name.rsplit('.').nth(1) {
        Some("attn_q") => Some(spec.heads.query),
        Some("attn_k") => Some(spec.heads.kv),
        _ => None,
    }
}
