#!/usr/bin/env bash
# From a bare machine to a classifier and a detector: an environment, simulated SAR images, a small HiViT pre-trained on
# them, what it and the shipped weights (example/weights) are worth beside random ones, few labels given, and a detector
# that starts from either, with pictures.
#   bash example/quickstart.sh [output folder, default example/output]
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
usage="usage: bash example/quickstart.sh [output folder, default example/output]"
case ${1-} in
    -h | --help) echo "$usage"; exit 0 ;;
    -*) echo "error: $1: no such option; $usage" >&2; exit 2 ;;
esac
[ $# -le 1 ] || { echo "error: $2: one folder is enough; $usage" >&2; exit 2; }
folder=${1:-$top/example/output}
{ mkdir -p "$folder" && [ -w "$folder" ]; } 2>/dev/null || {
    echo "error: $folder cannot be made or written to; name another folder" >&2
    exit 2
}
output=$(cd "$folder" && pwd)
python=$top/.venv/bin/python

echo "1/5 installing into $top/.venv"
bash "$top/example/setup.sh"

echo "2/5 simulating SAR images in $output/simulated"
"$python" "$top/example/simulate.py" --output_dir "$output/simulated"

echo "3/5 pre-training in $output/pretrain"
"$python" "$top/pre-training/main_pretrain.py" \
    --data_path "$output/simulated/chips/TRAIN" --output_dir "$output/pretrain" --resume auto \
    --model mae_hivit_nano_dec128d2b --input_size 128 --batch_size 32 --lr 6e-4 \
    --epochs 40 --warmup_epochs 2 --image_every 40 --save_every 20 --keep 1

echo "4/5 classifying in $output/classify: accuracy in %, mean and deviation over 5 draws of the training chips"
# Prints a row of the table; further words are train.py's: few_shots LABEL TRAINER CONFIG KEY VALUE ...
few_shots() {
    local label=$1 trainer=$2 config=$3 folder
    shift 3
    folder=$output/classify/$(printf %s "$label" | tr -cs 'a-z0-9' -)
    mkdir -p "$folder"
    "$python" "$top/classification/train.py" --root "$output/simulated" --output-dir "$folder" \
        --dataset-config-file "$top/classification/configs/datasets/simulated.yaml" --trainer "$trainer" \
        --config-file "$top/classification/configs/trainers/$trainer/$config.yaml" \
        --seeds 0-4 --shots 5,all DATALOADER.NUM_WORKERS 0 "$@" > "$folder/log.txt"
    printf '%-46s' "  $label"
    sed -n 's/.*shots: accuracy \([0-9.]*\)% +- \([0-9.]*\)% over.*/   \1 +- \2/p' "$folder/log.txt" | tr -d '\n'
    echo
}
weights=$top/example/weights/model.safetensors
trained=$output/pretrain/checkpoint-40.pth
printf '%-46s   %s\n' "" "5 chips a class   all 40"
printf '%-46s   %s\n' "  chance" "10.0              10.0"
few_shots "raw pixels, nearest neighbours" kNN vit_n16 MODEL.BACKBONE.NAME raw_pixels
few_shots "random weights, probe" MIM_linear vit_n16_middle MODEL.RANDOM_INIT True
few_shots "step 3's weights, probe" MIM_linear vit_n16_middle MODEL.INIT_WEIGHTS "$trained"
few_shots "shipped weights, nearest neighbours" kNN vit_n16_middle MODEL.INIT_WEIGHTS "$weights"
few_shots "shipped weights, probe" MIM_linear vit_n16_middle MODEL.INIT_WEIGHTS "$weights"

echo "5/5 detecting in $output/detect: the same training from random weights and from the shipped ones"
config=$top/detection/configs/_hivit_/hivit_nano_simulated.py
scenes=$output/simulated/scenes
for start in random shipped; do
    init=none
    [ $start = random ] || init=$weights
    mkdir -p "$output/detect/$start"
    "$python" "$top/detection/tools/train.py" "$config" --data-root "$scenes" --init-weights "$init" \
        --work-dir "$output/detect/$start" --resume > "$output/detect/$start.log"
    "$python" "$top/detection/huge_image_infer.py" "$config" "$output/detect/$start/epoch_12.pth" \
        "$scenes"/images/test/000{0,1,2}*.png --output_dir "$output/detect/$start/found" --window 384 --overlap 128 \
        > "$output/detect/$start-scenes.log" 2>&1
done
"$python" "$top/example/fig_found.py" --truth "$scenes/annotations/test.json" --images "$scenes/images/test" \
    --found "$output/detect/random/found" "$output/detect/shipped/found" --names "random weights" "shipped weights" \
    --output "$output/detect/found.png"

echo "done: look at $output/simulated/classes.png, $output/pretrain/reconstruction-40.png,"
echo "$output/detect/found.png, $output/classify/shipped-weights-probe/simulated/MIM_linear/vit_n16_middle_5shots/seed0/confusion.png,"
echo "and at the curves with $top/.venv/bin/tensorboard --logdir $output"
