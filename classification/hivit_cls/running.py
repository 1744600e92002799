"""One run: train and test, as Dassl does."""

from dataclasses import dataclass

from yacs.config import CfgNode

from dassl.engine import build_trainer
from dassl.utils import collect_env_info, set_random_seed
from hivit_cls.results_file import ResultsFile
from saratrx.command_line import option
from saratrx.reporting import get_logger

log = get_logger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """One run."""

    eval_only: bool = option(False, help="test the model in --model-dir")
    model_dir: str = option("", help="output folder of the run to test")
    load_epoch: int | None = option(None, help="which of its epochs", default_text="the best, else the last")
    no_train: bool = option(False, help="build everything and stop")


def run(cfg: CfgNode, data_set: str, options: RunOptions | None = None) -> None:
    """Train and test once; the results go to results.json.

    Args:
        cfg: of the run.
        data_set: what the data set is called in the results.
        options: what else than training to do.

    Raises:
        InputError: for anything that the user can fix.
        FloatingPointError: if the loss is infinite or not a number.

    """
    options = options or RunOptions()
    if cfg.SEED >= 0:
        log.info("seed %d", cfg.SEED)
        set_random_seed(cfg.SEED)
    log.info(collect_env_info())
    trainer = build_trainer(cfg)
    trainer.record = ResultsFile(cfg, trainer, data_set, trains=not options.eval_only)
    if options.eval_only:
        trainer.load_model(options.model_dir, epoch=options.load_epoch)
        trainer.test()
    elif not options.no_train:
        trainer.train()
