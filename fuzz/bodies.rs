//! What each fuzz target calls, shared with the plain tests that run the corpus.
//!
//! Every body answers whether the reader accepted the bytes.
#![allow(dead_code, reason = "each fuzz target uses one body of this file")]

use minicrit_engine::{arch, registry::Registry, source};
use minicrit_quant::{Bytes, Format, PackedHeader, PackedKind, PackedTensor, QuantTensor};

/// The header of a safetensors file.
pub fn safetensors_header(data: &[u8]) -> bool {
    source::safetensors::parse("fuzz", Bytes::from(data.to_vec())).is_ok()
}

/// A GGUF file: values, tensors and where they lie.
pub fn gguf(data: &[u8]) -> bool {
    source::gguf::Gguf::parse("fuzz", Bytes::from(data.to_vec())).is_ok()
}

/// A config.json.
pub fn config(data: &[u8]) -> bool {
    let value: Result<serde_json::Value, _> = serde_json::from_slice(data);
    value.is_ok_and(|it| arch::spec_from_config(&it).is_ok())
}

/// A models.toml.
pub fn registry(data: &[u8]) -> bool {
    std::str::from_utf8(data).is_ok_and(|it| Registry::parse(it).is_ok())
}

/// A packed file whose index is `data` up to the first line feed, and whose data are what follows:
/// head and trailer, which a fuzzer would never hit, are made to fit.
pub fn packed_file(data: &[u8]) -> bool {
    const END: usize = 64;
    let (index, data) = match data.iter().position(|&it| it == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[][..]),
    };
    let version = 1u32.to_le_bytes();
    let mut file = vec![0; END];
    file[..8].copy_from_slice(b"MINICRIT");
    file[8..12].copy_from_slice(&version);
    file.extend(data);
    let offset = file.len() as u64;
    file.extend(index);
    let mut trailer = [0; END];
    trailer[..8].copy_from_slice(&offset.to_le_bytes());
    trailer[8..16].copy_from_slice(&(index.len() as u64).to_le_bytes());
    trailer[16..48].copy_from_slice(blake3::hash(index).as_bytes());
    trailer[48..52].copy_from_slice(&version);
    trailer[56..].copy_from_slice(b"MINICRIT");
    file.extend(trailer);
    let Ok(files) = source::ModelFiles::from_packed("fuzz", Bytes::from(file)) else {
        return false;
    };
    let read = |it: &source::StoredPacked| PackedTensor::from_bytes(&it.header, &it.bytes);
    files.packed.values().all(|it| read(it).is_ok())
}

/// Blocks of a stored format: its number, how many blocks a row has, how many rows there are, and
/// their bytes.
pub fn blocks(data: &[u8]) -> bool {
    let [format, blocks, rows, bytes @ ..] = data else { return false };
    let Some(&format) = Format::ALL.get(usize::from(*format)) else { return false };
    let (rows, cols) = (usize::from(*rows), usize::from(*blocks) * format.block_len());
    let Ok(tensor) = QuantTensor::new(format, rows, cols, Bytes::from(bytes.to_vec())) else {
        return false;
    };
    multiply(rows, cols, |x, y| tensor.matmul_into(x, y));
    tensor.dequantize().len() == rows * cols
}

/// A packed tensor: its kind, the number of its group, rows, columns (two bytes), the exponent of
/// its factor, and its bytes.
pub fn packed_tensor(data: &[u8]) -> bool {
    let [kind, group, rows, low, high, exponent, bytes @ ..] = data else { return false };
    let Some(&kind) = PackedKind::ALL.get(usize::from(*kind)) else { return false };
    let Some(&group) = kind.groups().get(usize::from(*group)) else { return false };
    let (rows, cols) = (usize::from(*rows), usize::from(u16::from_le_bytes([*low, *high])));
    let factor = f32::from_bits(u32::from(*exponent) << 23);
    let header = PackedHeader { kind, rows, cols, group, factor };
    let Ok(tensor) = PackedTensor::from_bytes(&header, bytes) else { return false };
    multiply(rows, cols, |x, y| tensor.matmul_into(x, y));
    (0..rows).all(|row| tensor.dequantize_row(row, &mut vec![0.0; cols]).is_ok())
}

/// A product of two rows of input.
fn multiply(rows: usize, cols: usize, product: impl Fn(&[f32], &mut [f32])) {
    let x: Vec<f32> = (0..2 * cols).map(|i| i as f32 - cols as f32).collect();
    product(&x, &mut vec![0.0; 2 * rows]);
}
