#!/usr/bin/env bash
# Train with several processes, one per GPU:  ./tools/dist_train.sh CONFIG GPUS [options of train.py]
# On several machines, with NNODES, NODE_RANK, PORT and MASTER_ADDR set on each. Without GPUs they share the CPU.
set -euo pipefail
if [ $# -lt 2 ] || ! [[ $2 =~ ^[1-9][0-9]*$ ]]; then
    echo "error: usage: ./tools/dist_train.sh CONFIG GPUS [options of train.py], where GPUS is a number" >&2
    exit 2
fi
config=$1 gpus=$2
shift 2
if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
    place=(--standalone)  # on a free port
else
    place=(--nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}" --master_addr "${MASTER_ADDR:-127.0.0.1}"
        --master_port "${PORT:-29500}")
fi
python -m saratrx.launch "${place[@]}" --nproc_per_node "$gpus" \
    "$(dirname "${BASH_SOURCE[0]}")/train.py" "$config" --seed 0 --launcher pytorch "$@"
