#!/bin/sh
# The built-in critic from a seed to its files: data, training from scratch, calibration, adapters
# for four domains, and what they are worth. Two cores; times are printed.
#
#   models/critic/make.sh [OUT]          MINICRIT=path/to/minicrit ROWS=120000 EPOCHS=2
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:-critic-build}
minicrit=${MINICRIT:-minicrit}
rows=${ROWS:-120000}
epochs=${EPOCHS:-2}
started=$(date +%s)
said() { echo "[$(($(date +%s) - started)) s] $*" >&2; }

mkdir -p "$out"

said "data: $rows rows for training; held-out clauses and words for calibration"
"$minicrit" data hard-examples --count "$rows" --seed 1 --output "$out/train.jsonl"
# Calibration and the choice of settings use another seed than the suite that is reported.
"$minicrit" data hard-examples --count 1200 --held-out --seed 77 --output "$out/valid.jsonl"

said "training from scratch"
"$minicrit" finetune nano --from-scratch --config "$here/config.json" \
    --data "$out/train.jsonl" --valid "$out/valid.jsonl" --output "$out/model" \
    --epochs "$epochs" --batch-size 32 --grad-accum 1 --max-seq-len 512 \
    --lr 0.002 --warmup 100 --scheduler cosine --weight-decay 0.1 --clip 1 --dtype bf16 \
    --eval-every 500 --save-every 500 --seed 1 --resume

said "calibration on $out/valid.jsonl"
"$minicrit" eval "$out/valid.jsonl" --model "$out/model" --prompt rationale --calibrate > "$out/calibration.txt"

said "what it is worth: held-out items, and a hundred written by hand"
"$minicrit" eval holdout --model "$out/model" --output "$out/holdout" | tee "$out/holdout.txt"
"$minicrit" eval adversarial --model "$out/model" --output "$out/adversarial" | tee "$out/adversarial.txt"

for domain in trading defense cyber medical; do
    said "adapter: $domain"
    "$minicrit" data hard-examples --count 12000 --domains "$domain" --seed 3 --output "$out/$domain.jsonl"
    "$minicrit" finetune "$out/model" --data "$out/$domain.jsonl" --output "$out/critic-$domain" \
        --rank 8 --alpha 16 --epochs 1 --batch-size 32 --grad-accum 1 --lr 0.001 --seed 1
    "$minicrit" data hard-examples --count 1200 --held-out --domains "$domain" --seed 88 --output "$out/$domain-test.jsonl"
    "$minicrit" eval "$out/$domain-test.jsonl" --model "$out/model" --adapter "$out/critic-$domain" \
        --prompt rationale --compare base | tee "$out/$domain.txt"
done
said "done"
