#!/usr/bin/env bash
# Linear probe: all seeds of one data set and config, for one number of shots or several (1,2,5).
#   bash scripts/MIM_linear/main.sh MSTAR_SOC vit_b16 5 [KEY VALUE ...]
# Settings, with their defaults: DATA=data (folder of the data sets) CHECKPOINT=checkpoint-200.pth SEEDS=0-9 OUTPUT=output
exec bash "$(dirname "${BASH_SOURCE[0]}")/../main.sh" MIM_linear "$@"
