#!/usr/bin/env bash
# From a bare machine to a classifier: an environment, simulated SAR images, a tiny HiViT pre-trained for a few epochs, a
# linear probe on what it learnt, and pictures of both.
#   bash example/quickstart.sh [output folder, default example/output]
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "${1:-$top/example/output}"
output=$(cd "${1:-$top/example/output}" && pwd)
python=$top/.venv/bin/python

echo "1/4 installing into $top/.venv"
bash "$top/example/setup.sh" -r requirements_pretrain.txt

echo "2/4 simulating SAR images in $output/simulated"
"$python" "$top/example/simulate.py" --output_dir "$output/simulated"

echo "3/4 pre-training in $output/pretrain"
"$python" "$top/pre-training/main_pretrain.py" \
    --data_path "$output/simulated/chips/TRAIN" --output_dir "$output/pretrain" --resume auto \
    --model mae_hivit_tiny_dec512d6b --input_size 128 --batch_size 16 --lr 5e-4 \
    --epochs 6 --warmup_epochs 1 --image_every 6 --save_every 2 --keep 1

echo "4/4 classifying in $output/classify"
for trainer in MIM_linear kNN; do
    "$python" "$top/classification/train.py" --root "$output/simulated" --output-dir "$output/classify" \
        --dataset-config-file "$top/classification/configs/datasets/simulated.yaml" \
        --trainer $trainer --config-file "$top/classification/configs/trainers/$trainer/vit_t16.yaml" \
        --seeds 0-2 --shots 5,all MODEL.INIT_WEIGHTS "$output/pretrain/checkpoint-6.pth" DATALOADER.NUM_WORKERS 0 \
        > "$output/classify-$trainer.log"
    grep "accuracy .* seeds" "$output/classify-$trainer.log"
done
echo "(chance is 10%; 150 steps teach next to nothing about classes, see the README for what 25 minutes on real chips do)"

echo "done: look at $output/simulated/classes.png, $output/pretrain/reconstruction-6.png,"
echo "and $output/classify/simulated/MIM_linear/vit_t16_allshots/seed0/confusion.png,"
echo "and at the curves with $top/.venv/bin/tensorboard --logdir $output"
