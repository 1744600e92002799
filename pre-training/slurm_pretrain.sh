#!/usr/bin/env bash
# Pre-train under Slurm, one process for each GPU, on any number of machines:
#   sbatch --nodes 2 --gpus-per-node 8 --ntasks-per-node 8 --cpus-per-task 12 slurm_pretrain.sh \
#       --data_path DIR --output_dir DIR --batch_size 100 --epochs 800
# or with --ntasks 16 --gpus-per-task 1, by which each process sees its own GPU alone.
# Options before the script's name go to Slurm, those after it to main_pretrain.py; --resume auto is added. --output_dir
# must be a folder that all machines share. Ahead of the time limit, and when the job is preempted, the run saves its state
# and the job is queued again; so is one whose machine failed. PYTHON names the interpreter (default: .venv of the project,
# else python).
#SBATCH --job-name=saratrx
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=USR1@180
set -uo pipefail

# Slurm runs a copy of this script from a folder of its own
stage=${SARATRX_STAGE:-${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")}}
if [ ! -f "$stage/main_pretrain.py" ]; then
    echo "error: no main_pretrain.py in $stage: run sbatch in pre-training/, or set SARATRX_STAGE to that folder" >&2
    exit 2
fi
if [ -z "${SLURM_JOB_NODELIST:-}" ]; then
    echo "error: this is not a Slurm job: start it with sbatch, or use torchrun or python main_pretrain.py" >&2
    exit 2
fi
python=${PYTHON:-$stage/../.venv/bin/python}
command -v "$python" > /dev/null || python=python

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 20000))}
export MASTER_ADDR MASTER_PORT
# since Slurm 22.05 srun does not take this over from sbatch by itself
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# srun starts the processes itself, so that signals and exit codes come straight to and from them
export SARATRX_PYTHON=$python SARATRX_MAIN=$stage/main_pretrain.py
srun --kill-on-bad-exit=0 bash -c '
    export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID
    exec "$SARATRX_PYTHON" "$SARATRX_MAIN" "$@"' pretrain --resume auto "$@" &
step=$!
trap "kill -TERM $step" TERM # a preempted job: srun hands it on
wait $step
code=$?
while kill -0 $step 2> /dev/null; do # a signal ends the first wait before the step has ended
    wait $step
    code=$?
done

if [ $code -eq 75 ]; then
    echo "the run saved its state: queued again"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
