//! The outside of a GGUF file: version 3, little-endian, tensors at multiples of 32 bytes.
//!
//! It knows how values, keys and places are spelled in bytes, and must not know what a key or a
//! tensor means. Source: the format's description in ggml (`docs/gguf.md`).

use minicrit_quant::Format;

use crate::source::gguf::GgufValue;

const VERSION: u32 = 3;
pub(super) const ALIGNMENT: usize = 32;

/// One tensor as the header describes it.
#[derive(Debug, Clone)]
pub(super) struct TensorInfo {
    pub(super) name: String,
    /// Outermost dimension first; the file has them the other way round.
    pub(super) shape: Vec<usize>,
    pub(super) format: Format,
    pub(super) byte_len: usize,
}

/// Everything in front of the tensors' bytes, padded to where the first of them starts.
pub(super) fn header(metadata: &[(String, GgufValue)], tensors: &[TensorInfo]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        write_text(&mut out, key);
        out.extend(type_number(value).to_le_bytes());
        write_value(&mut out, value);
    }
    let mut offset = 0;
    for tensor in tensors {
        write_text(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        for &dim in tensor.shape.iter().rev() {
            out.extend((dim as u64).to_le_bytes());
        }
        out.extend(tensor.format.ggml_type().to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset = (offset + tensor.byte_len).next_multiple_of(ALIGNMENT);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    out
}

/// Zeros between the end of a tensor of `byte_len` bytes and the start of the next.
pub(super) fn padding(byte_len: usize) -> &'static [u8] {
    const ZEROS: [u8; ALIGNMENT] = [0; ALIGNMENT];
    &ZEROS[..byte_len.next_multiple_of(ALIGNMENT) - byte_len]
}

/// Integers are written in 32 bits where they fit, which is what readers of counts and ids expect.
fn type_number(value: &GgufValue) -> u32 {
    match value {
        GgufValue::Unsigned(it) => {
            if u32::try_from(*it).is_ok() {
                4
            } else {
                10
            }
        }
        GgufValue::Signed(it) => {
            if i32::try_from(*it).is_ok() {
                5
            } else {
                11
            }
        }
        GgufValue::F32(_) => 6,
        GgufValue::Bool(_) => 7,
        GgufValue::String(_) => 8,
        GgufValue::F64(_) => 12,
        GgufValue::Integers(_)
        | GgufValue::Unsigneds(_)
        | GgufValue::F32s(_)
        | GgufValue::F64s(_)
        | GgufValue::Bools(_)
        | GgufValue::Strings(_)
        | GgufValue::Nested(_) => 9,
    }
}

fn write_value(out: &mut Vec<u8>, value: &GgufValue) {
    match value {
        GgufValue::Unsigned(it) => match u32::try_from(*it) {
            Ok(narrow) => out.extend(narrow.to_le_bytes()),
            Err(_) => out.extend(it.to_le_bytes()),
        },
        GgufValue::Signed(it) => match i32::try_from(*it) {
            Ok(narrow) => out.extend(narrow.to_le_bytes()),
            Err(_) => out.extend(it.to_le_bytes()),
        },
        GgufValue::F32(it) => out.extend(it.to_le_bytes()),
        GgufValue::F64(it) => out.extend(it.to_le_bytes()),
        GgufValue::Bool(it) => out.push(u8::from(*it)),
        GgufValue::String(it) => write_text(out, it),
        GgufValue::Integers(list) if list.iter().all(|it| i32::try_from(*it).is_ok()) => {
            write_list(out, 5, list, |out, it| out.extend((*it as i32).to_le_bytes()));
        }
        GgufValue::Integers(list) => {
            write_list(out, 11, list, |out, it| out.extend(it.to_le_bytes()));
        }
        GgufValue::Unsigneds(list) => {
            write_list(out, 10, list, |out, it| out.extend(it.to_le_bytes()));
        }
        GgufValue::F32s(list) => write_list(out, 6, list, |out, it| out.extend(it.to_le_bytes())),
        GgufValue::F64s(list) => write_list(out, 12, list, |out, it| out.extend(it.to_le_bytes())),
        GgufValue::Bools(list) => write_list(out, 7, list, |out, it| out.push(u8::from(*it))),
        GgufValue::Strings(list) => write_list(out, 8, list, |out, it| write_text(out, it)),
        GgufValue::Nested(list) => write_list(out, 9, list, write_value),
    }
}

fn write_list<T>(out: &mut Vec<u8>, number: u32, list: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    out.extend(number.to_le_bytes());
    out.extend((list.len() as u64).to_le_bytes());
    for it in list {
        write(out, it);
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use minicrit_quant::Bytes;

    use super::*;
    use crate::source::gguf::Gguf;

    #[test]
    fn our_reader_reads_what_was_written() {
        let values = [
            ("u", GgufValue::Unsigned(7)),
            ("u64", GgufValue::Unsigned(1 << 40)),
            ("i", GgufValue::Signed(-7)),
            ("f", GgufValue::F32(0.5)),
            ("f64", GgufValue::F64(0.25)),
            ("yes", GgufValue::Bool(true)),
            ("text", GgufValue::String("ä\n".into())),
            ("ids", GgufValue::Integers(vec![-1, 2])),
            ("wide", GgufValue::Integers(vec![1 << 40])),
            ("scores", GgufValue::F32s(vec![1.5])),
            ("names", GgufValue::Strings(vec!["a".into(), String::new()])),
        ];
        let metadata: Vec<(String, GgufValue)> =
            values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let tensor = |name: &str, shape: &[usize]| TensorInfo {
            name: name.into(),
            shape: shape.into(),
            format: Format::F32,
            byte_len: 4 * shape.iter().product::<usize>(),
        };
        let tensors = [tensor("a", &[3]), tensor("b", &[2, 5])];
        let mut file = header(&metadata, &tensors);
        assert!(file.len().is_multiple_of(ALIGNMENT));
        for (i, tensor) in tensors.iter().enumerate() {
            file.extend(vec![i as u8 + 1; tensor.byte_len]);
            file.extend(padding(tensor.byte_len));
        }
        let read = Gguf::parse("test", Bytes::from(file)).unwrap();
        assert_eq!(read.version, 3);
        assert_eq!(read.metadata, metadata.into_iter().collect::<BTreeMap<_, _>>());
        assert_eq!(read.tensors["b"].shape, [2, 5]);
        assert_eq!(read.tensors["b"].bytes[..], [2; 40]);
    }
}
