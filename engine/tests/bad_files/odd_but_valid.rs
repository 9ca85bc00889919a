//! Files that look odd and are sound: refusing one would be a bug too.

use std::fs;

use minicrit_engine::source::{
    ModelFiles,
    gguf::{Gguf, GgufValue},
    safetensors,
};
use minicrit_testkit::files::{GgufField, GgufFile, safetensors_file, zero_safetensors};

use crate::{Checks, done};

#[test]
fn odd_safetensors_are_read() {
    let mut checks = Checks::default();
    let one = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let long_name = "n".repeat(512);
    for (case, header, data_len, num_tensors) in [
        ("no tensors", "{}".to_owned(), 0, 0),
        ("metadata alone", r#"{"__metadata__":{"format":"pt"}}"#.to_owned(), 0, 0),
        ("empty metadata", format!(r#"{{"__metadata__":{{}},"a":{one}}}"#), 4, 1),
        ("metadata at the end", format!(r#"{{"a":{one},"__metadata__":{{"x":"y"}}}}"#), 4, 1),
        ("control characters in metadata", format!(r#"{{"a":{one},"__metadata__":{{"x":"\u001b\u0000"}}}}"#), 4, 1),
        ("padding of spaces", format!(r#"{{"a":{one}}}      "#), 4, 1),
        ("line breaks in the header", format!("{{\r\n\t\"a\" : {one}\r\n}}\r\n"), 4, 1),
        ("an odd header length", format!(r#"{{"a":{one}}} "#), 4, 1),
        ("a scalar", r#"{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#.to_owned(), 4, 1),
        ("an empty tensor", r#"{"a":{"dtype":"F16","shape":[0,5],"data_offsets":[0,0]}}"#.to_owned(), 0, 1),
        ("fields in another order", r#"{"a":{"data_offsets":[0,2],"shape":[1],"dtype":"BF16"}}"#.to_owned(), 2, 1),
        ("a name of 512 characters", format!(r#"{{"{long_name}":{one}}}"#), 4, 1),
        ("a name that looks like a path", format!(r#"{{"../../etc/passwd":{one}}}"#), 4, 1),
        ("a name in Unicode", format!(r#"{{"вес.重み.\ud83d\ude00":{one}}}"#), 4, 1),
        ("eight dimensions", r#"{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}"#.to_owned(), 4, 1),
        (
            "tensors against the order of their bytes",
            format!(r#"{{"b":{{"dtype":"F32","shape":[1],"data_offsets":[4,8]}},"a":{one}}}"#),
            8,
            2,
        ),
        (
            "unaligned data",
            r#"{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#
                .to_owned(),
            6,
            2,
        ),
        (
            "empty tensors between others",
            format!(
                r#"{{"a":{one},"e":{{"dtype":"F32","shape":[0],"data_offsets":[4,4]}},"f":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}}}"#
            ),
            4,
            3,
        ),
    ] {
        let file = safetensors_file(&header, &vec![0; data_len]);
        if let Some(tensors) = checks.accepted(case, || safetensors::parse("x", file.into())) {
            assert_eq!(tensors.len(), num_tensors, "{case}");
        }
    }
    checks.finish(18);
}

#[test]
fn odd_gguf_files_are_read() {
    let mut checks = Checks::default();
    type Change = fn(&mut GgufFile);
    let cases: [(&str, Change); 17] = [
        ("version 2", |it| it.version = 2),
        ("unknown keys", |it| {
            done(it.push("x.y", 1u8).push("X Y", "").push("a.b", -1i64).push("é", 2.5f64))
        }),
        ("a text of escapes", |it| done(it.push("general.name", "\u{1b}[31m\0"))),
        ("empty lists", |it| {
            done(it.push("a", GgufField::array(8, 0, &[])).push("b", GgufField::array(9, 0, &[])))
        }),
        ("lists of lists", |it| {
            let inner = GgufField::i32s(&[1, 2]).bytes;
            it.push("a", GgufField::array(9, 2, &[inner.clone(), inner].concat()));
        }),
        ("alignment 8", |it| done(it.set("general.alignment", 8u32))),
        ("alignment 64", |it| {
            it.set("general.alignment", 64u32);
            it.alignment = 64;
            let tensors = std::mem::take(&mut it.tensors);
            it.data.clear();
            for tensor in tensors {
                it.add_zeros(std::str::from_utf8(&tensor.name).unwrap(), &tensor.dims);
            }
        }),
        ("tensors in another order", |it| it.tensors.reverse()),
        ("metadata in another order", |it| it.entries.reverse()),
        ("padding at the end", |it| it.data.extend([0; 32])),
        ("a name of 63 bytes", |it| done(it.add_zeros(&"n".repeat(63), &[1]))),
        ("four dimensions", |it| done(it.add_zeros("x", &[2, 1, 2, 1]))),
        ("tied embeddings", |it| {
            let output = it.tensors.remove(2);
            it.add_zeros("x", &[8, 6]);
            it.tensors.last_mut().unwrap().offset = output.offset;
            it.data.truncate(it.data.len() - 192);
        }),
        ("counts as u64 and i32", |it| {
            it.set("llama.block_count", 1u64).set("llama.context_length", 32i32);
        }),
        ("heads as a list", |it| done(it.set("llama.attention.head_count", GgufField::i32s(&[2])))),
        ("a window of zero", |it| done(it.set("llama.attention.sliding_window", 0u32))),
        ("one part", |it| done(it.set("split.count", 1u16).set("general.type", "model"))),
    ];
    for (case, change) in cases {
        let mut file = GgufFile::tiny_llama();
        change(&mut file);
        let bytes = file.to_bytes();
        checks.accepted(case, || ModelFiles::from_gguf(Gguf::parse("x", bytes.into())?));
    }
    checks.finish(17);
}

#[test]
fn values_of_every_type_are_read() {
    let mut file = GgufFile::empty();
    file.push("u8", 200u8).push("i8", -3i8).push("u16", 60_000u16).push("i16", -300i16);
    file.push("u32", u32::MAX).push("i32", -7i32).push("u64", u64::MAX).push("i64", i64::MIN);
    file.push("f32", 1e-6f32).push("f64", 0.1f64).push("bool", true).push("text", "é");
    file.push("texts", GgufField::strings(&["a", "", "ü"])).push("i32s", GgufField::i32s(&[-1, 2]));
    file.push("f32s", GgufField::array(6, 1, &0.5f32.to_le_bytes()));
    let gguf = Gguf::parse("x", file.to_bytes().into()).unwrap();
    let get = |key: &str| gguf.get(key).unwrap();
    assert_eq!(get("u8").as_u64(), Some(200));
    assert_eq!(get("i8"), &GgufValue::Signed(-3));
    assert_eq!((get("i8").as_u64(), get("i8").as_f64()), (None, Some(-3.0)));
    assert_eq!(get("u16").as_u64(), Some(60_000));
    assert_eq!(get("i16"), &GgufValue::Signed(-300));
    assert_eq!(get("u32").as_u64(), Some(u64::from(u32::MAX)));
    assert_eq!(get("i32").as_f64(), Some(-7.0));
    assert_eq!(get("u64").as_u64(), Some(u64::MAX));
    assert_eq!(get("i64"), &GgufValue::Signed(i64::MIN));
    assert_eq!(get("f32").as_f64(), Some(1e-6));
    assert_eq!(get("f64").as_f64(), Some(0.1));
    assert_eq!(get("bool").as_bool(), Some(true));
    assert_eq!(get("text").as_str(), Some("é"));
    assert_eq!(get("texts").as_strings().unwrap(), ["a", "", "ü"]);
    assert_eq!(get("i32s").as_i64s().unwrap(), [-1, 2]);
    assert_eq!(get("f32s").as_f32s().unwrap(), [0.5]);
    assert_eq!(
        (get("text").as_u64(), get("u8").as_str(), get("i32s").as_f32s()),
        (None, None, None)
    );
}

#[test]
fn odd_folders_are_read() {
    let mut checks = Checks::default();
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, bytes: &[u8]| fs::write(folder.path().join(file), bytes).unwrap();
    write("model.safetensors", &zero_safetensors(&[("a", &[2])]));
    for (case, config) in [
        ("byte order mark", "\u{feff}{\"a\":1}"),
        ("CRLF", "{\r\n  \"a\": 1\r\n}\r\n"),
        ("no line break at the end", "{\"a\":1}"),
        ("empty object", "{}"),
        (
            "code that we never run",
            r#"{"auto_map":{"AutoModel":"x.Evil"},"trust_remote_code":true}"#,
        ),
        (
            "large and small numbers",
            r#"{"a":1e308,"b":18446744073709551615,"c":-9223372036854775808}"#,
        ),
        ("a hundred deep", &format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100))),
        ("keys that look alike", r#"{"a":1,"A":1,"а":1,"a ":1,"":1}"#),
    ] {
        write("config.json", config.as_bytes());
        checks.accepted(case, || ModelFiles::open(folder.path()));
    }
    write("tokenizer_config.json", br#"{"chat_template":"from the config"}"#);
    write("chat_template.json", br#"{"chat_template":"from its json"}"#);
    let template =
        |checks: &mut Checks| checks.accepted("template", || ModelFiles::open(folder.path()));
    assert_eq!(template(&mut checks).unwrap().chat_template.unwrap(), "from the config");
    write("tokenizer_config.json", br#"{"chat_template":null}"#);
    assert_eq!(template(&mut checks).unwrap().chat_template.unwrap(), "from its json");
    write("chat_template.jinja", "\u{feff}from jinja\r\n".as_bytes());
    assert_eq!(template(&mut checks).unwrap().chat_template.unwrap(), "from jinja\r\n");
    write("pytorch_model.bin", b"\x80");
    write("other.gguf", b"not opened");
    write("model.safetensors.index.json", b"not opened: one file goes before an index");
    checks.accepted("files beside the weights", || ModelFiles::open(folder.path()));
    checks.finish(12);
}
