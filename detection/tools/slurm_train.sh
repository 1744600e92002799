#!/usr/bin/env bash
# Train under Slurm:  GPUS=16 ./tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of train.py]
# GPUS (8), GPUS_PER_NODE (8, or GPUS if fewer), CPUS_PER_TASK (5) and SRUN_ARGS are read from the environment.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "error: usage: ./tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of train.py]" >&2
    exit 2
fi
partition=$1 job=$2 config=$3 work_dir=$4
shift 4
gpus=${GPUS:-8} per_node=${GPUS_PER_NODE:-$((${GPUS:-8} < 8 ? ${GPUS:-8} : 8))}
read -ra more <<< "${SRUN_ARGS:-}"
srun -p "$partition" --job-name "$job" --gres "gpu:$per_node" --ntasks "$gpus" --ntasks-per-node "$per_node" \
    --cpus-per-task "${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 "${more[@]}" \
    bash -c 'export MASTER_PORT=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 20000))}; exec python "$@"' train \
    "$(dirname "${BASH_SOURCE[0]}")/train.py" "$config" --work-dir "$work_dir" --seed 0 --launcher slurm "$@"
