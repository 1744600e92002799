#!/usr/bin/env bash
# Nearest neighbours, without training: all seeds of one data set and config, for one number of shots or several.
#   bash scripts/kNN/main.sh MSTAR_SOC vit_b16 5 [KEY VALUE ...]
# Settings, with their defaults: DATA=data (folder of the data sets) CHECKPOINT=checkpoint-200.pth SEEDS=0-9 OUTPUT=output
exec bash "$(dirname "${BASH_SOURCE[0]}")/../main.sh" kNN "$@"
