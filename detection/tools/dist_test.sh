#!/usr/bin/env bash
# Evaluate on several GPUs:  ./tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of test.py]
set -euo pipefail
config=$1 checkpoint=$2 gpus=$3
shift 3
torchrun --nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}" --master_addr "${MASTER_ADDR:-127.0.0.1}" \
    --master_port "${PORT:-29500}" --nproc_per_node "$gpus" \
    "$(dirname "${BASH_SOURCE[0]}")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
