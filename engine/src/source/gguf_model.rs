//! A GGUF file as the files of a Hugging Face model.
//!
//! Bytes are shared with the mapped file, but for query and key rows of architecture `llama`: they
//! are stored in the order of interleaved rotary pairs, and copied here into Hugging Face's order,
//! so that nothing above knows the difference. A row is whole blocks, so this works in any format.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::Path,
};

use minicrit_quant::{Bytes, Format, dequantize_blocks};

use super::{
    ModelFiles, Result, SourceError, StoredTensor,
    error::{Problems, quoted},
    gguf::{Gguf, GgufValue},
    gguf_config::{self, Counts, Family},
    gguf_names::{Place, place},
    gguf_tokenizer,
};

pub(super) fn open(path: &Path) -> Result<ModelFiles> {
    model_files(Gguf::open(path)?)
}

/// The files that `gguf` stands for.
pub(super) fn model_files(gguf: Gguf) -> Result<ModelFiles> {
    if let Some(parts) =
        gguf.get("split.count").and_then(GgufValue::as_u64).filter(|parts| *parts > 1)
    {
        return Err(SourceError::SplitGguf { file: gguf.origin, parts });
    }
    let family = Family::of(&gguf)?;
    let (config, counts) = gguf_config::config(&gguf, family)?;
    let tokenizer = gguf_tokenizer::tokenizer_files(&gguf)?;
    let (tokenizer, tokenizer_config) = match tokenizer {
        Some(files) => (Some(files.tokenizer), Some(files.config)),
        None => (None, None),
    };
    let chat_template =
        gguf.get("tokenizer.chat_template").and_then(GgufValue::as_str).map(ToOwned::to_owned);
    let generation_config = gguf_config::generation_config(&gguf);
    let tensors = rename(&gguf.origin, family, counts, gguf.tensors)?;
    Ok(ModelFiles {
        origin: gguf.origin,
        config,
        tensors,
        packed: BTreeMap::new(),
        tokenizer,
        tokenizer_config,
        generation_config: Some(generation_config),
        chat_template,
    })
}

/// A tensor of float32 numbers, if it is one.
pub(super) fn float_values(tensor: &StoredTensor) -> Option<Vec<f32>> {
    if tensor.format != Format::F32 {
        return None;
    }
    let mut values = vec![0.0; tensor.bytes.len() / Format::F32.block_bytes()];
    dequantize_blocks(Format::F32, &tensor.bytes, &mut values);
    Some(values)
}

fn rename(
    origin: &str,
    family: Family,
    counts: Counts,
    stored: BTreeMap<String, StoredTensor>,
) -> Result<BTreeMap<String, StoredTensor>> {
    let mut problems = Problems::default();
    let mut tensors = BTreeMap::new();
    let mut insert =
        |name: String, tensor: StoredTensor, problems: &mut Problems| match tensors.entry(name) {
            Entry::Vacant(place) => {
                place.insert(tensor);
            }
            Entry::Occupied(place) => {
                problems.push(format!("two tensors stand for {}", quoted(place.key())))
            }
        };
    for (name, tensor) in stored {
        match place(family, &name) {
            Place::One(name) => insert(name, tensor, &mut problems),
            Place::Rotary { name, is_key } if family.has_interleaved_rows() => {
                let heads = if is_key { counts.kv_heads } else { counts.heads };
                match halves_of_heads(&tensor, heads) {
                    Ok(tensor) => insert(name, tensor, &mut problems),
                    Err(problem) => problems.push(format!("tensor {}: {problem}", quoted(&name))),
                }
            }
            Place::Rotary { name, .. } => insert(name, tensor, &mut problems),
            Place::Experts { prefix, suffix } => match split_experts(&tensor, counts.experts) {
                Ok(experts) => {
                    for (expert, tensor) in experts.into_iter().enumerate() {
                        insert(format!("{prefix}{expert}{suffix}"), tensor, &mut problems);
                    }
                }
                Err(problem) => problems.push(format!("tensor {}: {problem}", quoted(&name))),
            },
            Place::Config => {}
        }
    }
    match problems.is_empty() {
        true => Ok(tensors),
        false => Err(SourceError::GgufMetadata { file: origin.to_owned(), problems }),
    }
}

/// `[experts, outputs, inputs]` as one `[outputs, inputs]` for each expert.
fn split_experts(
    tensor: &StoredTensor,
    experts: usize,
) -> std::result::Result<Vec<StoredTensor>, String> {
    let shape = match tensor.shape.as_slice() {
        [stacked, rest @ ..] if *stacked == experts && rest.len() == 2 => rest,
        other => {
            return Err(format!("its shape is {other:?}, not [{experts}, outputs, inputs]"));
        }
    };
    let expert_bytes = tensor.bytes.len() / experts;
    let expert = |index: usize| {
        let range = index * expert_bytes..(index + 1) * expert_bytes;
        let bytes = tensor.bytes.slice(range).ok_or("it is cut short")?;
        Ok(StoredTensor { format: tensor.format, shape: shape.to_vec(), bytes })
    };
    (0..experts).map(expert).collect()
}

/// Undoes llama.cpp's `permute`: in each head, the row of pair `i`, part `p` (stored at `2i + p`)
/// goes to `p * pairs + i`, where Hugging Face's rotary embedding looks for it.
fn halves_of_heads(
    tensor: &StoredTensor,
    heads: usize,
) -> std::result::Result<StoredTensor, String> {
    let (rows, cols) = match tensor.shape.as_slice() {
        [rows, cols] => (*rows, *cols),
        // A bias has one value in each row, which blocks of several values can't be cut into.
        [rows] if tensor.format.block_len() == 1 => (*rows, 1),
        other => {
            return Err(format!("shape {other:?} in {} has no rows of heads", tensor.format));
        }
    };
    if heads == 0 || !rows.is_multiple_of(2 * heads) {
        return Err(format!("{rows} rows do not divide into {heads} heads of pairs"));
    }
    let row_bytes = tensor.format.row_bytes(cols).filter(|it| *it * rows == tensor.bytes.len());
    let row_bytes = row_bytes.ok_or("its rows are not whole blocks")?;
    let pairs = rows / heads / 2;
    let mut bytes = Vec::with_capacity(tensor.bytes.len());
    for head in 0..heads {
        for part in 0..2 {
            for pair in 0..pairs {
                let row = head * 2 * pairs + 2 * pair + part;
                bytes.extend_from_slice(&tensor.bytes[row * row_bytes..][..row_bytes]);
            }
        }
    }
    Ok(StoredTensor {
        format: tensor.format,
        shape: tensor.shape.clone(),
        bytes: Bytes::from(bytes),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_pairs_become_halves_of_heads() {
        let values: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let tensor = StoredTensor {
            format: Format::F32,
            shape: vec![8, 2],
            bytes: Bytes::from_f32(&values),
        };
        let turned = float_values(&halves_of_heads(&tensor, 2).unwrap()).unwrap();
        let rows: Vec<f32> = turned.chunks(2).map(|row| row[0] / 2.0).collect();
        assert_eq!(rows, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        assert!(halves_of_heads(&tensor, 3).is_err());
        assert!(halves_of_heads(&tensor, 0).is_err());
    }

    #[test]
    fn stacked_experts_become_one_tensor_each() {
        let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let tensor = StoredTensor {
            format: Format::F32,
            shape: vec![3, 2, 2],
            bytes: Bytes::from_f32(&values),
        };
        let experts = split_experts(&tensor, 3).unwrap();
        assert_eq!(float_values(&experts[1]).unwrap(), [4.0, 5.0, 6.0, 7.0]);
        assert_eq!(experts[1].shape, [2, 2]);
        assert!(split_experts(&tensor, 2).is_err());
    }
}
