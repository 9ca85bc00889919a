"""Speed and memory of LoRA training beside PyTorch + PEFT (and TRL's DPO), in one run.

    python benches/peers/finetune.py --venv FOLDER [--models mini,qwen2.5-0.5b] [--rounds N]

FOLDER gets a virtual environment with torch (CPU), transformers, peft, trl and datasets from PyPI if it
has none. Every round measures each contestant once, in a process of its own, so that a change of
the machine's mood meets all of them; the best and the median over rounds are printed, and ratios.

Like for like: rank 16, alpha 32, all seven kinds of linear layers, bf16, 4 sequences of 256 tokens, loss on
every row, AdamW. Models have random weights in real shapes: speed does not depend on the values.
`tuned` is PyTorch with an allocator that keeps its memory (glibc's own settings). DPO: two pairs, the second
half of each sequence counts; TRL computes its reference in every step, we once for each pair before
the first step, which is given beside it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = ["torch", "transformers", "peft", "trl", "datasets", "tokenizers"]
TUNED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "200000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
SHAPES = {
    "mini": dict(
        kind="llama", hidden_size=256, intermediate_size=688, num_hidden_layers=8,
        num_attention_heads=8, num_key_value_heads=4, vocab_size=4096, tie_word_embeddings=False,
    ),
    "qwen2.5-0.5b": dict(
        kind="qwen2", hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
        num_attention_heads=14, num_key_value_heads=2, vocab_size=151936, tie_word_embeddings=True,
    ),
    "qwen2.5-1.5b": dict(
        kind="qwen2", hidden_size=1536, intermediate_size=8960, num_hidden_layers=28,
        num_attention_heads=12, num_key_value_heads=2, vocab_size=151936, tie_word_embeddings=True,
    ),
}
SEQUENCES, LENGTH = 4, 256
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def peak_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def base_model(name):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    shape = dict(SHAPES[name])
    kind = shape.pop("kind")
    config, model = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    }[kind]
    torch.set_default_dtype(torch.bfloat16)
    made = model(config(**shape, max_position_embeddings=4096, use_cache=False))
    torch.set_default_dtype(torch.float32)
    return made.to(torch.bfloat16)


def with_lora(model):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=16, lora_alpha=32, target_modules=LINEAR, task_type="CAUSAL_LM")
    return get_peft_model(model, config, autocast_adapter_dtype=False)


def peer_sft(name, steps):
    import torch

    torch.manual_seed(0)
    model = with_lora(base_model(name))
    model.train()
    trained = [it for it in model.parameters() if it.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    Path("/proc/self/clear_refs").write_text("5")
    seconds = []
    for step in range(steps + 1):
        ids = torch.randint(0, model.config.vocab_size, (SEQUENCES, LENGTH))
        start = time.perf_counter()
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step > 0:
            seconds.append(time.perf_counter() - start)
    return seconds


def peer_dpo(name, steps):
    import torch
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    torch.manual_seed(0)
    words = {f"w{i}": i for i in range(1000)} | {"<pad>": 1000, "<eos>": 1001, "<unk>": 1002}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    half = LENGTH // 2
    text = lambda seed, n: " ".join(f"w{(i * i * 31 + i * 7 + seed * 101) % 1000}" for i in range(n))
    rows = [
        {"prompt": text(i, half), "chosen": " " + text(i + 50, half - 1),
         "rejected": " " + text(i + 90, half - 1)}
        for i in range(2 * (steps + 1))
    ]
    seconds, begun = [], []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            begun.append(time.perf_counter())

        def on_step_end(self, *_, **__):
            seconds.append(time.perf_counter() - begun[-1])

    with tempfile.TemporaryDirectory() as folder:
        config = DPOConfig(
            output_dir=folder, per_device_train_batch_size=2, max_steps=steps + 1, beta=0.1,
            bf16=True, gradient_checkpointing=False, logging_strategy="no", save_strategy="no",
            report_to=[], use_cpu=True, max_length=LENGTH, dataloader_pin_memory=False,
        )
        trainer = DPOTrainer(
            model=with_lora(base_model(name)), args=config, train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer, callbacks=[Clock()],
        )
        Path("/proc/self/clear_refs").write_text("5")
        trainer.train()
    return seconds[1:]


def child(what, name, steps):
    import torch

    torch.set_num_threads(os.cpu_count())
    seconds = (peer_sft if what == "sft" else peer_dpo)(name, steps)
    print("RESULT " + json.dumps({"seconds": seconds, "peak_rss_mb": peak_mb()}), flush=True)


def python_of(venv):
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def measure(command, env):
    # Without these, a stray setting of the caller's would count as stock.
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    done = subprocess.run(command, env=clean | env, capture_output=True, text=True)
    for line in reversed(done.stdout.splitlines()):
        if line.startswith("RESULT "):
            found = json.loads(line[7:])
            return found["seconds"], found["peak_rss_mb"], None
        if line.startswith("{"):
            found = json.loads(line)
            return [found["step_s_best"], found["step_s_median"]], found["peak_rss_mb"], found
    sys.exit(f"{command}: {done.stderr[-2000:]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, required=True)
    parser.add_argument("--models", default="mini,qwen2.5-0.5b")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--bench", type=Path, help="the built benchmark program `finetune`")
    parser.add_argument("--without-dpo", action="store_true")
    arguments = parser.parse_args()
    python = python_of(arguments.venv)
    if arguments.bench is None:
        build = ["cargo", "bench", "--workspace", "--bench", "finetune", "--no-run",
                 "--message-format", "json"]
        out = subprocess.run(build, cwd=HERE, check=True, capture_output=True, text=True).stdout
        found = [json.loads(line) for line in out.splitlines()]
        arguments.bench = next(
            it["executable"] for it in found
            if it.get("executable") and it["target"]["name"] == "finetune"
        )
    steps = str(arguments.steps)
    for name in arguments.models.split(","):
        peer = lambda what: [python, HERE / "finetune.py", "--child", what, name, steps]
        ours = lambda base, what: (
            [arguments.bench, "--bench"], {"MINICRIT_FINETUNE": f"{name}:{base}:{what}:{steps}"}
        )
        contestants = {
            "PyTorch + PEFT, stock": (peer("sft"), {}),
            "PyTorch + PEFT, tuned allocator": (peer("sft"), TUNED),
            "minicrit bf16": ours("bf16", "sft"),
            "minicrit q4": ours("q4", "sft"),
        }
        if name != "mini" and not arguments.without_dpo:
            contestants["TRL DPO"] = (peer("dpo"), {})
            contestants["minicrit DPO"] = ours("bf16", "dpo")
        seconds = {it: [] for it in contestants}
        memory, extra = {}, {}
        for _ in range(arguments.rounds):
            for contestant, (command, env) in contestants.items():
                times, memory[contestant], extra[contestant] = measure(command, env)
                seconds[contestant] += times
        print(f"\n{name}: {SEQUENCES} x {LENGTH} tokens, {os.cpu_count()} threads")
        print(f"{'':34} {'tok/s best':>11} {'median':>8} {'peak MB':>8}")
        rate = {}
        for contestant, times in seconds.items():
            tokens = SEQUENCES * LENGTH
            rate[contestant] = tokens / min(times)
            middle = tokens / statistics.median(times)
            print(f"{contestant:34} {rate[contestant]:11.0f} {middle:8.0f} {memory[contestant]:8.0f}")
        found = extra["minicrit bf16"]
        print(f"share of the {found['ceiling']} ({found['peak_gflop_s']:.0f} GFLOP/s): "
              f"{100 * found['share_of_peak']:.0f} %")
        for mine, other in [
            ("minicrit bf16", "PyTorch + PEFT, stock"),
            ("minicrit bf16", "PyTorch + PEFT, tuned allocator"),
            ("minicrit q4", "minicrit bf16"),
            ("minicrit DPO", "TRL DPO"),
        ]:
            if mine in rate and other in rate:
                times, less = rate[mine] / rate[other], memory[mine] / memory[other]
                print(f"{mine} / {other}: {times:.2f} times the speed, {less:.2f} of the memory")
        if extra.get("minicrit DPO"):
            once = extra["minicrit DPO"]["reference_s_per_step"]
            print(f"minicrit DPO: its reference took {once:.2f} s for the pairs of a step, once")


if __name__ == "__main__":
    if len(sys.argv) == 5 and sys.argv[1] == "--child":
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
