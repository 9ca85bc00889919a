#!/bin/sh
# The built-in critic from a seed to its files: data, training from scratch, calibration, adapters
# for four domains, and what they are worth. Two cores, no network; times are printed. The same
# command goes on after a kill.
#
#   models/critic/make.sh [OUT]          MINICRIT=path/to/minicrit ROWS=26400 CRITIQUES=3000
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:-critic-build}
minicrit=${MINICRIT:-minicrit}
rows=${ROWS:-26400}
critiques=${CRITIQUES:-3000}
domain_rows=${DOMAIN_ROWS:-1600}
tests=${TESTS:-1200}
started=$(date +%s)
# The tensor library's own threads wait in loops; the work is divided over minicrit's.
export CANDLE_NUM_THREADS=1 RAYON_NUM_THREADS=1
said() { echo "[$(($(date +%s) - started)) s] $*" >&2; }

# finetune into $1 with the other arguments, or go on where it was stopped, or find it done.
tune() {
    into=$1
    shift
    [ -e "$into/model.safetensors" ] || [ -e "$into/adapter_model.safetensors" ] && return
    resume=
    ls "$into"/checkpoint-* > /dev/null 2>&1 && resume=--resume
    "$minicrit" finetune "$@" --output "$into" --grad-accum 1 --max-seq-len 384 --seed 1 \
        --save-every 100 $resume
}

examples() { "$minicrit" data hard-examples "$@"; }

mkdir -p "$out"
said "data: $rows verdicts and $critiques critiques; nothing of them is held out or for tuning"
examples --count "$rows" --seed 1 --invented 0.35 --short --output "$out/verdicts.jsonl"
examples --count 300 --seed 55 --tuning --short --output "$out/watch.jsonl"
examples --count "$critiques" --seed 2 --invented 0.2 --output "$out/critiques.jsonl"
for _ in 1 2 3 4 5 6 7 8 9 10; do cat "$here/chats.jsonl"; done >> "$out/critiques.jsonl"
examples --count 1200 --seed 77 --tuning --output "$out/tune.jsonl"

said "training from nothing: verdict and flaw"
tune "$out/verdicts" nano --from-scratch --config "$here/config.json" \
    --data "$out/verdicts.jsonl" --valid "$out/watch.jsonl" --eval-every 200 \
    --epochs 1 --batch-size 24 --lr 0.003 --warmup 50 --weight-decay 0.05

said "training goes on: whole critiques, and what to say when there is no argument"
tune "$out/model" "$out/verdicts" --full --data "$out/critiques.jsonl" \
    --epochs 1 --batch-size 24 --lr 0.0015 --warmup 10 --weight-decay 0.05

said "calibration on items for tuning"
"$minicrit" eval "$out/tune.jsonl" --model "$out/model" --prompt rationale --calibrate > "$out/tune.txt"

said "what it is worth: held-out items, and a hundred written by hand"
"$minicrit" eval holdout --model "$out/model" --output "$out/holdout" | tee "$out/holdout.txt"
"$minicrit" eval adversarial --model "$out/model" --output "$out/adversarial" | tee "$out/adversarial.txt"

# The base knows the patterns of every field. A field's adapter learns its own ones beside them.
for domain in trading defense cyber medical; do
    said "adapter: $domain"
    of="--domains $domain --patterns all"
    examples --count "$domain_rows" --seed 3 $of --short --output "$out/$domain.jsonl"
    examples --count $((domain_rows / 4)) --seed 4 $of --output "$out/$domain-critiques.jsonl"
    cat "$out/$domain-critiques.jsonl" >> "$out/$domain.jsonl"
    examples --count 600 --seed 78 $of --tuning --output "$out/$domain-tune.jsonl"
    examples --count "$tests" --seed 88 $of --held-out --output "$out/$domain-test.jsonl"
    tune "$out/critic-$domain" "$out/model" --data "$out/$domain.jsonl" \
        --rank 8 --alpha 16 --epochs 1 --batch-size 16 --lr 0.002
    "$minicrit" eval "$out/$domain-tune.jsonl" --model "$out/model" --adapter "$out/critic-$domain" \
        --prompt rationale --calibrate > "$out/$domain-tune.txt"
    "$minicrit" eval "$out/$domain-test.jsonl" --model "$out/model" --adapter "$out/critic-$domain" \
        --compare base | tee "$out/$domain.txt"
done
said "done"
