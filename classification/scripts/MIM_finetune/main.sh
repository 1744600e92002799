#!/usr/bin/env bash
# Fine-tuning: all seeds of one data set and config, for one number of shots or several (40 in the literature).
#   bash scripts/MIM_finetune/main.sh MSTAR_SOC vit_b16 40 [KEY VALUE ...]
# Settings, with their defaults: DATA=data (folder of the data sets) CHECKPOINT=checkpoint-200.pth SEEDS=0-4 OUTPUT=output
SEEDS=${SEEDS:-0-4} exec bash "$(dirname "${BASH_SOURCE[0]}")/../main.sh" MIM_finetune "$@"
