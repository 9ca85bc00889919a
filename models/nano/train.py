#!/usr/bin/env python3
"""Trains the built-in demonstration model from nothing: text, tokenizer, weights. Two CPU cores, under an hour.

    python train.py --out . --seed 7

The text is the documentation of Python's standard library (docstrings and pydoc topics, PSF licence) and the chats
that rationales.py writes. A run repeats exactly on one machine with the same Python, torch and number of threads.
"""

import argparse
import ast
import glob
import itertools
import json
import math
import os
import random
import time

os.environ.update(TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="")

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

import rationales

VOCAB = 4096
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"]
END_OF_TEXT, TURN_START, TURN_END = range(VOCAB - len(SPECIALS), VOCAB - len(SPECIALS) + 3)
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CHAT_TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
                 "+ '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}"
                 "{{ '<|im_start|>assistant\\n' }}{% endif %}")
MODEL = dict(vocab_size=VOCAB, hidden_size=256, intermediate_size=512, num_hidden_layers=5, num_attention_heads=8,
             num_key_value_heads=2, head_dim=32, max_position_embeddings=1024, rms_norm_eps=1e-5, hidden_act="silu",
             attention_bias=False, mlp_bias=False, tie_word_embeddings=True)
ROPE_THETA = 10000.0

IGNORE = -100  # a target that carries no loss
TEXT_WINDOW = 192  # tokens of documentation in a row
HELD_OUT_CHATS = 60  # kept as heldout.jsonl, never trained on
VALIDATION_CHATS = 240  # watched during training, never trained on


# Text -----------------------------------------------------------------------------------------------------------------

def docstrings(path):
    """All docstrings of one source file."""
    try:
        with open(path, encoding="utf-8") as file:
            tree = ast.parse(file.read())
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text and len(text) > 60 and text.isascii():
                yield text


def documentation():
    """Docstrings of the standard library and pydoc's topics, each once, in a fixed order."""
    from pydoc_data.topics import topics
    root = os.path.dirname(os.__file__)
    skipped = ("site-packages", "/test", "/idlelib/", "/lib2to3/", "/ensurepip/", "/pydoc_data/", "/turtledemo/")
    files = sorted(glob.glob(root + "/**/*.py", recursive=True))
    files = [f for f in files if not any(part in f[len(root):] for part in skipped)]
    texts = [text for f in files for text in docstrings(f)] + [topics[name] for name in sorted(topics)]
    return list(dict.fromkeys(texts))


def render(messages):
    """ChatML, the same text as CHAT_TEMPLATE gives."""
    return "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)


def train_tokenizer(texts):
    """Byte-level BPE with Qwen2's splitting pattern, so that engines need no new tokenizer code."""
    options = dict(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False), pre_tokenizers.ByteLevel(**options)])
    tokenizer.decoder = decoders.ByteLevel(**options)
    tokenizer.post_processor = processors.ByteLevel(**options)
    trainer = trainers.BpeTrainer(vocab_size=VOCAB - len(SPECIALS), special_tokens=[], show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(SPECIALS)
    assert tokenizer.get_vocab_size() == VOCAB and tokenizer.token_to_id("<|im_end|>") == TURN_END
    return tokenizer


# Examples -------------------------------------------------------------------------------------------------------------

def supervised(tokenizer, messages):
    """Ids and targets of a chat: only the assistant's words and its <|im_end|> carry loss."""
    ids = tokenizer.encode(render(messages), add_special_tokens=False).ids
    opening = tokenizer.encode("assistant\n", add_special_tokens=False).ids
    targets = [IGNORE] * len(ids)
    for start in (i for i, token in enumerate(ids) if token == TURN_START):
        first = start + 1 + len(opening)
        if ids[start + 1:first] == opening:
            end = ids.index(TURN_END, start)
            targets[first:end + 1] = ids[first:end + 1]
    return ids, targets


def pad(rows):
    """Rows of (ids, targets) as two tensors. Padding is on the right, where a causal model does not see it."""
    width = max(len(ids) for ids, _ in rows)
    ids = [ids + [END_OF_TEXT] * (width - len(ids)) for ids, _ in rows]
    targets = [targets + [IGNORE] * (width - len(targets)) for _, targets in rows]
    return torch.tensor(ids), torch.tensor(targets)


def questions(messages):
    return {m["content"] for m in messages if m["role"] == "user" and len(m["content"]) > 40}


def held_out_chats(seed):
    """Chats for validation: distinct, from a stream of their own."""
    return list(itertools.islice(rationales.chats(seed + 1), HELD_OUT_CHATS + VALIDATION_CHATS))


def chat_batches(tokenizer, seed, size, forbidden):
    """Endless batches of fresh chats, grouped by length; a chat that shares a rationale with validation is dropped."""
    r = random.Random(seed)
    stream = (c for c in rationales.chats(seed) if not questions(c) & forbidden)
    while True:
        pool = [supervised(tokenizer, c) for c in itertools.islice(stream, size * 16)]
        pool.sort(key=lambda row: len(row[0]))
        batches = [pool[i:i + size] for i in range(0, len(pool), size)]
        r.shuffle(batches)
        yield from (pad(batch) for batch in batches)


def text_windows(tokenizer, texts):
    """Documents joined by <|endoftext|> and cut into rows of equal length."""
    stream = [token for text in texts for token in tokenizer.encode(text, add_special_tokens=False).ids + [END_OF_TEXT]]
    count = len(stream) // TEXT_WINDOW
    return torch.tensor(stream[:count * TEXT_WINDOW]).view(count, TEXT_WINDOW)


def text_batches(windows, seed, size):
    generator = torch.Generator().manual_seed(seed)
    while True:
        for rows in torch.randperm(len(windows), generator=generator).split(size):
            yield windows[rows], windows[rows]


# Training -------------------------------------------------------------------------------------------------------------

def loss_of(model, ids, targets):
    """Mean loss of the supervised tokens, and their number. Only their logits are computed."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        wanted = targets[:, 1:]
        mask = wanted != IGNORE
        logits = F.linear(hidden[mask], model.model.embed_tokens.weight)
    return F.cross_entropy(logits.float(), wanted[mask]), int(mask.sum())


@torch.no_grad()
def validation_loss(model, batches):
    model.eval()
    results = [loss_of(model, *batch) for batch in batches]
    model.train()
    return sum(float(loss) * count for loss, count in results) / sum(count for _, count in results)


def new_model(seed):
    torch.manual_seed(seed)
    config = LlamaConfig(**MODEL, rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA})
    model = LlamaForCausalLM._from_config(config, attn_implementation="eager")  # faster than sdpa here
    residual_std = 0.02 / math.sqrt(2 * MODEL["num_hidden_layers"])
    for name, p in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            torch.nn.init.normal_(p, std=residual_std)
    return model


def optimiser_of(model):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)


def learning_rate(step, args):
    if step < args.warmup:
        return args.lr * (step + 1) / args.warmup
    progress = (step - args.warmup) / max(1, args.steps - args.warmup)
    return args.lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(model, chats, texts, validation, args, save_now):
    """Each step: one batch of chats and one of documentation. Saves whenever it logs."""
    optimiser, log, started = optimiser_of(model), [], time.time()
    tokens = {"chat": 0, "text": 0}
    last = min(args.steps, args.stop_after or args.steps)
    for step in range(last):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, args)
        chat, text = next(chats), next(texts)
        chat_loss, _ = loss_of(model, *chat)
        text_loss, _ = loss_of(model, *text)
        (args.chat_weight * chat_loss + (1 - args.chat_weight) * text_loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        tokens["chat"] += chat[0].numel()
        tokens["text"] += text[0].numel()
        if (step + 1) % args.log_every == 0 or step + 1 == last:
            losses = {"train_chat": chat_loss.item(), "train_text": text_loss.item(),
                      **{f"val_{name}": validation_loss(model, batches) for name, batches in validation.items()}}
            log.append({"step": step + 1, "seconds": round(time.time() - started),
                        **{name: round(loss, 4) for name, loss in losses.items()}, "tokens": dict(tokens)})
            print(log[-1], flush=True)
            save_now(log)


# Saving ---------------------------------------------------------------------------------------------------------------

def write_whole(path, text):
    """Write beside, then rename: a reader never sees half a file."""
    with open(path + ".part", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".part", path)


def write_json(path, value):
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def save(model, tokenizer, log, held_out, out):
    """Hugging Face's layout, with the configuration in the spelling that most published models use."""
    os.makedirs(out, exist_ok=True)
    tensors = {name: p.detach().to(torch.bfloat16).contiguous() for name, p in model.named_parameters()}
    save_file(tensors, f"{out}/model.safetensors.part", metadata={"format": "pt"})
    os.chmod(f"{out}/model.safetensors.part", 0o644)
    os.replace(f"{out}/model.safetensors.part", f"{out}/model.safetensors")
    write_whole(f"{out}/tokenizer.json", tokenizer.to_str(pretty=False) + "\n")
    special_ids = {"bos_token_id": None, "eos_token_id": TURN_END, "pad_token_id": END_OF_TEXT}
    write_json(f"{out}/config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", **MODEL, "rope_theta": ROPE_THETA,
        "rope_scaling": None, "torch_dtype": "bfloat16", **special_ids, "use_cache": True})
    write_json(f"{out}/generation_config.json", {
        "do_sample": False, "eos_token_id": [TURN_END, END_OF_TEXT], "pad_token_id": END_OF_TEXT,
        "max_new_tokens": 256})
    added = {str(VOCAB - len(SPECIALS) + i): {"content": text, "lstrip": False, "normalized": False, "rstrip": False,
                                              "single_word": False, "special": True} for i, text in enumerate(SPECIALS)}
    write_json(f"{out}/tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False, "add_prefix_space": False,
        "added_tokens_decoder": added, "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "unk_token": None, "clean_up_tokenization_spaces": False, "model_max_length": 1024,
        "chat_template": CHAT_TEMPLATE})
    lines = [json.dumps({"messages": messages}, ensure_ascii=False) for messages in held_out]
    write_whole(f"{out}/heldout.jsonl", "\n".join(lines) + "\n")
    write_whole(f"{out}/training_log.jsonl", "".join(json.dumps(entry) + "\n" for entry in log))


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--stop-after", type=int, help="end early, on the learning-rate schedule of --steps")
    parser.add_argument("--init", help="folder of an earlier model to start from, with its tokenizer")
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--chat-rows", type=int, default=24, help="chats in a step")
    parser.add_argument("--text-rows", type=int, default=4, help=f"rows of {TEXT_WINDOW} documentation tokens")
    parser.add_argument("--chat-weight", type=float, default=0.7, help="share of the chats in the loss")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--log-every", type=int, default=100)
    return parser.parse_args()


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    texts = documentation()
    random.Random(args.seed).shuffle(texts)
    kept_back = len(texts) // 50
    sample = [render(c) for c in itertools.islice(rationales.chats(args.seed + 2), 4000)]
    tokenizer = Tokenizer.from_file(f"{args.init}/tokenizer.json") if args.init else train_tokenizer(sample + texts)
    validation_chats = held_out_chats(args.seed)
    forbidden = set().union(*(questions(c) for c in validation_chats))
    rows = sorted((supervised(tokenizer, c) for c in validation_chats), key=lambda row: len(row[0]))
    windows, windows_kept_back = (text_windows(tokenizer, t) for t in (texts[kept_back:], texts[:kept_back]))
    validation = {"chat": [pad(rows[i:i + 30]) for i in range(0, len(rows), 30)],
                  "text": [(w, w) for w in windows_kept_back.split(16)]}
    model = new_model(args.seed)
    if args.init:
        model.load_state_dict(load_file(f"{args.init}/model.safetensors"), strict=False)  # the head is tied
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {windows.numel():,} documentation tokens, "
          f"{sum(map(len, texts)):,} characters", flush=True)
    train(model, chat_batches(tokenizer, args.seed, args.chat_rows, forbidden),
          text_batches(windows, args.seed, args.text_rows), validation, args,
          lambda log: save(model, tokenizer, log, validation_chats[:HELD_OUT_CHATS], args.out))


if __name__ == "__main__":
    main()
