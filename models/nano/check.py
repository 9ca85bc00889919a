#!/usr/bin/env python3
"""Measures the demonstration model with transformers, and writes what engines must reproduce.

    python check.py --model .

Writes expected.json (greedy answers in float32 on the stored weights) and prints the held-out loss, the accuracy of
verdicts on held-out chats, and the answers to probes that no sentence pattern produced.
"""

import argparse
import json
import os

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="")

import torch
import transformers
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

import train

MAX_NEW = 80
README_EXAMPLE = "Last 3 trades won, so I'm 95% sure the 4th will."


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


PROMPTS = [
    [user(README_EXAMPLE)],
    [{"role": "system", "content": "You are MiniCrit. Critique the rationale."},
     user("In a randomised test with 800 patients, the new drug beat the control by 6 points (p = 0.006), "
          "so it probably helps.")],
    [user("Who are you?")],
    [user("Critique: All the aircraft that came back had holes only in the wings, so that is the way to succeed.")],
    [user("Hi"), assistant("Hello! Give me a short rationale and I will look for its flaw."),
     user("The intrusion detector is 99% accurate and it fired, so this connection is 99% likely to be an attack.")],
    [user("We already spent 3 years on the rewrite, so we must ship it.")],
]

# Written by hand, in other words than the patterns. Verdict and, where flawed, the flaw that fits best.
PROBES = [
    ("I flipped heads five times, so tails must come next.", "flawed", "gambler's fallacy"),
    ("Our only two users love the app, so the market will love it.", "flawed", "small sample"),
    ("Ice cream sales and drownings rise together, so ice cream causes drowning.", "flawed",
     "correlation as causation"),
    ("My grandfather smoked and lived to 95, so smoking is harmless.", "flawed", "hasty generalisation"),
    ("You either support this law or you hate freedom.", "flawed", "false dichotomy"),
    ("A professor on television said it, so the vaccine must be bad.", "flawed", "appeal to authority"),
    ("Everyone at work is buying this stock, so I should too.", "flawed", "appeal to popularity"),
    ("We have paid for two years of this course, so we have to finish it.", "flawed", "sunk cost"),
    ("Nobody found any bugs, so the program has none.", "flawed", "appeal to ignorance"),
    ("God exists because the Bible says so, and the Bible is true because it is God's word.", "flawed",
     "circular reasoning"),
    ("This plan will succeed, there is zero doubt.", "flawed", "overconfidence"),
    ("The bridges that survived the war were all made of stone, so stone bridges never fall.", "flawed",
     "survivorship bias"),
    ("A trial with 3,000 people and a placebo group found 4% fewer strokes, so the pill may help.", "valid", ""),
    ("All squares are rectangles and this is a square, so it is a rectangle.", "valid", ""),
    ("It rained on 30% of 2,000 past days here, so I guess 30% for tomorrow.", "valid", ""),
    ("Five cases are too few to tell, so we should wait for more data.", "valid", ""),
]


@torch.no_grad()
def greedy(model, ids):
    """Greedy ids up to the end of the turn, with a key-value cache, and the smallest top-1 to top-2 gap."""
    new_ids, margin = [], float("inf")
    output = model(input_ids=torch.tensor([ids]), use_cache=True)
    while True:
        logits = output.logits[0, -1]
        top_two = logits.topk(2).values
        margin = min(margin, float(top_two[0] - top_two[1]))
        new_ids.append(int(logits.argmax()))
        if new_ids[-1] == train.TURN_END or len(new_ids) == MAX_NEW:
            return new_ids, margin
        output = model(input_ids=torch.tensor([new_ids[-1:]]), past_key_values=output.past_key_values, use_cache=True)


def answer(model, tokenizer, messages):
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    new_ids, margin = greedy(model, ids)
    return text, ids, new_ids, margin, tokenizer.decode(new_ids, skip_special_tokens=True)


@torch.no_grad()
def expected_case(model, tokenizer, messages):
    text, ids, new_ids, margin, reply = answer(model, tokenizer, messages)
    logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    top = logits.topk(5)
    return {"messages": messages, "rendered": text, "prompt_ids": ids, "greedy_ids": new_ids, "text": reply,
            "ends_turn": new_ids[-1] == train.TURN_END, "min_margin": round(margin, 4),
            "first_top5": [[int(i), round(float(v), 5)] for v, i in zip(*top)]}


@torch.no_grad()
def held_out_loss(model, directory):
    """Mean loss of the assistant's tokens over all held-out chats, in float32."""
    tokenizer = Tokenizer.from_file(f"{directory}/tokenizer.json")
    total, count = 0.0, 0
    with open(f"{directory}/heldout.jsonl", encoding="utf-8") as file:
        for line in file:
            ids, targets = train.supervised(tokenizer, json.loads(line)["messages"])
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1]
            wanted = torch.tensor(targets[1:])
            total += float(torch.nn.functional.cross_entropy(
                logits, wanted, ignore_index=train.IGNORE, reduction="sum"))
            count += int((wanted != train.IGNORE).sum())
    return total / count, count


def labels(reply):
    """Verdict and flaw of an answer."""
    fields = dict(line.split(": ", 1) for line in reply.splitlines() if ": " in line)
    return fields.get("Verdict"), fields.get("Flaw", "")


def held_out_accuracy(model, tokenizer, directory):
    """How many last turns of held-out chats get the right verdict and flaw, the exact words, and an ended turn."""
    verdicts = words = ended = critiques = chats = 0
    with open(f"{directory}/heldout.jsonl", encoding="utf-8") as file:
        for line in file:
            messages = json.loads(line)["messages"]
            _, _, new_ids, _, reply = answer(model, tokenizer, messages[:-1])
            wanted = messages[-1]["content"]
            chats += 1
            words += reply == wanted
            ended += new_ids[-1] == train.TURN_END
            if wanted.startswith("Verdict"):
                critiques += 1
                verdicts += labels(reply) == labels(wanted)
    return {"chats": chats, "same_words": words, "ended_turn": ended, "critiques": critiques,
            "right_verdict_and_flaw": verdicts}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=os.path.dirname(os.path.abspath(__file__)))
    directory = parser.parse_args().model
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    for messages in PROMPTS:
        assert tokenizer.apply_chat_template(messages, tokenize=False) == train.render(messages)

    loss, count = held_out_loss(model, directory)
    cases = [expected_case(model, tokenizer, messages) for messages in PROMPTS]
    train.write_json(f"{directory}/expected.json", {
        "note": "float32 arithmetic on the stored bfloat16 weights; greedy; stops after <|im_end|>",
        "torch": torch.__version__, "transformers": transformers.__version__,
        "heldout": {"file": "heldout.jsonl", "assistant_tokens": count, "mean_loss": round(loss, 6)}, "cases": cases})
    for case in cases:
        print(f"--- {case['messages'][-1]['content']}\n{case['text']}\n[margin {case['min_margin']}, "
              f"ends turn: {case['ends_turn']}]")
    print("held-out loss", round(loss, 5), "over", count, "tokens", held_out_accuracy(model, tokenizer, directory))

    right_verdicts = right_flaws = 0
    for text, verdict, flaw in PROBES:
        _, _, _, _, reply = answer(model, tokenizer, [user(text)])
        found = labels(reply)
        right_verdicts += found[0] == verdict
        right_flaws += found == (verdict, flaw)
        print("probe", "ok " if found == (verdict, flaw) else "BAD", text, "->", found)
    print(f"probes: {right_verdicts} of {len(PROBES)} verdicts, {right_flaws} with the wanted flaw")


if __name__ == "__main__":
    main()
