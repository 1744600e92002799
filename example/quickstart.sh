#!/usr/bin/env bash
# From a bare machine to a classifier and a detector: an environment, simulated SAR images, a tiny HiViT pre-trained for a
# few epochs, a linear probe on what it learnt, a detector that starts from it, and pictures of all three.
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
    --model mae_hivit_tiny_dec512d6b --input_size 128 --batch_size 16 --lr 5e-4 \
    --epochs 6 --warmup_epochs 1 --image_every 6 --save_every 2 --keep 1

echo "4/5 classifying in $output/classify"
for trainer in MIM_linear kNN; do
    "$python" "$top/classification/train.py" --root "$output/simulated" --output-dir "$output/classify" \
        --dataset-config-file "$top/classification/configs/datasets/simulated.yaml" \
        --trainer $trainer --config-file "$top/classification/configs/trainers/$trainer/vit_t16.yaml" \
        --seeds 0-2 --shots 5,all MODEL.INIT_WEIGHTS "$output/pretrain/checkpoint-6.pth" DATALOADER.NUM_WORKERS 0 \
        > "$output/classify-$trainer.log"
    grep "accuracy .* seeds" "$output/classify-$trainer.log"
done
echo "(chance is 10%; 150 steps teach next to nothing about classes, see benchmarks/README.md for what 25 minutes on real chips do)"

echo "5/5 detecting in $output/detect"
config=$top/detection/configs/_hivit_/hivit_tiny_simulated.py
"$python" "$top/detection/tools/train.py" "$config" --data-root "$output/simulated/scenes" \
    --init-weights "$output/pretrain/checkpoint-6.pth" --work-dir "$output/detect" --resume > "$output/detect.log"
grep -o "Epoch(val).*mAP_50: [0-9.]*" "$output/detect.log" | sed "s/\[9\/9\].*coco\/bbox_mAP_50/ mAP50/" || true
"$python" "$top/detection/huge_image_infer.py" "$config" "$output/detect/epoch_12.pth" \
    "$output"/simulated/scenes/images/test/000{1,2}*.png --output_dir "$output/detect/found" --window 384 --overlap 128

echo "done: look at $output/simulated/classes.png, $output/pretrain/reconstruction-6.png,"
echo "$output/classify/simulated/MIM_linear/vit_t16_allshots/seed0/confusion.png, $output/detect/found/*.jpg,"
echo "and at the curves with $top/.venv/bin/tensorboard --logdir $output"
