#!/bin/sh
# From labelled data to an adapter in use, without network: generate, check, train, measure before
# and after, promote, ask.
#
#   examples/tour.sh [FOLDER]            MINICRIT=path/to/minicrit ROWS=1600 TESTS=600
set -eu

minicrit=${MINICRIT:-minicrit}
rows=${ROWS:-1600}
tests=${TESTS:-600}
mkdir -p "${1:-tour}"
cd "${1:-tour}"

# The built-in critic knows the patterns of every field. These are about security, half of them
# in patterns of that field alone; the held-out ones use words and clauses that training never has.
cyber="--domains cyber --patterns all"
"$minicrit" data hard-examples $cyber --count "$rows" --seed 3 --short --output train.jsonl
"$minicrit" data hard-examples $cyber --count "$tests" --seed 78 --tuning --output tune.jsonl
"$minicrit" data hard-examples $cyber --count "$tests" --seed 88 --held-out --output test.jsonl

"$minicrit" data check train.jsonl --model nano

"$minicrit" finetune nano --data train.jsonl --output critic-cyber \
    --rank 8 --alpha 16 --epochs 1 --batch-size 16 --grad-accum 1 --lr 0.002 --seed 1

# How its confidence is to be read, fitted on items that are neither trained nor tested on.
"$minicrit" eval tune.jsonl --model nano --adapter critic-cyber --calibrate > tune.txt

"$minicrit" eval test.jsonl --model nano --adapter critic-cyber --compare base --output report

"$minicrit" adapters promote critic-cyber --model nano --name cyber --suite test.jsonl

"$minicrit" critique --adapter cyber --explain \
    "The logs show no breach, so our network is secure."
