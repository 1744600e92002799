r"""Train and test a classifier, or a whole table of them.

One run:
    python train.py --root DATA --dataset-config-file configs/datasets/MSTAR_SOC.yaml --trainer MIM_linear \
        --config-file configs/trainers/MIM_linear/vit_b16.yaml --output-dir DIR --seed 0 \
        DATASET.NUM_SHOTS 5 MODEL.INIT_WEIGHTS checkpoint.pth
A table, into DIR/MSTAR_SOC/MIM_linear/vit_b16_<shots>shots/seed<seed>; what is finished there is not run again:
    ... --output-dir DIR --seeds 0-9 --shots 1,2,5 MODEL.INIT_WEIGHTS checkpoint.pth
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from dassl.utils.logger import Logger
from hivit_cls.configuration import setup_cfg
from hivit_cls.options import parse_options
from hivit_cls.plugins import import_plugins
from hivit_cls.running import run
from hivit_cls.settings import claim_folder
from hivit_cls.table import parse_numbers, run_table
from saratrx.errors import exit_on_input_error


def main(argv: Sequence[str] | None = None) -> None:
    """Run what the command line (or `argv`) asks for."""
    config, run_options, table = parse_options(argv)
    import_plugins(Path(__file__).parent)
    cfg = setup_cfg(config)
    # one class can serve several data sets, so that a config file's name tells more
    data_set = Path(config.dataset_config_file).stem or cfg.DATASET.NAME
    if table.seeds or table.shots:
        name = Path(config.config_file).stem or cfg.MODEL.BACKBONE.NAME
        seeds = parse_numbers(table.seeds, "--seeds") if table.seeds else [cfg.SEED]
        shots = parse_numbers(table.shots, "--shots") if table.shots else [cfg.DATASET.NUM_SHOTS]
        run_table(cfg, data_set, name, seeds, shots)
        return
    cfg.freeze()
    if not run_options.eval_only:
        claim_folder(cfg)
    with Logger(Path(cfg.OUTPUT_DIR, "log.txt")):
        run(cfg, data_set, run_options)


if __name__ == "__main__":
    with exit_on_input_error():
        try:
            main()
        except FloatingPointError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
