//! Broken GGUF files: the container.

use minicrit_engine::source::gguf::Gguf;
use minicrit_testkit::files::{GgufField, GgufFile, GgufTensor};

use crate::Checks;

const BAD: &str = "bad-gguf";

fn parse(bytes: Vec<u8>) -> Result<Gguf, minicrit_engine::source::SourceError> {
    Gguf::parse("x.gguf", bytes.into())
}

/// The tiny model with one change.
fn changed(change: impl FnOnce(&mut GgufFile)) -> Vec<u8> {
    let mut file = GgufFile::tiny_llama();
    change(&mut file);
    file.to_bytes()
}

#[test]
fn what_is_not_gguf_is_named() {
    let mut checks = Checks::default();
    for (case, bytes, says) in [
        ("empty", &b""[..], "it is empty"),
        ("three bytes", b"GGU", "instead of \"GGUF\""),
        ("another magic", b"GGML\x03\0\0\0", "instead of \"GGUF\""),
        ("magic in reverse", b"FUGG\x03\0\0\0", "instead of \"GGUF\""),
        ("a pickle", b"\x80\x02}q\x01", "pickle"),
        ("a zip of pickles", b"PK\x03\x04....", "pickle"),
        ("a pointer", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        ("a web page", b"<!doctype html>", "web page"),
        ("bytes to escape", b"\x1b[2J....", "\\\\x1b[2J"),
    ] {
        checks.refused(case, "not-a-model", says, || parse(bytes.to_vec()));
    }
    for (version, says) in [
        (0u32, "version 0"),
        (1, "version 1, of early 2023"),
        (4, "version 4;"),
        (3u32.swap_bytes(), "version 3, big-endian"),
        (2u32.swap_bytes(), "version 2, big-endian"),
        (u32::MAX, "version 4294967295"),
    ] {
        let file = changed(|it| it.version = version);
        checks.refused(&format!("version {version}"), "gguf-version", says, || parse(file));
    }
    checks.finish(15);
}

#[test]
fn counts_are_compared_with_the_file_before_anything_is_allocated() {
    let mut checks = Checks::default();
    for count in [1 << 20, 1 << 40, u64::MAX, u64::MAX / 32 + 1] {
        let file = changed(|it| it.num_tensors = Some(count));
        checks.refused(&format!("{count} tensors"), BAD, "the number of tensors", || parse(file));
        let file = changed(|it| it.num_entries = Some(count));
        checks.refused(&format!("{count} entries"), BAD, "the number of metadata entries", || {
            parse(file)
        });
        let file = changed(|it| {
            it.push("list", GgufField::array(8, count, &[]));
        });
        checks.refused(&format!("{count} texts"), BAD, "an array's length", || parse(file));
        let file = changed(|it| {
            it.push("text", GgufField::raw(8, count.to_le_bytes()));
        });
        checks.refused(&format!("text of {count}"), BAD, "a text's length", || parse(file));
    }
    let file = changed(|it| it.num_tensors = Some(it.tensors.len() as u64 + 1));
    checks.refused("one tensor too many", BAD, "", || parse(file));
    let file = changed(|it| it.num_entries = Some(it.entries.len() as u64 + 1));
    checks.refused("one entry too many", BAD, "", || parse(file));
    let file = changed(|it| it.num_entries = Some(it.entries.len() as u64 - 1));
    checks.refused("one entry too few", BAD, "", || parse(file));
    let file = changed(|it| {
        it.num_tensors = Some(100_001);
        it.data = vec![0; 4 << 20];
    });
    checks.refused("100,001 tensors", BAD, "more than 100000", || parse(file));
    let bomb = changed(|it| {
        it.push("bomb", GgufField::array(0, 68 << 20, &vec![0; 68 << 20]));
    });
    checks.refused("numbers of 544 MiB in memory", BAD, "more than 512 MiB", || parse(bomb));
    let empty_texts = changed(|it| {
        it.push("bomb", GgufField::array(8, 23 << 20, &vec![0; 8 * (23 << 20)]));
    });
    checks.refused("empty texts of 552 MiB in memory", BAD, "more than 512 MiB", || {
        parse(empty_texts)
    });
    checks.finish(22);
}

#[test]
fn broken_metadata_are_refused() {
    let mut checks = Checks::default();
    let long_key = "k".repeat((64 << 10) + 1);
    let nested = |depth: usize| {
        // The innermost array is of one byte.
        (1..depth)
            .fold(GgufField::array(0, 1, &[7]), |inner, _| GgufField::array(9, 1, &inner.bytes))
    };
    let keys: [(&str, &[u8], &str); 5] = [
        ("empty key", b"", "is empty"),
        ("key with a zero", b"a\0b", "control characters"),
        ("key with an escape", b"a\x1b[31m", "control characters"),
        ("key not UTF-8", b"a\xff", "not UTF-8"),
        ("long key", long_key.as_bytes(), "more than 65536"),
    ];
    for (case, key, says) in keys {
        let file = changed(|it| {
            it.push(key, 1u32);
        });
        checks.refused(case, BAD, says, || parse(file));
    }
    for (case, value, says) in [
        ("value type 13", GgufField::raw(13, [0; 8]), "value type 13"),
        ("value type 2^32 - 1", GgufField::raw(u32::MAX, [0; 8]), "value type 4294967295"),
        ("bool of 2", GgufField::raw(7, [2]), "bool with the value 2"),
        ("bools of 255", GgufField::array(7, 2, &[1, 255]), "bool with the value 255"),
        ("text not UTF-8", GgufField::text(b"\xc3\x28"), "not UTF-8"),
        ("text cut inside a character", GgufField::text(b"\xe2\x82"), "not UTF-8"),
        ("texts not UTF-8", GgufField::array(8, 1, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff]), "not UTF-8"),
        ("element type 13", GgufField::array(13, 1, &[0; 8]), "value type 13"),
        ("arrays three deep", nested(3), "more than 2 deep"),
        ("arrays a thousand deep", nested(1000), "more than 2 deep"),
        (
            "empty arrays three deep",
            GgufField::array(9, 1, &GgufField::array(9, 1, &[0; 12]).bytes),
            "deep",
        ),
    ] {
        let file = changed(|it| {
            it.push("key", value);
        });
        checks.refused(case, BAD, says, || parse(file));
    }
    let file = changed(|it| {
        it.push("llama.block_count", 1u32);
    });
    checks.refused("a key twice", BAD, "\"llama.block_count\" stands there twice", || parse(file));
    let file = changed(|it| {
        it.push("k", 1u32).push("k", "two");
    });
    checks.refused("a key twice with two types", BAD, "\"k\" stands there twice", || parse(file));
    checks.finish(18);
}

#[test]
fn alignments_that_no_file_can_have_are_refused() {
    let mut checks = Checks::default();
    let says = "not a power of two from 8 to 65536";
    for alignment in [0u32, 1, 3, 4, 7, 24, 33, 65_537, 1 << 17, 1 << 31, u32::MAX] {
        let file = changed(|it| {
            it.set("general.alignment", alignment);
        });
        checks.refused(&format!("alignment {alignment}"), BAD, says, || parse(file));
    }
    for (case, value) in [
        ("u64", GgufField::from(32u64)),
        ("i32", GgufField::from(32i32)),
        ("u8", GgufField::from(32u8)),
        ("f32", GgufField::from(32f32)),
        ("text", GgufField::from("32")),
        ("bool", GgufField::from(true)),
        ("list", GgufField::i32s(&[32])),
    ] {
        let file = changed(|it| {
            it.set("general.alignment", value);
        });
        checks.refused(case, BAD, "not a u32", || parse(file));
    }
    // The smallest file that divides by zero in candle 0.11.1 (huggingface/candle#3876).
    let mut smallest = GgufFile::empty();
    smallest.set("general.alignment", 0u32);
    let smallest = smallest.to_bytes();
    assert_eq!(smallest.len(), 57);
    checks.refused("57 bytes", BAD, says, || parse(smallest));
    checks.finish(19);
}

#[test]
fn broken_tensors_are_refused() {
    let mut checks = Checks::default();
    const Q: &str = "blk.0.attn_q.weight";
    type Change = fn(&mut GgufTensor);
    let cases: [(&str, Change, &str); 26] = [
        ("empty name", |it| it.name.clear(), "is empty"),
        ("name of 64 bytes", |it| it.name = vec![b'n'; 64], "more than 63"),
        ("name with a zero", |it| it.name = b"a\0".to_vec(), "control characters"),
        ("name not UTF-8", |it| it.name = b"\xff".to_vec(), "not UTF-8"),
        (
            "another tensor's name",
            |it| it.name = b"output.weight".to_vec(),
            "\"output.weight\" stands there twice",
        ),
        ("no dimensions", |it| it.dims.clear(), "0 dimensions"),
        ("five dimensions", |it| it.dims = vec![8, 8, 1, 1, 1], "5 dimensions"),
        ("a dimension of 0", |it| it.dims = vec![8, 0], "dimension of 0"),
        ("zero hides an overflow", |it| it.dims = vec![u64::MAX, 0], "dimension of 0"),
        ("a dimension too large", |it| it.dims = vec![8, 9], "overlap"),
        ("a dimension too small", |it| it.dims = vec![8, 2], "belong to nothing"),
        ("one huge dimension", |it| it.dims = vec![1 << 40], "past the file's end"),
        ("a dimension of 2^64 - 1", |it| it.dims = vec![u64::MAX], "too large"),
        ("a dimension of 2^63", |it| it.dims = vec![1 << 63, 1], "too large"),
        ("product of 2^64", |it| it.dims = vec![1 << 32, 1 << 32], "too large"),
        ("product of 2^64 in four", |it| it.dims = vec![1 << 16; 4], "too large"),
        ("product of 2^64 + 1", |it| it.dims = vec![274_177, 67_280_421_310_721], "too large"),
        ("bytes of 2^64", |it| it.dims = vec![1 << 62], "too large"),
        ("rows shorter than a block", |it| it.ggml_type = 8, "blocks of 32 (q8_0) do not divide"),
        (
            "rows not of whole blocks",
            |it| (it.ggml_type, it.dims) = (12, vec![320]),
            "blocks of 256 (q4_k)",
        ),
        ("offset not aligned", |it| it.offset += 4, "not a multiple of 32"),
        ("offset of the file's end", |it| it.offset = 1 << 20, "past the file's end"),
        ("offset of 2^64 - 32", |it| it.offset = u64::MAX - 31, "past the file's end"),
        ("offset of 2^63", |it| it.offset = 1 << 63, "past the file's end"),
        ("offset of another tensor", |it| it.offset = 0, "overlap"),
        ("offset inside another tensor", |it| it.offset -= 32, "overlap"),
    ];
    for (case, change, says) in cases {
        let file = changed(|it| change(it.tensor(Q)));
        checks.refused(case, BAD, says, || parse(file));
    }
    let file = changed(|it| {
        it.remove_tensor(Q);
    });
    checks.refused("bytes of no tensor", BAD, "belong to nothing", || parse(file));
    let file = changed(|it| {
        it.data.pop();
    });
    checks.refused("one byte missing", BAD, "past the file's end", || parse(file));
    let file = changed(|it| it.data.clear());
    checks.refused("no data", BAD, "12 problems", || parse(file));
    checks.finish(29);
}

#[test]
fn types_that_are_not_run_are_listed_once_each() {
    let mut checks = Checks::default();
    for (number, name) in [
        (4, "Q4_2 (1)"),
        (9, "Q8_1 (1)"),
        (10, "Q2_K (1)"),
        (11, "Q3_K (1)"),
        (15, "Q8_K (1)"),
        (16, "IQ2_XXS (1)"),
        (20, "IQ4_NL (1)"),
        (23, "IQ4_XS (1)"),
        (26, "I32 (1)"),
        (28, "F64 (1)"),
        (31, "Q4_0_4_4 (1)"),
        (34, "TQ1_0 (1)"),
        (39, "MXFP4 (1)"),
        (99, "type 99 (1)"),
        (u32::MAX, "type 4294967295 (1)"),
    ] {
        let file = changed(|it| it.tensor("output.weight").ggml_type = number);
        checks.refused(name, "unsupported-format", name, || parse(file));
    }
    let file = changed(|it| {
        it.tensor("output.weight").ggml_type = 20;
        it.tensor("blk.0.ffn_up.weight").ggml_type = 20;
        it.tensor("token_embd.weight").ggml_type = 39;
    });
    checks.refused("two types", "unsupported-format", "IQ4_NL (2), MXFP4 (1)", || parse(file));
    checks.finish(16);
}

#[test]
fn every_prefix_of_a_file_is_refused() {
    let file = GgufFile::tiny_llama().to_bytes();
    assert!(file.len() > 2000 && parse(file.clone()).is_ok());
    let mut checks = Checks::default();
    for len in 0..file.len() {
        let name = if len < 4 { "not-a-model" } else { BAD };
        checks.refused(&format!("{len} bytes"), name, "", || parse(file[..len].to_vec()));
    }
    checks.finish(2000);
}
