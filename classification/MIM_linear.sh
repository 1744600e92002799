#!/usr/bin/env bash
# The few-shot tables of the published experiments: linear probes of all shots and seeds.
#   bash MIM_linear.sh [DATASET ...]     default: those of the seven that are in $DATA
# Settings, with their defaults: DATA=data (folder of the data sets) CHECKPOINT=checkpoint-200.pth SEEDS=0-9 OUTPUT=output
#   CFG=vit_b16 (vit_t16: HiViT-T, 128 px)   SHOTS=1,2,3,4,5,10,20,25 for MSTAR, 5,10,20 for the others
set -euo pipefail
stage=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=${DATA:-data}
datasets=("$@")
if [ $# -eq 0 ]; then
    for dataset in MSTAR_SOC MSTAR_EOC1 MSTAR_EOC2C MSTAR_EOC2V New_FUSAR SAR_ACD MyDataset; do
        if [ -d "$data/$dataset" ]; then datasets+=("$dataset"); else echo "$data/$dataset is not there: left out"; fi
    done
fi
if [ ${#datasets[@]} -eq 0 ]; then
    echo "error: $data holds none of the data sets; set DATA to the folder that does" >&2
    exit 2
fi

for dataset in "${datasets[@]}"; do
    case $dataset in
        MSTAR_*) shots=1,2,3,4,5,10,20,25 ;;
        *) shots=5,10,20 ;;
    esac
    bash "$stage/scripts/MIM_linear/main.sh" "$dataset" "${CFG:-vit_b16}" "${SHOTS:-$shots}"
done
