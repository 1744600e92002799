"""What a training costs: how many parameters it trains, and the memory that it needs."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from hivit_det.weights import bare
from saratrx.device import peak_memory
from saratrx.reporting import get_logger
from saratrx.tuning import count

log = get_logger(__name__)


def costs(runner: Runner) -> dict[str, float]:
    """Measure what a training has cost so far, as its checkpoints and `results.json` tell it.

    `trained_parameters` and `parameters` (all, without low-rank changes) of the detector, and `peak_memory`: the
    largest in use so far, in GB, of the first process's GPU, or of the first process on a CPU.
    """
    trained, all_of_them = count(bare(runner.model))
    device = next(runner.model.parameters()).device
    return {"trained_parameters": trained, "parameters": all_of_them, "peak_memory": peak_memory(device)}


@HOOKS.register_module()
class NoteCosts(Hook):
    """Tells the costs of a training in its log, and in its checkpoints."""

    def before_train(self, runner: Runner) -> None:
        """Say how many parameters are trained."""
        found, tune = costs(runner), runner.cfg.model.backbone.get("tune", "all")
        numbers = (f"{found[name]:,}" for name in ("trained_parameters", "parameters"))
        log.info("tune %s: %s of %s parameters are trained", tune, *numbers)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note the costs in a checkpoint that is about to be written."""
        checkpoint["meta"]["costs"] = costs(runner)

    def after_train(self, runner: Runner) -> None:
        """Say how much memory was needed."""
        log.info("peak memory: %.2f GB", costs(runner)["peak_memory"])
