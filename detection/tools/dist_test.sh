#!/usr/bin/env bash
# Evaluate with several processes:  ./tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of test.py]
# NNODES, NODE_RANK, PORT and MASTER_ADDR as for dist_train.sh.
set -euo pipefail
if [ $# -lt 3 ] || ! [[ $3 =~ ^[1-9][0-9]*$ ]]; then
    echo "error: usage: ./tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of test.py], where GPUS is a number" >&2
    exit 2
fi
config=$1 checkpoint=$2 gpus=$3
shift 3
if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
    place=(--standalone)  # on a free port
else
    place=(--nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}" --master_addr "${MASTER_ADDR:-127.0.0.1}"
        --master_port "${PORT:-29500}")
fi
python -m saratrx.launch "${place[@]}" --nproc_per_node "$gpus" \
    "$(dirname "${BASH_SOURCE[0]}")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
