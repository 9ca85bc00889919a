"""Prefill and decode of one GGUF file beside llama.cpp, in one run.

    python benches/peers/llama_cpp.py --llama-bench FILE --minicrit FILE MODEL.gguf... [--rounds N]

FILE are the two programs, both built for this machine; MODEL is read by both as it is. Every round runs
each of them once, in turn and in processes of their own, so that a change of the machine's mood meets
both. Printed are the median, the least and the most over rounds, and the median of the rounds' ratios,
ours to theirs.

Like for like: 2 threads, 512 tokens of prompt at once, then 64 tokens one by one from an empty context.
llama.cpp runs with huge pages and without flash attention, which is faster here; its own warm-up stays.
Models may have random weights in real shapes: speed does not depend on the values.
"""

import argparse
import json
import os
import statistics
import subprocess

HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def output_of(command, extra=None):
    environment = {**os.environ, **(extra or {})}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def theirs(program, model, args):
    command = [program, "-m", model, "-t", str(args.threads), "-p", str(args.prompt)]
    command += ["-n", str(args.tokens), "-r", "1", "-fa", "0", "-o", "json"]
    tests = output_of(command, HUGE_PAGES)
    speed = {"prefill" if it["n_gen"] == 0 else "decode": it["avg_ts"] for it in tests}
    return speed["prefill"], speed["decode"]


def ours(program, model, args):
    def run(prompt, tokens):
        command = [program, "bench", model, "--threads", str(args.threads), "--reps", "1", "--json"]
        return output_of(command + ["--prompt-len", str(prompt), "--gen-len", str(tokens)])

    prefill = run(args.prompt, 1)["prefill_tok_s"]["median"]
    decode = run(1, args.tokens)
    return prefill, decode["decode_tok_s"]["median"], decode["peak_rss_bytes"]


def spread(values):
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--llama-bench", required=True)
    parser.add_argument("--minicrit", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=64)
    args = parser.parse_args()
    for model in args.models:
        size = os.path.getsize(model)
        both = []
        for _ in range(args.rounds):
            peer = theirs(args.llama_bench, model, args)
            both.append((ours(args.minicrit, model, args), peer))
        print(os.path.basename(model), f"{size / 1e6:.0f} MB", flush=True)
        for index, name in enumerate([f"prefill {args.prompt}", f"decode {args.tokens}"]):
            we, they = [it[0][index] for it in both], [it[1][index] for it in both]
            ratio = [a / b for a, b in zip(we, they)]
            print(f"  {name}: minicrit {spread(we)}, llama.cpp {spread(they)} tokens/s;", end=" ")
            print(f"ratio {statistics.median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f})")
        memory = [it[0][2] / size for it in both]
        print(f"  peak memory: {statistics.median(memory):.2f} times the file", flush=True)


if __name__ == "__main__":
    main()
