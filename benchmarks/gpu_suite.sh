#!/usr/bin/env bash
# All that one machine with GPUs can show of pre-training's speed, in nine minutes or less:
#   bash benchmarks/gpu_suite.sh [name of the machine, default the GPU's]
#   DEVICE=cpu SIZE=tiny BATCHES=4 ROUNDS=1 bash benchmarks/gpu_suite.sh trial   # that it works at all, on a CPU
# Each part writes its JSON to benchmarks/results/<name>-<part>.json, and all that they print goes to <name>.md beside them.
# A part that does not end in its time is cut off, and the next one goes on.
set -uo pipefail
usage="usage: bash benchmarks/gpu_suite.sh [name of the machine, default the GPU's]; DEVICE, SIZE, BATCHES, ROUNDS set more"
case ${1-} in
    -h | --help) echo "$usage"; exit 0 ;;
    -* | */*) echo "error: $1: no such option, and no name; $usage" >&2; exit 2 ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
command -v "$python" > /dev/null || python=python
device=${DEVICE:-cuda}
name=${1:-$("$python" -c 'import torch; print(torch.cuda.get_device_name().lower().replace(" ", "-"))')} || exit 2
results=${RESULTS:-benchmarks/results}
mkdir -p "$results"
table=$results/$name.md
gpus=$("$python" -c 'import torch; print(max(torch.cuda.device_count(), 1))')

part() { # its name, its seconds, its command
    local part=$1 seconds=$2 code=0
    shift 2
    { echo; echo "## $part"; echo; echo "\`${*#benchmarks/}\`"; echo; echo '```'; } >> "$table"
    echo "$part"
    timeout "$seconds" "$python" "$@" --device "$device" --json "$results/$name-$part.json" > >(tee -a "$table") 2> >(tail -n 3 >&2) \
        || code=$?
    [ "$code" = 0 ] || echo "ended with $code$([ "$code" = 124 ] && echo ": not done in $seconds s")" | tee -a "$table"
    echo '```' >> "$table"
}

{ echo "# Pre-training on $name"; echo; date -u +%F; } > "$table"
size=${SIZE:-base}
read -ra batches <<< "${BATCHES:-64 128 256}"
processes=(1)
[ "$device" = cpu ] && processes=(1 2)
[ "$gpus" -gt 1 ] && processes=(1 "$gpus")
part step 300 benchmarks/pretrain.py --size "$size" --batch_size "${batches[@]}" --rounds "${ROUNDS:-5}" --data
part loader 120 benchmarks/loader.py --batch_size "${batches[-1]}" --rounds "${ROUNDS:-2}"
part scaling 110 benchmarks/scaling.py --size "$size" --batch_size "${batches[-1]}" --processes "${processes[@]}"
echo "written to $table"
