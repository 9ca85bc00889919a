//! A model as a packed file: this program's own int8 and int4, ready to be used where they lie, and
//! everything else that it takes to run.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

use minicrit_quant::{QuantTensor, Weight};

use super::{ExportError, Written};
use crate::{
    Result, arch,
    importance::Importance,
    load,
    recipe::{self, Place, Recipe},
    source::{
        ModelFiles, StoredTensor,
        packed_index::{
            self, ALIGNMENT, CHAT_TEMPLATE, CONFIG, FileEntry, GENERATION_CONFIG, Index, Kept,
            PAGE, TOKENIZER, TOKENIZER_CONFIG, TensorEntry,
        },
    },
};

/// Writes `files` to `out` by `recipe`; `progress` is told of every tensor once it is written.
///
/// # Errors
/// [`ExportError`], or what is wrong with the files.
pub fn write_packed(
    files: &ModelFiles,
    recipe: &Recipe,
    importance: &Importance,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(&Written),
) -> Result<()> {
    write(files, (recipe, importance), None, out, progress)
}

/// [`write_packed`] of a file that says what it is kept for.
///
/// # Errors
/// Those of [`write_packed`].
pub fn write_kept(
    files: &ModelFiles,
    recipe: &Recipe,
    kept: Kept,
    out: &mut dyn Write,
) -> Result<()> {
    write(files, (recipe, &Importance::default()), Some(kept), out, &mut |_| {})
}

fn write(
    files: &ModelFiles,
    (recipe, importance): (&Recipe, &Importance),
    kept: Option<Kept>,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(&Written),
) -> Result<()> {
    if !files.packed.is_empty() {
        return Err(ExportError::AlreadyPacked.into());
    }
    let spec = load::checked_spec(files)?;
    let names = arch::names(&spec);
    let mut out = Counted { out, at: 0 };
    out.write(&packed_index::head())?;
    let mut index = Index {
        format: recipe.mix.name().to_owned(),
        source: String::new(),
        kept,
        files: Vec::new(),
        tensors: Vec::new(),
    };
    let mut source = blake3::Hasher::new();
    let mut matrices = BTreeSet::new();
    for (place, part) in recipe::matrices(&names) {
        matrices.insert(part.name.clone());
        let stored = &files.tensors[&part.name];
        let wrong = |source| ExportError::Tensor { tensor: part.name.clone(), source };
        let whole =
            QuantTensor::new(stored.format, part.shape[0], part.shape[1], stored.bytes.clone());
        let rows = whole.and_then(|it| it.slice_rows(part.rows.clone())).map_err(wrong)?;
        source.update(rows.bytes());
        let format = recipe.format(&spec, place, rows.cols());
        let weight = format.quantize(&rows, importance.of(place)).map_err(wrong)?;
        let entry = out.weight(part.key(), &weight)?;
        rows.shared_bytes().forget_pages();
        progress(&written(&entry, Some(place)));
        index.tensors.push(entry);
    }
    let expected: BTreeSet<&str> = names.expected().into_keys().collect();
    for (name, stored) in &files.tensors {
        let is_rest = !matrices.contains(name)
            && (expected.contains(name.as_str()) || name == load::ROPE_DIVISORS);
        if is_rest {
            source.update(&stored.bytes);
            let entry = out.stored(name.clone(), stored)?;
            progress(&written(&entry, None));
            index.tensors.push(entry);
        }
    }
    index.source = source.finalize().to_hex().to_string();
    for (name, bytes) in attachments(files) {
        let offset = out.align(ALIGNMENT)?;
        out.write(&bytes)?;
        let (name, length) = (name.to_owned(), bytes.len() as u64);
        index.files.push(FileEntry { name, offset, length, hash: hash(&bytes) });
    }
    let offset = out.align(ALIGNMENT)?;
    let index =
        serde_json::to_vec(&index).map_err(std::io::Error::from).map_err(ExportError::Write)?;
    out.write(&index)?;
    out.write(&packed_index::trailer(offset, &index))
}

fn attachments(files: &ModelFiles) -> BTreeMap<&'static str, Vec<u8>> {
    let mut all = BTreeMap::from([(CONFIG, files.config.to_string().into_bytes())]);
    let text = |it: &serde_json::Value| it.to_string().into_bytes();
    all.extend(files.tokenizer.clone().map(|it| (TOKENIZER, it)));
    all.extend(files.tokenizer_config.as_ref().map(|it| (TOKENIZER_CONFIG, text(it))));
    all.extend(files.generation_config.as_ref().map(|it| (GENERATION_CONFIG, text(it))));
    all.extend(files.chat_template.clone().map(|it| (CHAT_TEMPLATE, it.into_bytes())));
    all
}

fn hash(bytes: &[u8]) -> Option<String> {
    Some(blake3::hash(bytes).to_hex().to_string())
}

fn written(entry: &TensorEntry, place: Option<Place>) -> Written {
    Written {
        name: entry.name.clone(),
        place,
        format: entry.format.clone(),
        values: entry.shape.iter().product(),
        bytes: entry.length as usize,
    }
}

/// A stream that knows where it is.
struct Counted<'a> {
    out: &'a mut dyn Write,
    at: u64,
}

impl Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(ExportError::Write)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Zeros up to a multiple of `alignment`, and the place that is reached.
    fn align(&mut self, alignment: usize) -> Result<u64> {
        const ZEROS: [u8; PAGE] = [0; PAGE];
        let gap = self.at.next_multiple_of(alignment as u64) - self.at;
        self.write(&ZEROS[..gap as usize])?;
        Ok(self.at)
    }

    fn weight(&mut self, name: String, weight: &Weight) -> Result<TensorEntry> {
        let shape = vec![weight.rows(), weight.cols()];
        match weight {
            Weight::Stored(it) => {
                let bytes = it.shared_bytes();
                self.stored(name, &StoredTensor { format: it.format(), shape, bytes })
            }
            Weight::Interleaved(it) => {
                let bytes = it.stored_bytes();
                self.stored(name, &StoredTensor { format: it.format(), shape, bytes })
            }
            Weight::Packed(it) => {
                let offset = self.align(PAGE)?;
                self.write(it.bytes())?;
                let header = it.header();
                Ok(TensorEntry {
                    name,
                    format: header.kind.name().to_owned(),
                    shape,
                    offset,
                    length: it.byte_len() as u64,
                    hash: hash(it.bytes()),
                    group: Some(header.group),
                    factor: Some(header.factor),
                })
            }
        }
    }

    fn stored(&mut self, name: String, it: &StoredTensor) -> Result<TensorEntry> {
        let offset = self.align(ALIGNMENT)?;
        self.write(&it.bytes)?;
        Ok(TensorEntry {
            name,
            format: it.format.name().to_owned(),
            shape: it.shape.clone(),
            offset,
            length: it.bytes.len() as u64,
            hash: hash(&it.bytes),
            group: None,
            factor: None,
        })
    }
}
