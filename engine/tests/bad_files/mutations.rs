//! Sound files with random changes: read or refused by name, never a panic.

use minicrit_engine::{
    NamedError,
    source::{ModelFiles, SourceError, gguf::Gguf, safetensors},
};
use minicrit_testkit::files::{GgufFile, zero_safetensors};
use proptest::prelude::*;

/// One change of a file's bytes; places are taken modulo its length.
#[derive(Debug, Clone)]
enum Change {
    Set(usize, u8),
    FlipBit(usize, u8),
    /// Eight bytes, as counts, dimensions and offsets have them.
    SetNumber(usize, u64),
    Remove(usize, usize),
    Repeat(usize, usize),
    Cut(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<usize>();
    let number = prop_oneof![any::<u64>(), 0..64u64, Just(u64::MAX), Just(1 << 63), Just(1 << 32)];
    prop_oneof![
        4 => (at, any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        4 => (at, 0..8u8).prop_map(|(at, bit)| Change::FlipBit(at, bit)),
        3 => (at, number).prop_map(|(at, number)| Change::SetNumber(at, number)),
        1 => (at, 1..40usize).prop_map(|(at, len)| Change::Remove(at, len)),
        1 => (at, 1..40usize).prop_map(|(at, len)| Change::Repeat(at, len)),
        1 => at.prop_map(Change::Cut),
    ]
}

/// Applies changes to the first `reach` bytes, where the structure is.
fn apply(file: &mut Vec<u8>, changes: &[Change], reach: usize) {
    for change in changes {
        let len = file.len().min(reach);
        if len == 0 {
            return;
        }
        match *change {
            Change::Set(at, byte) => file[at % len] = byte,
            Change::FlipBit(at, bit) => file[at % len] ^= 1 << bit,
            Change::SetNumber(at, number) => {
                let at = at % len;
                for (place, byte) in file[at..].iter_mut().zip(number.to_le_bytes()) {
                    *place = byte;
                }
            }
            Change::Remove(at, count) => {
                let at = at % len;
                file.drain(at..(at + count).min(len));
            }
            Change::Repeat(at, count) => {
                let at = at % len;
                let piece = file[at..(at + count).min(len)].to_vec();
                file.splice(at..at, piece);
            }
            Change::Cut(at) => file.truncate(at % len),
        }
    }
}

fn sound_or_named(result: Result<ModelFiles, SourceError>) {
    match result {
        Ok(files) => files.tensors.values().for_each(|tensor| {
            let values: usize = tensor.shape.iter().product();
            assert_eq!(tensor.format.row_bytes(values), Some(tensor.bytes.len()));
        }),
        Err(error) => {
            assert!(!error.name().is_empty());
            assert!(!error.to_string().chars().any(|c| c.is_control() && c != '\n'));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_gguf_files(changes in prop::collection::vec(change(), 1..6)) {
        let mut file = GgufFile::tiny_llama().to_bytes();
        let reach = file.len() - 2000;
        apply(&mut file, &changes, reach);
        sound_or_named(Gguf::parse("x", file.into()).and_then(ModelFiles::from_gguf));
    }

    #[test]
    fn gguf_tensors_of_any_shape_type_and_place(
        dims in prop::collection::vec(prop_oneof![0..70u64, any::<u64>(), Just(256)], 0..6),
        ggml_type in prop_oneof![0..45u32, any::<u32>()],
        offset in prop_oneof![(0..80u64).prop_map(|it| it * 32), any::<u64>()],
    ) {
        let mut file = GgufFile::tiny_llama();
        let tensor = file.tensor("blk.0.attn_k.weight");
        (tensor.dims, tensor.ggml_type, tensor.offset) = (dims, ggml_type, offset);
        sound_or_named(Gguf::parse("x", file.to_bytes().into()).and_then(ModelFiles::from_gguf));
    }

    #[test]
    fn changed_safetensors_files(changes in prop::collection::vec(change(), 1..6)) {
        let mut file = zero_safetensors(&[("model.a", &[2, 3]), ("model.b", &[4]), ("c", &[])]);
        let reach = file.len();
        apply(&mut file, &changes, reach);
        match safetensors::parse("x", file.into()) {
            Ok(tensors) => {
                for tensor in tensors.values() {
                    let values: usize = tensor.shape.iter().product();
                    prop_assert_eq!(tensor.format.row_bytes(values), Some(tensor.bytes.len()));
                }
            }
            Err(error) => prop_assert!(!error.to_string().chars().any(|c| c.is_control() && c != '\n')),
        }
    }
}
