#!/usr/bin/env bash
# Eight minutes of real pre-training, for machines that are free for ten; the same command again goes on where they ended:
#   bash benchmarks/gpu_train.sh DATA_PATH OUTPUT_DIR [options of main_pretrain.py]
#   DURATION=20 bash benchmarks/gpu_train.sh chips out --model mae_hivit_micro_dec32d1b --device cpu --batch_size 8
# OUTPUT_DIR holds what the next call goes on from; CACHE (default: OUTPUT_DIR/cache) the decoded images, which are decoded
# again where it is missing. PYTHON names the interpreter. The exit code is 0 if the state was saved, or the run is done.
set -uo pipefail
usage="usage: bash benchmarks/gpu_train.sh DATA_PATH OUTPUT_DIR [options of main_pretrain.py]; DURATION (480 s), CACHE and \
PYTHON set more"
case ${1-} in
    -h | --help) echo "$usage"; exit 0 ;;
    -*) echo "error: $1: no such option here; $usage" >&2; exit 2 ;;
esac
[ $# -ge 2 ] || { echo "error: name the images and the output folder; $usage" >&2; exit 2; }
data=$1 output=$2
shift 2
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
for python in "${PYTHON:-$top/.venv/bin/python}" python3 python; do
    command -v "$python" > /dev/null && break
done
export PYTHONPATH=$top:$top/pre-training${PYTHONPATH:+:$PYTHONPATH}
told=$(mktemp) || exit 2
trap 'rm -f "$told"' EXIT

# SIGTERM makes the run save its state and end with 75; a first step that is being compiled ends before
timeout --preserve-status --signal TERM --kill-after 100 "${DURATION:-480}" \
    "$python" "$top/pre-training/main_pretrain.py" --data_path "$data" --output_dir "$output" --resume auto \
    --cache "${CACHE:-$output/cache}" --augment device --batch_size 256 --epochs 800 --save_minutes 3 --image_every 0 "$@" \
    2>&1 | tee "$told"
code=${PIPESTATUS[0]}

grep -oE '[0-9.]+ images/s' "$told" | sort -n \
    | awk '{ speed[NR] = $1 } END { if (NR) print "images/s: " speed[int((NR + 1) / 2)] ", the median of " NR " lines" }'
[ ! -s "$output/log.txt" ] || echo "last whole epoch: $(tail -n 1 "$output/log.txt")"
case $code in
    0) echo "the run is done: $output" ;;
    75) echo "the state is saved; next: the same command again, with $output as it is now" ;;
    137 | 143) echo "error: stopped before its state could be saved; set DURATION to more than ${DURATION:-480}" >&2; exit 1 ;;
    *) exit "$code" ;;
esac
