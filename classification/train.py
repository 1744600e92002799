r"""Train and test a classifier, or a whole table of them.

One run:
    python train.py --root DATA --dataset-config-file configs/datasets/MSTAR_SOC.yaml --trainer MIM_linear \
        --config-file configs/trainers/MIM_linear/vit_b16.yaml --output-dir DIR --seed 0 \
        DATASET.NUM_SHOTS 5 MODEL.INIT_WEIGHTS checkpoint.pth
A table, into DIR/MSTAR_SOC/MIM_linear/vit_b16_<shots>shots/seed<seed>; what is finished there is not run again:
    ... --output-dir DIR --seeds 0-9 --shots 1,2,5 MODEL.INIT_WEIGHTS checkpoint.pth
"""

import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from hivit_cls.configuration import setup_cfg
from hivit_cls.options import parse_options
from hivit_cls.plugins import import_plugins
from saratrx.cores import share_cores
from saratrx.errors import InputError, exit_on_input_error, interrupt_ends_at_once
from saratrx.reporting import print_any_name


def main(argv: Sequence[str] | None = None) -> None:
    """Run what the command line (or `argv`) asks for."""
    config, run_options, table = parse_options(argv)
    extensions = import_plugins(Path(__file__).parent)
    cfg = setup_cfg(config, run_options.model_dir if run_options.eval_only else "", extensions)
    # one class can serve several data sets, so that a config file's name tells more
    data_set = Path(config.dataset_config_file).stem or cfg.DATASET.NAME

    # With these comes PyTorch, which takes seconds: what is wrong in a call has been told by now
    share_cores()
    with interrupt_ends_at_once():
        from dassl.utils.logger import Logger  # noqa: PLC0415
        from hivit_cls.running import run  # noqa: PLC0415
        from hivit_cls.settings import claim_folder, warn_of_others  # noqa: PLC0415
        from hivit_cls.table import run_table  # noqa: PLC0415
        from saratrx.output_folder import claimed  # noqa: PLC0415

    if table.seeds or table.shots:
        name = Path(config.config_file).stem or Path(cfg.MODEL.BACKBONE.NAME).name
        run_table(cfg, data_set, name, table)
        return
    cfg.freeze()
    with claimed(cfg.OUTPUT_DIR, "--output-dir"), Logger(Path(cfg.OUTPUT_DIR, "log.txt")):
        if run_options.eval_only:
            warn_of_others(cfg, run_options.model_dir)
        else:
            claim_folder(cfg)
        run(cfg, data_set, run_options)


def without_traceback(ended: threading.ExceptHookArgs) -> None:
    """Say nothing of an OSError that ends a thread: TensorBoard's keeps it, and raises it where a run waits for it."""
    if not issubclass(ended.exc_type, OSError):
        threading.__excepthook__(ended)


def as_script() -> None:
    """Run, and end with one sentence where something is wrong."""
    threading.excepthook = without_traceback
    print_any_name()
    with exit_on_input_error():
        try:
            main()
        except ModuleNotFoundError as error:
            raise InputError(
                f"{sys.executable} has no {error.name}: take the Python of the environment with the project in it"
            ) from error
        except FloatingPointError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    as_script()
