"""Checks minicrit's adapter files with the libraries that others read them by.

    python check_with_peft.py MINICRIT FIXTURES

MINICRIT is the program, FIXTURES a folder as fixtures/parity. Needs torch, transformers, peft,
safetensors and gguf. Prints one line for each check and fails at the first that is off.

- PEFT loads adapters that minicrit merged or trained, and gives minicrit's logits.
- minicrit's merges are those of PEFT's add_weighted_adapter.
- transformers loads a fused model and gives the logits of base and adapter.
- The gguf package reads an exported adapter, and its matrices give PEFT's change of each weight.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

# Logits of two float32 implementations that sum in different orders.
LOGITS = 2e-4
# A change of a weight, computed once in float32 by each.
WEIGHTS = 1e-6

minicrit, fixtures = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
work = Path(tempfile.mkdtemp(prefix="minicrit-peft-"))


def run(*words):
    done = subprocess.run([minicrit, *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"minicrit {' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
    return done.stdout


def base_model(arch):
    return AutoModelForCausalLM.from_pretrained(
        fixtures / arch, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def ids_of(arch):
    ids = json.loads((fixtures / arch / "fixture.json").read_text())["ids_40"]
    path = work / f"{arch}.ids.json"
    path.write_text(json.dumps(ids))
    return ids, path


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def our_logits(folder, ids_file, *more):
    out = work / "logits.safetensors"
    run("score", folder, "--ids", ids_file, "--logits", out, "--json", *more)
    return load_file(out)["logits"]


def check(what, got, expected, bound):
    off = float(np.max(np.abs(got - expected)))
    print(f"{'ok ' if off <= bound else 'BAD'} {off:9.2e} <= {bound:.0e}  {what}")
    if not off <= bound:
        sys.exit(1)


def with_peft(arch, folder):
    return PeftModel.from_pretrained(base_model(arch), folder).eval()


def here(arch, case):
    """The committed fixtures hold fewer adapters than the scripts that made them can make."""
    found = (fixtures / arch / "adapters" / case / "adapter_config.json").is_file()
    if not found:
        print(f"skipped: no {arch}/adapters/{case}")
    return found


def merges(arch):
    ids, ids_file = ids_of(arch)
    adapters = fixtures / arch / "adapters"
    first, second = adapters / "basic", adapters / "rslora"
    weights = [0.7, -0.4]
    for method in ["cat", "linear", "ties"]:
        out = work / f"{arch}-{method}"
        more = ["--density", "0.4"] if method == "ties" else []
        run("adapters", "merge", f"{first}:{weights[0]}", f"{second}:{weights[1]}",
            "--method", method, "--output", out, *more)
        ours = our_logits(fixtures / arch, ids_file, "--adapter", out)
        check(f"{arch}: PEFT loads the {method} merge", logits_of(with_peft(arch, out), ids), ours, LOGITS)
        model = PeftModel.from_pretrained(base_model(arch), first, adapter_name="a")
        model.load_adapter(second, adapter_name="b")
        kwargs = {"density": 0.4} if method == "ties" else {}
        model.add_weighted_adapter(["a", "b"], weights, "c", combination_type=method, **kwargs)
        model.set_adapter("c")
        check(f"{arch}: PEFT's own {method} merge", logits_of(model.eval(), ids), ours, LOGITS)


def fuses(arch, case):
    ids, ids_file = ids_of(arch)
    adapter = fixtures / arch / "adapters" / case
    out = work / f"{arch}-{case}-fused"
    run("fuse", fixtures / arch, "--adapter", adapter, "--output", out, "--dtype", "f32")
    active = our_logits(fixtures / arch, ids_file, "--adapter", adapter)
    fused = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, attn_implementation="eager")
    check(f"{arch}/{case}: transformers loads the fused model", logits_of(fused.eval(), ids), active, LOGITS)
    check(f"{arch}/{case}: minicrit runs the fused model", our_logits(out, ids_file), active, LOGITS)


NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def exports(arch, case):
    adapter = fixtures / arch / "adapters" / case
    out = work / f"{arch}-{case}.gguf"
    run("adapters", "export", adapter, "--model", fixtures / arch, "--output", out)
    reader = gguf.GGUFReader(out)
    text = lambda key: bytes(reader.fields[key].parts[-1]).decode()
    assert text("general.type") == "adapter" and text("adapter.type") == "lora"
    config = json.loads((fixtures / arch / "config.json").read_text())
    architecture = {"mistral": "llama"}.get(config["model_type"], config["model_type"])
    assert text("general.architecture") == architecture
    alpha = float(reader.fields["adapter.lora.alpha"].parts[-1][0])
    tensors = {it.name: np.array(it.data, dtype=np.float32).reshape(it.shape[::-1]) for it in reader.tensors}
    model = with_peft(arch, adapter)
    worst, count = 0.0, 0
    for name in [it for it in tensors if it.endswith(".lora_a")]:
        stem = name.removesuffix(".lora_a")
        _, layer, module, _ = stem.split(".")
        a, b = tensors[name], tensors[f"{stem}.lora_b"]
        delta = (alpha / b.shape[1]) * (b @ a)
        path = f"base_model.model.model.layers.{layer}.{NAMES[module]}"
        expected = model.get_submodule(path).get_delta_weight("default").detach().numpy()
        if architecture == "llama" and module in ("attn_q", "attn_k"):
            heads = config["num_attention_heads" if module == "attn_q" else "num_key_value_heads"]
            expected = (expected.reshape(heads, 2, expected.shape[0] // heads // 2, -1)
                        .swapaxes(1, 2).reshape(expected.shape))
        worst, count = max(worst, float(np.max(np.abs(delta - expected)))), count + 1
    assert 2 * count == len(tensors) and count > 0
    check(f"{arch}/{case}: gguf reads {count} modules of the exported adapter", worst, 0.0, WEIGHTS)


def trains(arch):
    """An adapter that minicrit trained, without any file of PEFT's before it."""
    ids, ids_file = ids_of(arch)
    out = work / f"{arch}-trained"
    run("finetune", fixtures / arch, "--data", fixtures / "train" / "sft.jsonl", "--output", out,
        "--iters", "4", "--lr", "1e-2", "--rank", "8")
    ours = our_logits(fixtures / arch, ids_file, "--adapter", out)
    check(f"{arch}: PEFT loads what minicrit trained", logits_of(with_peft(arch, out), ids), ours, LOGITS)
    moved = float(np.max(np.abs(ours - our_logits(fixtures / arch, ids_file))))
    assert moved > 100 * LOGITS, f"training moved no logit: {moved}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for arch in ["qwen2", "llama"]:
        if here(arch, "basic") and here(arch, "rslora"):
            merges(arch)
        for case in ["basic", "rslora", "dora", "patterns", "saved_head", "embed"]:
            if here(arch, case):
                fuses(arch, case)
        for case in ["basic", "rslora", "subset", "patterns"]:
            if here(arch, case):
                exports(arch, case)
    if here("mistral", "basic"):
        exports("mistral", "basic")
    if "finetune" in run("--help"):
        trains("llama")
    else:
        print("skipped: this program does not train")
