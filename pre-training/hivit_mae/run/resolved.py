"""What the machine and the data make of the options."""

from dataclasses import asdict, dataclass
from typing import Any

from hivit_mae.cluster.distributed import Processes
from hivit_mae.run.options import Options
from hivit_mae.run.precision import resolve_amp, resolve_compile


@dataclass(frozen=True)
class Resolved:
    """What is known only at run time.

    Attributes:
        amp: "off", "bf16" or "fp16".
        why_amp: the reason, for the log.
        compile: whether the step is compiled.
        why_compile: the reason.
        images_per_step: of all processes, over `accum_iter` batches.
        lr: learning rate after warm-up.

    """

    amp: str
    why_amp: str
    compile: bool
    why_compile: str
    images_per_step: int
    lr: float


def resolve(options: Options, processes: Processes) -> Resolved:
    """Decide what depends on the chip and the number of processes."""
    amp, why_amp = resolve_amp(options.machine.amp, processes.device)
    is_compiled, why_compile = resolve_compile(options.machine.compile, processes.device)
    optimisation = options.optimisation
    images_per_step = optimisation.batch_size * optimisation.accum_iter * processes.world_size
    lr = optimisation.blr * images_per_step / 256 if optimisation.lr is None else optimisation.lr
    return Resolved(amp, why_amp, is_compiled, why_compile, images_per_step, lr)


def recorded(options: Options, resolved: Resolved) -> dict[str, Any]:
    """Give all options and what became of them as plain values by name, as checkpoints hold them under `args`."""
    flat: dict[str, Any] = {}
    for section in asdict(options).values():
        flat |= section
    flat["data_path"] = list(flat["data_path"])
    flat["log_dir"] = options.output.log_folder
    return flat | {"amp": resolved.amp, "compile": resolved.compile, "lr": resolved.lr}
