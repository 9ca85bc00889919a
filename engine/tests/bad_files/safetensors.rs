//! Broken safetensors files.

use minicrit_engine::source::safetensors::parse;
use minicrit_testkit::files::{safetensors_file, safetensors_file_with_len, zero_safetensors};

use crate::Checks;

const BAD: &str = "bad-safetensors";

/// An entry of one float32 number at bytes 0..4.
const ONE: &str = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;

#[test]
fn broken_frames_are_refused() {
    let mut checks = Checks::default();
    let sound = zero_safetensors(&[("a", &[1])]);
    let header = &sound[8..sound.len() - 4];
    for (case, file, says) in [
        ("empty file", vec![], "fewer than the 8"),
        ("seven bytes", vec![0; 7], "it has 7 bytes"),
        ("no header", vec![0; 8], "start with `{`"),
        (
            "header longer than the file",
            safetensors_file_with_len(1000, header, &[]),
            "needs 1000 bytes",
        ),
        (
            "header one byte longer",
            safetensors_file_with_len(3, b"{}", &[]),
            "needs 3 bytes, but 2",
        ),
        (
            "header of more than 100 MB",
            safetensors_file_with_len(100_000_001, header, &[]),
            "more than 100000000",
        ),
        (
            "header of 2^64 - 1 bytes",
            safetensors_file_with_len(u64::MAX, header, &[]),
            "more than 100000000",
        ),
        (
            "header of 2^63 bytes",
            safetensors_file_with_len(1 << 63, header, &[]),
            "more than 100000000",
        ),
        (
            "header of 2^64 - 8 bytes",
            safetensors_file_with_len(u64::MAX - 7, header, &[]),
            "more than",
        ),
        ("header not UTF-8", safetensors_file_with_len(7, b"{\"\xff\":1}", &[]), "not UTF-8"),
        (
            "header cut inside a character",
            safetensors_file_with_len(3, b"{\"\xc3\xa9\":1}", &[]),
            "not UTF-8",
        ),
        ("a GGUF file", b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0".to_vec(), "more than"),
        ("text", b"not a model, just a text".to_vec(), "more than"),
    ] {
        checks.refused(case, BAD, says, || parse("x", file.into()));
    }
    for (case, header, says) in [
        ("a list", "[]", "start with `{`"),
        ("space in front", " {}", "start with `{`"),
        ("byte order mark", "\u{feff}{}", "start with `{`"),
        ("cut JSON", "{", "EOF"),
        ("JSON after JSON", "{}{}", "trailing characters"),
        ("a word after JSON", "{} x", "trailing characters"),
        ("zeros as padding", "{}\0\0", "trailing characters"),
        ("a comma at the end", r#"{"a":1,}"#, "trailing comma"),
        ("a bare key", "{a:1}", "key must be a string"),
        ("half a surrogate pair", r#"{"\ud800":1}"#, "hex escape"),
        ("half a pair and a letter", r#"{"\ud800\u0041":1}"#, "surrogate"),
        ("a control character in a text", "{\"a\u{1}\":1}", "control character"),
    ] {
        checks.refused(case, BAD, says, || parse("x", safetensors_file(header, &[]).into()));
    }
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    checks.refused("deep JSON", BAD, "", || parse("x", safetensors_file(&deep, &[]).into()));
    let many = (0..100_001)
        .map(|i| format!(r#""{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#));
    let many = format!("{{{}}}", many.collect::<Vec<_>>().join(","));
    checks.refused("100,001 tensors", BAD, "more than 100000", || {
        parse("x", safetensors_file(&many, &[]).into())
    });
    checks.finish(25);
}

#[test]
fn broken_names_and_metadata_are_refused() {
    let mut checks = Checks::default();
    let long = "n".repeat(513);
    for (case, name, says) in [
        ("empty name", "", "name is empty"),
        ("zero in a name", r"a\u0000b", "control characters"),
        ("escape sequence in a name", r"\u001b[31mred", "control characters"),
        ("line break in a name", r"a\nb", "control characters"),
        ("C1 control in a name", "a\u{85}b", "control characters"),
        ("delete in a name", "a\u{7f}", "control characters"),
        ("long name", &long, "more than 512"),
    ] {
        let header = format!(r#"{{"{name}":{ONE}}}"#);
        checks.refused(case, BAD, says, || parse("x", safetensors_file(&header, &[0; 4]).into()));
    }
    for (case, entries, says) in [
        ("a name twice", format!(r#""a":{ONE},"a":{ONE}"#), "\"a\" stands there twice"),
        (
            "a name twice, once escaped",
            format!(r#""a":{ONE},"\u0061":{ONE}"#),
            "stands there twice",
        ),
        (
            "metadata twice",
            format!(r#""__metadata__":{{}},"a":{ONE},"__metadata__":{{}}"#),
            "stands there twice",
        ),
        (
            "metadata with a number",
            format!(r#""__metadata__":{{"k":1}},"a":{ONE}"#),
            "unique texts",
        ),
        (
            "metadata with an object",
            format!(r#""__metadata__":{{"k":{{}}}},"a":{ONE}"#),
            "unique texts",
        ),
        ("metadata as a list", format!(r#""__metadata__":[],"a":{ONE}"#), "unique texts"),
        ("metadata null", format!(r#""__metadata__":null,"a":{ONE}"#), "unique texts"),
        (
            "metadata key twice",
            format!(r#""__metadata__":{{"k":"1","k":"2"}},"a":{ONE}"#),
            "\"k\" stands there twice",
        ),
    ] {
        let header = format!("{{{entries}}}");
        checks.refused(case, BAD, says, || parse("x", safetensors_file(&header, &[0; 4]).into()));
    }
    checks.finish(15);
}

#[test]
fn broken_entries_are_refused() {
    let mut checks = Checks::default();
    for (case, entry, says) in [
        ("a number", "1", "invalid type"),
        ("null", "null", "invalid type"),
        ("empty", "{}", "missing field"),
        ("no dtype", r#"{"shape":[1],"data_offsets":[0,4]}"#, "missing field `dtype`"),
        ("no shape", r#"{"dtype":"F32","data_offsets":[0,4]}"#, "missing field `shape`"),
        ("no offsets", r#"{"dtype":"F32","shape":[1]}"#, "missing field `data_offsets`"),
        (
            "unknown field",
            r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4],"scale":2}"#,
            "unknown field `scale`",
        ),
        (
            "field twice",
            r#"{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}"#,
            "duplicate field `dtype`",
        ),
        ("dtype a number", r#"{"dtype":32,"shape":[1],"data_offsets":[0,4]}"#, "invalid type"),
        ("dtype null", r#"{"dtype":null,"shape":[1],"data_offsets":[0,4]}"#, "invalid type"),
        ("shape a number", r#"{"dtype":"F32","shape":1,"data_offsets":[0,4]}"#, "invalid type"),
        ("shape null", r#"{"dtype":"F32","shape":null,"data_offsets":[0,4]}"#, "invalid type"),
        (
            "a float dimension",
            r#"{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}"#,
            "invalid type",
        ),
        (
            "a dimension with exponent",
            r#"{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}"#,
            "invalid type",
        ),
        ("a negative dimension", r#"{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}"#, "invalid"),
        (
            "two negative dimensions",
            r#"{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}"#,
            "invalid",
        ),
        (
            "a dimension as text",
            r#"{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}"#,
            "invalid type",
        ),
        (
            "a dimension of 2^64",
            r#"{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]}"#,
            "invalid",
        ),
        (
            "a dimension of NaN",
            r#"{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}"#,
            "expected value",
        ),
        ("one offset", r#"{"dtype":"F32","shape":[1],"data_offsets":[4]}"#, "invalid length"),
        ("three offsets", r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}"#, "trailing"),
        ("a negative offset", r#"{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}"#, "invalid"),
        (
            "a float offset",
            r#"{"dtype":"F32","shape":[1],"data_offsets":[0.0,4.0]}"#,
            "invalid type",
        ),
        (
            "offsets in reverse",
            r#"{"dtype":"F32","shape":[1],"data_offsets":[4,0]}"#,
            "4..0 lie outside",
        ),
        (
            "end past the file",
            r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#,
            "outside the file's 4 bytes",
        ),
        (
            "end of 2^64 - 1",
            r#"{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}"#,
            "outside",
        ),
        ("start past the file", r#"{"dtype":"F32","shape":[0],"data_offsets":[5,5]}"#, "outside"),
        (
            "more bytes than the shape",
            r#"{"dtype":"F16","shape":[1],"data_offsets":[0,4]}"#,
            "needs 2 bytes, but it has 4",
        ),
        (
            "fewer bytes than the shape",
            r#"{"dtype":"F32","shape":[2],"data_offsets":[0,4]}"#,
            "needs 8 bytes, but it has 4",
        ),
        (
            "bytes of an empty tensor",
            r#"{"dtype":"F32","shape":[0,3],"data_offsets":[0,4]}"#,
            "needs 0 bytes",
        ),
        (
            "product of 2^64",
            r#"{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}"#,
            "too large",
        ),
        (
            "product of 2^64 + 1 values",
            r#"{"dtype":"F32","shape":[274177,67280421310721],"data_offsets":[0,4]}"#,
            "too large",
        ),
        (
            "bytes of 2^64",
            r#"{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4]}"#,
            "too large",
        ),
        (
            "zero hides an overflow",
            r#"{"dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0]}"#,
            "too large",
        ),
        (
            "zero at the end hides one",
            r#"{"dtype":"F32","shape":[9223372036854775808,4,0],"data_offsets":[0,0]}"#,
            "too large",
        ),
        (
            "nine dimensions",
            r#"{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}"#,
            "9 dimensions",
        ),
    ] {
        let header = format!(r#"{{"a":{entry}}}"#);
        checks.refused(case, BAD, says, || parse("x", safetensors_file(&header, &[0; 4]).into()));
    }
    checks.finish(36);
}

#[test]
fn tensors_that_do_not_tile_the_data_are_refused() {
    let mut checks = Checks::default();
    let file = |spans: &[(usize, usize)], len: usize| {
        let entries = spans.iter().enumerate().map(|(i, (start, end))| {
            let values = (end - start) / 4;
            format!(r#""t{i}":{{"dtype":"F32","shape":[{values}],"data_offsets":[{start},{end}]}}"#)
        });
        safetensors_file(&format!("{{{}}}", entries.collect::<Vec<_>>().join(",")), &vec![0; len])
    };
    for (case, spans, len, says) in [
        ("overlap", &[(0, 8), (4, 12)][..], 12, "\"t0\" and \"t1\" overlap"),
        ("same bytes", &[(0, 8), (0, 8)], 8, "overlap"),
        ("one inside another", &[(0, 12), (4, 8)], 12, "overlap"),
        ("overlap with one before the last", &[(0, 12), (4, 8), (8, 16)], 16, "overlap"),
        ("hole at the start", &[(4, 8)], 8, "bytes 0..4"),
        ("hole in the middle", &[(0, 4), (8, 12)], 12, "bytes 4..8"),
        ("bytes at the end", &[(0, 4)], 5, "the last 1 bytes"),
        ("bytes of nothing", &[], 16, "the last 16 bytes"),
    ] {
        checks.refused(case, BAD, says, || parse("x", file(spans, len).into()));
    }
    checks.finish(8);
}

#[test]
fn types_that_are_not_run_are_listed_once_each() {
    let mut checks = Checks::default();
    for dtype in ["F64", "I64", "I32", "U8", "BOOL", "F8_E4M3", "F4", "f32", "Q4_0", ""] {
        let header = format!(r#"{{"a":{{"dtype":"{dtype}","shape":[1],"data_offsets":[0,4]}}}}"#);
        let says = format!("{dtype:?} (1)");
        checks.refused(dtype, "unsupported-format", &says, || {
            parse("x", safetensors_file(&header, &[0; 4]).into())
        });
    }
    let entry = |name: &str, dtype: &str, at: usize| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":[4],"data_offsets":[{at},{}]}}"#, at + 4)
    };
    let header =
        format!("{{{},{},{}}}", entry("a", "I8", 0), entry("b", "U8", 4), entry("c", "I8", 8));
    let file = safetensors_file(&header, &[0; 12]);
    checks.refused("three", "unsupported-format", r#""I8" (2), "U8" (1)"#, || {
        parse("x", file.into())
    });
    checks.finish(11);
}

#[test]
fn all_problems_of_a_file_are_listed_at_once() {
    let bad = r#"{"dtype":"F32","shape":[3],"data_offsets":[0,4]}"#;
    let entries = (0..25).map(|i| format!(r#""t{i:02}":{bad}"#)).collect::<Vec<_>>().join(",");
    let error =
        parse("x", safetensors_file(&format!("{{{entries}}}"), &[0; 4]).into()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("25 problems"), "{text}");
    assert!(text.contains("tensor \"t00\"") && text.contains("tensor \"t19\""), "{text}");
    assert!(!text.contains("t20") && text.ends_with("and 5 more"), "{text}");
}

#[test]
fn every_prefix_of_a_file_is_refused() {
    let names: Vec<String> = (0..16).map(|i| format!("model.layers.{i}.weight")).collect();
    let tensors: Vec<(&str, &[usize])> =
        names.iter().map(|name| (name.as_str(), &[2usize, 3][..])).collect();
    let file = zero_safetensors(&tensors);
    assert!(file.len() > 1500 && parse("x", file.clone().into()).is_ok());
    let mut checks = Checks::default();
    for len in 0..file.len() {
        checks
            .refused(&format!("{len} bytes"), BAD, "", || parse("x", file[..len].to_vec().into()));
    }
    checks.finish(1500);
}
