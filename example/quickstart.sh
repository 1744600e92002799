#!/usr/bin/env bash
# From a bare machine to a trained masked autoencoder: an environment, simulated SAR images, a tiny HiViT pre-trained for a
# few epochs, and a picture of what it learnt.
#   bash example/quickstart.sh [output folder, default example/output]
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "${1:-$top/example/output}"
output=$(cd "${1:-$top/example/output}" && pwd)
python=$top/.venv/bin/python

echo "1/3 installing into $top/.venv"
bash "$top/example/setup.sh" -r requirements_pretrain.txt

echo "2/3 simulating SAR images in $output/simulated"
"$python" "$top/example/simulate.py" --output_dir "$output/simulated"

echo "3/3 pre-training in $output/pretrain"
"$python" "$top/pre-training/main_pretrain.py" \
    --data_path "$output/simulated/chips/TRAIN" --output_dir "$output/pretrain" --resume auto \
    --model mae_hivit_tiny_dec512d6b --input_size 128 --batch_size 16 --lr 5e-4 \
    --epochs 6 --warmup_epochs 1 --image_every 6 --save_every 2 --keep 1

echo "done: look at $output/pretrain/reconstruction-6.png and $output/simulated/classes.png,"
echo "and at the curves with $top/.venv/bin/tensorboard --logdir $output/pretrain"
