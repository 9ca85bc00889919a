#!/usr/bin/env python3
"""Writes the named files of the fuzz corpus: small ones that must be accepted (good*) or refused (bad*).

    python fuzz/make_corpus.py

Only the standard library is used, and the files are always the same.
"""

import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus"


def write(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


# safetensors

def safetensors(header, data=b"", length=None):
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype, shape, start, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def make_safetensors():
    def out(name, *args, **kwargs):
        write("safetensors_header", name, safetensors(*args, **kwargs))

    f32 = tensor("F32", [2, 2], 0, 16)
    out("good_one", {"a": f32}, bytes(16))
    out("good_metadata", {"__metadata__": {"format": "pt"}, "a": f32, "b": tensor("BF16", [2], 16, 20)}, bytes(20))
    out("good_no_elements", {"a": tensor("F16", [0, 4], 0, 0), "b": tensor("F32", [1], 0, 4)}, bytes(4))
    write("safetensors_header", "bad_empty", b"")
    write("safetensors_header", "bad_seven_bytes", bytes(7))
    out("bad_length_huge", {"a": f32}, bytes(16), length=2**63)
    out("bad_length_all_ones", {"a": f32}, bytes(16), length=2**64 - 1)
    out("bad_length_beyond_file", {"a": f32}, bytes(16), length=4096)
    out("bad_not_json", "{", b"")
    out("bad_not_an_object", "[]", b"")
    out("bad_nested", "[" * 200 + "]" * 200, b"")
    out("bad_duplicate", '{"a":%s,"a":%s}' % ((json.dumps(f32),) * 2), bytes(16))
    out("bad_overlap", {"a": f32, "b": tensor("F32", [2, 2], 8, 24)}, bytes(24))
    out("bad_hole", {"a": f32, "b": tensor("F32", [1], 20, 24)}, bytes(24))
    out("bad_trailing", {"a": f32}, bytes(17))
    out("bad_short", {"a": f32}, bytes(15))
    out("bad_backwards", {"a": tensor("F32", [2, 2], 16, 0)}, bytes(16))
    out("bad_shape_overflow", {"a": tensor("F32", [2**32, 2**32, 2**32], 0, 16)}, bytes(16))
    out("bad_shape_mismatch", {"a": tensor("F32", [3], 0, 16)}, bytes(16))
    out("bad_negative", '{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', bytes(4))
    out("bad_float_shape", '{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}', bytes(4))
    out("bad_dtype", {"a": tensor("F33", [1], 0, 4)}, bytes(4))
    out("bad_utf8", '{"a', b"\xff\xfe\xff")


# GGUF

U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key, kind, value):
    return string(key) + struct.pack("<I", kind) + value


def info(name, dims, ggml_type, offset):
    return string(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", ggml_type, offset)


def gguf(entries=(), infos=(), data=b"", version=3, num_infos=None, num_entries=None, alignment=32, magic=b"GGUF"):
    head = magic + struct.pack("<IQQ", version, len(infos) if num_infos is None else num_infos,
                               len(entries) if num_entries is None else num_entries)
    head += b"".join(entries) + b"".join(infos)
    if data:
        head += bytes(-len(head) % alignment)
    return head + data


def make_gguf():
    def out(name, *args, **kwargs):
        write("gguf", name, gguf(*args, **kwargs))

    arch = entry("general.architecture", STRING, string("llama"))
    one = info("token_embd.weight", [8], 0, 0)
    words = entry("tokenizer.ggml.tokens", ARRAY, struct.pack("<IQ", STRING, 2) + string("a") + string("b"))
    out("good_one", [arch], [one], bytes(32))
    out("good_words", [arch, words, entry("x.y", BOOL, b"\1")], [one], bytes(32))
    out("good_alignment_64", [arch, entry("general.alignment", U32, struct.pack("<I", 64))],
        [info("a", [16], 0, 0)], bytes(64), alignment=64)
    out("good_quantized", [arch], [info("a", [32, 16], 8, 0)], bytes(544))
    write("gguf", "bad_empty", b"")
    out("bad_magic", [arch], [one], bytes(32), magic=b"GGML")
    out("bad_version", [arch], [one], bytes(32), version=99)
    out("bad_big_endian", [arch], [one], bytes(32), version=0x03000000)
    out("bad_count_of_tensors", [arch], [one], bytes(32), num_infos=2**63)
    out("bad_count_of_entries", [arch], [one], bytes(32), num_entries=2**63)
    out("bad_alignment_zero", [entry("general.alignment", U32, struct.pack("<I", 0))], [one], bytes(32))
    out("bad_alignment_three", [entry("general.alignment", U32, struct.pack("<I", 3))], [one], bytes(32))
    out("bad_alignment_text", [entry("general.alignment", STRING, string("32"))], [one], bytes(32))
    out("bad_duplicate_key", [arch, arch], [one], bytes(32))
    out("bad_duplicate_tensor", [arch], [one, one], bytes(64))
    out("bad_overlap", [arch], [one, info("b", [8], 0, 0)], bytes(64))
    out("bad_beyond_file", [arch], [info("a", [8], 0, 4096)], bytes(32))
    out("bad_unaligned", [arch], [info("a", [4], 0, 4)], bytes(64))
    out("bad_dims_overflow", [arch], [info("a", [2**32, 2**32, 2**32], 0, 0)], bytes(32))
    out("bad_dims_many", [arch], [info("a", [1] * 9, 0, 0)], bytes(32))
    out("bad_type", [arch], [info("a", [8], 77, 0)], bytes(32))
    out("bad_blocks", [arch], [info("a", [33], 8, 0)], bytes(96))
    out("bad_value_type", [entry("a.b", 99, b"")], [one], bytes(32))
    out("bad_array_bomb", [entry("a.b", ARRAY, struct.pack("<IQ", U64, 2**60))], [one], bytes(32))
    deep = struct.pack("<IQ", ARRAY, 1) * 200 + struct.pack("<IQ", U32, 0)
    out("bad_array_nested", [entry("a.b", ARRAY, deep)], [one], bytes(32))
    out("bad_string_length", [string("a.b") + struct.pack("<IQ", STRING, 2**62)], [one], bytes(32))
    out("bad_key_utf8", [entry(b"\xff\xfe", U32, bytes(4))], [one], bytes(32))
    out("bad_bool", [arch, entry("a.b", BOOL, b"\7")], [one], bytes(32))


# tokenizer.json

def tokenizer(**changes):
    vocab = {c: i for i, c in enumerate(["a", "b", "c", "ab", "abc"])}
    value = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": 5, "content": "<|im_start|>", "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": [["a", "b"], ["ab", "c"]]},
    }
    model = changes.pop("model", {})
    value.update(changes)
    value["model"].update(model)
    return json.dumps(value)


def make_tokenizers():
    def out(name, **changes):
        write("tokenizer_guard", name, tokenizer(**changes))

    out("good_bpe")
    out("good_merges_as_text", model={"merges": ["a b", "ab c"]})
    write("tokenizer_guard", "bad_empty", b"")
    write("tokenizer_guard", "bad_not_json", b"{\"model\":")
    write("tokenizer_guard", "bad_nested", "[" * 500 + "]" * 500)
    write("tokenizer_guard", "bad_utf8", b"\xff\xfe{}")
    out("bad_merge_unknown_part", model={"merges": [["a", "z"]]})
    out("bad_merge_unknown_result", model={"merges": [["b", "c"]]})
    out("bad_merge_one_word", model={"merges": ["ab"]})
    out("bad_prefix_cuts_character", model={"continuing_subword_prefix": "\u00e9"})
    out("bad_dropout", model={"dropout": 0.5})
    out("bad_id_beyond_vocabulary", model={"vocab": {"a": 2**31}, "merges": []})
    out("bad_id_negative", model={"vocab": {"a": -1}, "merges": []})
    out("bad_model_type", model={"type": "Quantum"})
    out("bad_added_id", added_tokens=[{"id": 4294967295, "content": "x", "special": True}])
    for name, regex in [("odd_regex_nested", "(a*)*b"), ("odd_regex_look_ahead", "(?=(a+)+$)b|(a+)+c(?!d)")]:
        out(name, pre_tokenizer={"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False})
    out("bad_regex_syntax", pre_tokenizer={"type": "Split", "pattern": {"Regex": "(("}, "behavior": "Isolated", "invert": False})
    out("bad_pre_tokenizer_type", pre_tokenizer={"type": "Nothing"})
    out("bad_fixed_length_zero", pre_tokenizer={"type": "FixedLength", "length": 0})


# Chat templates

CHATML = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>'"
          " + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def make_templates():
    for name, text in {
        "good_chatml": CHATML,
        "good_empty": "",
        "good_macro": "{% macro m(x) %}[{{ x }}]{% endmacro %}{% for it in messages %}{{ m(it.role) }}{% endfor %}{{ eos_token }}",
        "good_namespace": "{% set ns = namespace(n=0) %}{% for it in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        "good_methods": "{{ messages[1]['content'].strip().split(' ')[0] }}{{ bos_token | upper }}",
        "bad_syntax": "{% for %}",
        "bad_unclosed": "{% if true %}",
        "bad_raise": "{{ raise_exception('no system messages') }}",
        "bad_loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "bad_recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "bad_include": "{% include 'passwd' %}",
        "bad_import": "{% import 'os' as os %}",
        "bad_call": "{{ messages() }}",
        "bad_filter": "{{ 'a' | nothing_of_that_name }}",
        "bad_division": "{{ 1 // 0 }}",
        "bad_deep": "{{ " + "(" * 400 + "1" + ")" * 400 + " }}",
        "odd_classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    }.items():
        write("template", name, text)
    write("template", "bad_utf8", b"\xff\xfe")


# config.json

BASE = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 640, "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": False, "torch_dtype": "float32",
}


def make_configs():
    def out(name, **changes):
        value = {key: changes.get(key, value) for key, value in {**BASE, **changes}.items()}
        value = {key: value for key, value in value.items() if value != "absent"}
        write("config", name, json.dumps(value))

    out("good_qwen2")
    out("good_llama", model_type="llama", architectures=["LlamaForCausalLM"], head_dim=32)
    out("good_mistral", model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=8)
    out("good_linear", model_type="llama", architectures=["LlamaForCausalLM"],
        rope_scaling={"type": "linear", "factor": 4.0})
    out("good_current_spelling", rope_theta="absent", rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    write("config", "bad_empty", b"")
    write("config", "bad_not_json", b"{")
    write("config", "bad_array", b"[]")
    write("config", "bad_nested", "[" * 500 + "]" * 500)
    out("bad_family", model_type="mamba", architectures=["MambaForCausalLM"])
    out("bad_family_missing", model_type="absent")
    out("bad_hidden_zero", hidden_size=0)
    out("bad_hidden_negative", hidden_size=-64)
    out("bad_hidden_huge", hidden_size=2**62)
    out("bad_hidden_text", hidden_size="64")
    out("bad_hidden_missing", hidden_size="absent")
    out("bad_layers_huge", num_hidden_layers=2**40)
    out("bad_heads_zero", num_attention_heads=0)
    out("bad_heads_uneven", num_attention_heads=4, num_key_value_heads=3)
    out("bad_eps_negative", rms_norm_eps=-1.0)
    out("bad_theta_zero", rope_theta=0.0)
    out("bad_rope_kind", rope_scaling={"rope_type": "spiral", "factor": 2.0})
    out("bad_rope_factor", rope_scaling={"rope_type": "linear", "factor": 0.0})
    out("bad_activation", hidden_act="relu6")
    out("bad_quantization", quantization_config={"quant_method": "gptq"})


# models.toml

def make_registries():
    head = 'schema_version = 1\ndefault = "a"\n'
    model = '[[model]]\nname = "a"\ntitle = "A"\ndescription = "A."\nrepo = "builtin"\narchitecture = "llama"\nlicense = "MIT"\n'
    for name, text in {
        "good_one": head + model,
        "good_two": head + model + model.replace('"a"', '"b"').replace("builtin", "o/n"),
        "bad_empty": "",
        "bad_toml": "= =",
        "bad_nested": "a = " + "[" * 500 + "]" * 500,
        "bad_dotted": "a" + ".a" * 500 + " = 1",
        "bad_version": head.replace("1", "2") + model,
        "bad_default": head.replace('"a"', '"z"') + model,
        "bad_twice": head + model + model,
        "bad_number": head + model + "params = -1\n",
        "bad_number_huge": head + model + "params = 99999999999999999999\n",
        "bad_key": head + model + "x = 1\n",
        "bad_span": head + model + 'aliases = ["\U0001f600", 7]\n',
    }.items():
        write("registry", name, text)


# Packed files: the index, a line feed, the data

def make_packed_files():
    config = b'{"model_type": "llama"}'
    q8 = bytes(64 + 1024)
    data = config.ljust(4096 - 64, b"\0") + q8

    def out(name, files=None, tensors=None, data=data, **more):
        files = [{"name": "config.json", "offset": 64, "length": len(config)}] if files is None else files
        first = {"name": "w", "format": "q8", "shape": [3, 64], "offset": 4096, "length": len(q8), "group": 64, "factor": 1.0}
        tensors = [first | (tensors or {})] if not isinstance(tensors, list) else tensors
        index = {"format": "q8", "source": "00", "files": files, "tensors": tensors} | more
        write("packed_file", name, json.dumps(index).encode() + b"\n" + data)

    out("good_one")
    out("good_stored", tensors=[{"name": "w", "format": "f32", "shape": [4, 4], "offset": 128, "length": 64}], data=data[:192])
    write("packed_file", "bad_empty", "")
    write("packed_file", "bad_not_json", "index\n")
    out("bad_key", x=1)
    out("bad_no_config", files=[])
    out("bad_file_name", files=[{"name": "../config.json", "offset": 64, "length": 2}])
    out("bad_offset", tensors={"offset": 2**64 - 1})
    out("bad_offset_head", tensors={"offset": 0})
    out("bad_offset_odd", tensors={"offset": 4097})
    out("bad_length", tensors={"length": 2**63})
    out("bad_shape", tensors={"shape": [3, 65]})
    out("bad_shape_huge", tensors={"shape": [2**40, 2**40]})
    out("bad_shape_zero", tensors={"shape": [0, 64]})
    out("bad_group", tensors={"group": 96})
    out("bad_factor", tensors={"factor": 3.0})
    out("bad_format", tensors={"format": "q9"})
    out("bad_twice", tensors=[{"name": "w", "format": "f32", "shape": [4], "offset": 128, "length": 16}] * 2)
    out("bad_scale", data=data[:4032] + b"\0\x7c" + data[4034:])


# Blocks of stored formats: format, blocks in a row, rows, bytes

def make_blocks():
    sizes = [4, 2, 2, 34, 18, 20, 22, 24, 144, 176, 210]
    for number, size in enumerate(sizes):
        write("blocks", f"good_{number}", bytes([number, 2, 3]) + bytes(range(7, 7 + 1)) * (6 * size))
        write("blocks", f"bad_cut_{number}", bytes([number, 2, 3]) + bytes(6 * size - 1))
    write("blocks", "bad_format", bytes([11, 1, 1]) + bytes(4))
    write("blocks", "bad_no_columns", bytes([0, 0, 1]))
    write("blocks", "nan_scales", bytes([3, 1, 1]) + b"\xff" * 34)


# Packed tensors: kind, group, rows, columns, exponent, bytes

def make_packed_tensors():
    def out(name, kind, group, rows, cols, data, exponent=127):
        write("packed_tensor", name, bytes([kind, group, rows]) + struct.pack("<HB", cols, exponent) + data)

    q8, q4 = bytes(64 + 1024), bytes(64 + 64 + 512)
    out("good_q8", 0, 0, 16, 64, q8)
    out("good_q8_short", 0, 2, 3, 40, q8)
    out("good_q4", 1, 0, 16, 64, q4)
    out("bad_kind", 2, 0, 16, 64, q8)
    out("bad_group", 1, 1, 16, 64, q4)
    out("bad_rows", 0, 0, 0, 64, q8)
    out("bad_columns", 0, 0, 16, 0, q8)
    out("bad_cut", 0, 0, 16, 64, q8[:-1])
    out("bad_factor", 0, 0, 16, 64, q8, exponent=0)
    out("bad_factor_infinite", 0, 0, 16, 64, q8, exponent=255)
    out("bad_scale", 0, 0, 16, 64, b"\xff" * 64 + q8[64:])
    out("bad_step", 1, 0, 16, 64, q4[:64] + b"\xff" * 64 + q4[128:])


make_safetensors()
make_gguf()
make_tokenizers()
make_templates()
make_configs()
make_registries()
make_packed_files()
make_blocks()
make_packed_tensors()
