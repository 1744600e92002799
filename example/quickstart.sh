#!/usr/bin/env bash
# From a bare machine to a classifier and a detector: an environment, simulated SAR images, a small HiViT pre-trained on
# them, what it and the shipped weights (example/weights) are worth beside random ones, few labels given, and a detector
# that starts from either, with pictures, on one page: report.html.
#   bash example/quickstart.sh [--fast] [output folder, default example/output]
# --fast is the same with less of everything, in a third of the time; its detectors find nothing yet.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
usage="usage: bash example/quickstart.sh [--fast] [output folder, default example/output]"
epochs=30 seeds=0-2 shots=1,5,20,all scenes=60 rounds=20 default=$top/example/output
case ${1-} in
    -h | --help) echo "$usage"; exit 0 ;;
    --fast) epochs=4 seeds=0-1 shots=1,5,all scenes=12 rounds=6 default=$top/example/output/fast; shift ;;
    -*) echo "error: $1: no such option; $usage" >&2; exit 2 ;;
esac
[ $# -le 1 ] || { echo "error: $2: one folder is enough; $usage" >&2; exit 2; }
folder=${1:-$default}
{ mkdir -p "$folder" && [ -w "$folder" ]; } 2>/dev/null || {
    echo "error: $folder cannot be made or written to; name another folder" >&2
    exit 2
}
output=$(cd "$folder" && pwd)
python=$top/.venv/bin/python

echo "1/6 installing into $top/.venv: 7 GB, most of it PyTorch with its CUDA libraries, unless it is there"
bash "$top/example/setup.sh"
: > "$output/commands.txt"
# Runs a script of the project, and keeps the command for the report.
run() {
    (printf 'python'; printf ' %q' "${@//$top\//}"; echo) >> "$output/commands.txt"
    "$python" "$@"
}

echo "2/6 simulating SAR images in $output/simulated"
run "$top/example/simulate.py" --output_dir "$output/simulated" --scenes "$scenes" 9

echo "3/6 pre-training in $output/pretrain"
run "$top/pre-training/main_pretrain.py" \
    --data_path "$output/simulated/chips/TRAIN" --output_dir "$output/pretrain" --resume auto \
    --model mae_hivit_nano_dec128d2b --input_size 128 --batch_size 32 --lr 6e-4 \
    --epochs "$epochs" --warmup_epochs 2 --image_every "$epochs" --save_every "$epochs" --keep 1

echo "4/6 classifying in $output/classify: accuracy in %, mean and deviation over draws of the training chips"
mkdir -p "$output/classify"
: > "$output/classify/table.tsv"
# Prints a row of the table; further words are train.py's: few_shots LABEL TRAINER CONFIG KEY VALUE ...
few_shots() {
    local label=$1 trainer=$2 config=$3 folder
    shift 3
    folder=$output/classify/$(printf %s "$label" | tr -cs 'a-z0-9' -)
    mkdir -p "$folder"
    printf '%-40s' "  $label"
    run "$top/classification/train.py" --root "$output/simulated" --output-dir "$folder" \
        --dataset-config-file "$top/classification/configs/datasets/simulated.yaml" --trainer "$trainer" \
        --config-file "$top/classification/configs/trainers/$trainer/$config.yaml" \
        --seeds "$seeds" --shots "$shots" DATALOADER.NUM_WORKERS 0 "$@" > "$folder/log.txt"
    sed -n "s/.*_\([0-9al]*\)shots: accuracy \([0-9.]*\)% +- \([0-9.]*\)% over.*/$label\t\1\t\2\t\3/p" "$folder/log.txt" |
        sed 's/\tall\t/\t40\t/' | tee -a "$output/classify/table.tsv" |
        awk -F '\t' '{ printf "%14s", sprintf("%.1f +- %.1f", $3, $4) } END { print "" }'
}
weights=$top/example/weights/model.safetensors
trained=$output/pretrain/checkpoint-$epochs.pth
printf '%-40s' "  chips of each class (of 10: chance 10 %)"
printf '%14s' ${shots//,/ } | sed 's/all/ 40/'
echo
few_shots "raw pixels, nearest neighbours" kNN vit_n16 MODEL.BACKBONE.NAME raw_pixels
few_shots "random weights, probe" MIM_linear vit_n16_middle MODEL.RANDOM_INIT True
few_shots "weights of step 3, probe" MIM_linear vit_n16_middle MODEL.INIT_WEIGHTS "$trained"
few_shots "shipped weights, nearest neighbours" kNN vit_n16_middle MODEL.INIT_WEIGHTS "$weights"
few_shots "shipped weights, probe" MIM_linear vit_n16_middle MODEL.INIT_WEIGHTS "$weights"

echo "5/6 detecting in $output/detect: the same training from random weights and from the shipped ones"
config=$top/detection/configs/_hivit_/hivit_nano_simulated_gfl.py
scenes=$output/simulated/scenes
amp=()
"$python" - <<< 'import sys, torch; from saratrx.device import fast_bf16
sys.exit(not (fast_bf16() or torch.cuda.is_available()))' && amp=(--amp)
for start in random shipped; do
    init=none
    [ $start = random ] || init=$weights
    mkdir -p "$output/detect/$start"
    PYTHONWARNINGS=ignore run "$top/detection/tools/train.py" "$config" --data-root "$scenes" --init-weights "$init" \
        --work-dir "$output/detect/$start" --resume "${amp[@]}" \
        --cfg-options train_cfg.max_epochs="$rounds" train_cfg.val_interval="$rounds" \
        param_scheduler.1.end="$rounds" param_scheduler.1.T_max="$rounds" | tee "$output/detect/$start.log" |
        sed -un "s/.*Epoch(train) *\[\([0-9]*\)\].*eta: \([0-9:]*\).*/  $start weights: epoch \1 of $rounds, \2 left/p"
    run "$top/detection/huge_image_infer.py" "$config" "$output/detect/$start/epoch_$rounds.pth" \
        "$scenes"/images/test/000{0,1,2}*.png --output_dir "$output/detect/$start/found" --window 384 --overlap 128 \
        > "$output/detect/$start-scenes.log" 2>&1
done
run "$top/example/fig_found.py" --truth "$scenes/annotations/test.json" --images "$scenes/images/test" \
    --found "$output/detect/random/found" "$output/detect/shipped/found" --names "random weights" "shipped weights" \
    --output "$output/detect/found.png"

echo "6/6 reporting"
"$python" "$top/example/report.py" "$output"
echo "done: open $output/report.html in a browser; curves: $top/.venv/bin/tensorboard --logdir $output"
