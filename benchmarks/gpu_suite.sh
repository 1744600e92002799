#!/usr/bin/env bash
# All that one machine with GPUs can show of pre-training's speed, in nine minutes or less:
#   bash benchmarks/gpu_suite.sh [name of the machine, default the GPU's]
#   DEVICE=cpu SIZE=tiny BATCHES=4 ROUNDS=1 bash benchmarks/gpu_suite.sh trial   # that it works at all, on a CPU
# It needs python3 with torch, torchvision and timm; this project need not be installed, nor the rest of what it needs.
# What matters most comes first: bf16, compiled, with the largest batch; the published form; the same fed from the cache.
# Each part writes its JSON to benchmarks/results/<name>-<part>.json as it goes, and all that they print goes to <name>.md
# beside them. A part that does not end in its time is cut off, and the next one goes on.
set -uo pipefail
usage="usage: bash benchmarks/gpu_suite.sh [name of the machine, default the GPU's]; DEVICE, SIZE, BATCHES, ROUNDS, CHIPS, \
RESULTS and PYTHON set more"
case ${1-} in
    -h | --help) echo "$usage"; exit 0 ;;
    -* | */*) echo "error: $1: no such option, and no name; $usage" >&2; exit 2 ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for python in "${PYTHON:-.venv/bin/python}" python3 python; do
    command -v "$python" > /dev/null && break
done
export PYTHONPATH=$PWD:$PWD/pre-training:$PWD/benchmarks${PYTHONPATH:+:$PYTHONPATH}
device=${DEVICE:-cuda}
# all that the parts import, before any of them spends its time
found=$("$python" - "$device" << 'END'
import sys
try:
    import loader, pretrain, scaling, torch
except ImportError as error:
    sys.exit(f"error: {error}: install it, or set PYTHON to the python that has it")
if sys.argv[1] != "cpu" and not torch.cuda.is_available():
    sys.exit("error: PyTorch sees no CUDA GPU here; DEVICE=cpu tries the benchmarks on the CPU")
print(torch.cuda.get_device_name().lower().replace(" ", "-") if torch.cuda.is_available() else "cpu")
print(max(torch.cuda.device_count(), 1))
END
) || exit 2
name=${1:-${found%$'\n'*}}
gpus=${found##*$'\n'}
results=${RESULTS:-benchmarks/results}
mkdir -p "$results" || exit 2
table=$results/$name.md

part() { # its name, its seconds, its command
    local part=$1 seconds=$(($2 * patience)) code=0
    shift 2
    { echo; echo "## $part"; echo; echo "\`${*#benchmarks/}\`"; echo; echo '```'; } >> "$table"
    echo "$part"
    timeout "$seconds" "$python" "$@" --device "$device" --json "$results/$name-$part.json" > >(tee -a "$table") 2> >(tail -n 3 >&2) \
        || code=$?
    [ "$code" = 0 ] || { echo "ended with $code$([ "$code" = 124 ] && echo ": not done in $seconds s")" | tee -a "$table"; failed=1; }
    echo '```' >> "$table"
}

{ echo "# Pre-training on $name"; echo; date -u +%F; } > "$table"
failed=0
size=${SIZE:-base}
read -ra batches <<< "${BATCHES:-256 128 64}"
processes=(1)
chips=20000 patience=1
[ "$device" = cpu ] && processes=(1 2) && chips=400 patience=5
[ "$gpus" -gt 1 ] && processes=(1 "$gpus")
part step 300 benchmarks/pretrain.py --size "$size" --batch_size "${batches[@]}" --rounds "${ROUNDS:-5}" --data
part loader 120 benchmarks/loader.py --batch_size "${batches[0]}" --rounds "${ROUNDS:-2}" --chips "${CHIPS:-$chips}"
part scaling 110 benchmarks/scaling.py --size "$size" --batch_size "${batches[0]}" --processes "${processes[@]}"
echo "written to $table"
exit $failed
