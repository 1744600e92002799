#!/usr/bin/env bash
# All seeds of one trainer, data set and config, for one number of shots or several: what scripts/*/main.sh call.
#   bash scripts/main.sh TRAINER DATASET CFG SHOTS [KEY VALUE ...]
set -euo pipefail
stage=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ $# -lt 4 ]; then
    echo "error: name the data set, the config and the shots, such as MSTAR_SOC vit_b16 5 or MSTAR_SOC vit_b16 1,2,5" >&2
    exit 2
fi
trainer=$1 dataset=$2 cfg=$3 shots=$4
shift 4

checkpoint=${CHECKPOINT-checkpoint-200.pth} python=${PYTHON:-python}
needed='import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, ("saratrx", "torch", "yacs"))))'
if ! "$python" -c "$needed" 2> /dev/null; then
    echo "error: $python is no Python with this project in it: activate its environment, such as" \
        "'source .venv/bin/activate', or set PYTHON" >&2
    exit 2
fi
for kind in datasets trainers; do
    case $kind in datasets) file=$dataset.yaml ;; *) file=$trainer/$cfg.yaml ;; esac
    if [ ! -f "$stage/configs/$kind/$file" ]; then
        folder=$stage/configs/$kind/$(dirname "$file")
        echo "error: $stage/configs/$kind/$file: no such config; there are" \
            "$(cd "$folder" 2> /dev/null && echo *.yaml)" >&2
        exit 2
    fi
done
"$python" "$stage/train.py" \
    --root "${DATA:-data}" --trainer "$trainer" --seeds "${SEEDS:-0-9}" --shots "$shots" \
    --dataset-config-file "$stage/configs/datasets/$dataset.yaml" \
    --config-file "$stage/configs/trainers/$trainer/$cfg.yaml" \
    --output-dir "${OUTPUT:-output}" \
    ${checkpoint:+MODEL.INIT_WEIGHTS "$checkpoint"} "$@"
