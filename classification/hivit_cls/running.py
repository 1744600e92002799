"""One run: train and test, as Dassl does."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yacs.config import CfgNode

import hivit_cls.datasets
import hivit_cls.trainers  # noqa: F401 -- registers them
from dassl.engine import build_trainer
from dassl.utils import collect_env_info, set_random_seed
from hivit_cls.options import RunOptions
from hivit_cls.results import RESULTS, UNFINISHED
from hivit_cls.results_file import ResultsFile
from saratrx.files import refused_if_unwritable
from saratrx.loader_workers import lost_workers_named
from saratrx.reporting import get_logger

log = get_logger(__name__)


def run(cfg: CfgNode, data_set: str, options: RunOptions | None = None, *, draws: bool = True) -> None:
    """Train and test once; the results go to results.json.

    Args:
        cfg: of the run.
        data_set: what the data set is called in the results.
        options: what else than training to do.
        draws: whether the pictures of the test are drawn, which takes longer than training a probe on the bank.

    Raises:
        InputError: for anything that the user can fix.
        FloatingPointError: if the loss is infinite or not a number.

    """
    options = options or RunOptions()
    if cfg.SEED >= 0:
        log.info("seed %d", cfg.SEED)
        set_random_seed(cfg.SEED)
    log.info(collect_env_info())
    folder = Path(cfg.OUTPUT_DIR)
    with lost_workers_named("DATALOADER.NUM_WORKERS 0"), refused_if_unwritable(folder):
        trainer = build_trainer(cfg)
        trainer.draws = draws
        trainer.record = ResultsFile(cfg, trainer, data_set, trains=not options.eval_only)
        if options.eval_only:
            trainer.load_model(options.model_dir, epoch=options.load_epoch)
            trainer.test()
            log.info("wrote %s; next: python parse_test_res.py --test-log %s", folder / RESULTS, folder.parent)
        elif options.no_train:
            log.info("built everything and wrote no result; next: the same without --no-train")
        else:
            with unfinished(folder):
                trainer.train()
            made = RESULTS if (folder / RESULTS).is_file() else "log.txt"
            log.info("wrote %s; next: python parse_test_res.py %s", folder / made, folder.parent)


@contextmanager
def unfinished(folder: Path) -> Iterator[None]:
    """Mark a run as unfinished until all that it writes is written: whatever its log says then, it is done again."""
    mark = folder / UNFINISHED
    mark.touch()
    yield
    mark.unlink(missing_ok=True)
