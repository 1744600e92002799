"""What the machine and the data make of the options."""

from dataclasses import asdict, dataclass
from typing import Any

from hivit_mae.cluster.distributed import Processes, all_gather
from hivit_mae.run.options import Options
from hivit_mae.run.precision import resolve_amp, resolve_compile
from saratrx.errors import InputError


@dataclass(frozen=True)
class Resolved:
    """What is known only at run time.

    Attributes:
        amp: "off", "bf16" or "fp16".
        why_amp: the reason, for the log.
        compile: whether the step is compiled.
        why_compile: the reason.
        asked_in_vain: whether the user asked for compilation, which this machine cannot do.
        images_per_step: of all processes, over `accum_iter` batches.
        lr: learning rate after warm-up.

    """

    amp: str
    why_amp: str
    compile: bool
    why_compile: str
    asked_in_vain: bool
    images_per_step: int
    lr: float


def resolve(options: Options, processes: Processes) -> Resolved:
    """Decide what depends on the chip and the number of processes; all of them call this.

    Raises:
        InputError: for what compilation and several processes cannot do together.

    """
    machine = options.machine
    if machine.compile_mode == "cudagraphs" and processes.world_size > 1:
        raise InputError(
            f"--compile_mode cudagraphs: is for one process, and there are {processes.world_size}; choose another mode"
        )
    amp, why_amp = resolve_amp(machine.amp, processes.device)
    asked = True if machine.compile_mode != "default" else machine.compile
    # one without a compiler speaks for all: what is averaged has to be the same everywhere
    is_compiled, why_compile = min(all_gather(resolve_compile(asked, processes.device), processes))
    if is_compiled and processes.world_size > 1 and machine.bucket_mb < 1:
        # the compiler splits the graph where buckets end, and takes their first, of 1 MB, for the smallest
        raise InputError(f"--bucket_mb {machine.bucket_mb:g}: must be at least 1, or set --no-compile")
    optimisation = options.optimisation
    images_per_step = optimisation.batch_size * optimisation.accum_iter * processes.world_size
    lr = optimisation.blr * images_per_step / 256 if optimisation.lr is None else optimisation.lr
    return Resolved(amp, why_amp, is_compiled, why_compile, bool(asked) and not is_compiled, images_per_step, lr)


def recorded(options: Options, resolved: Resolved) -> dict[str, Any]:
    """Give all options and what became of them as plain values by name, as checkpoints hold them under `args`."""
    flat: dict[str, Any] = {}
    for section in asdict(options).values():
        flat |= section
    flat["data_path"] = list(flat["data_path"])
    flat["log_dir"] = options.output.log_folder
    return flat | {"amp": resolved.amp, "compile": resolved.compile, "lr": resolved.lr}
