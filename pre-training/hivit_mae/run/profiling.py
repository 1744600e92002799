"""A trace of a few steps, for `chrome://tracing` or Perfetto."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from saratrx.errors import first_line
from saratrx.reporting import get_logger

log = get_logger(__name__)

WAIT, WARMUP, STEPS = 3, 2, 5


@contextmanager
def traced(folder: str | Path | None, rank: int, device: torch.device) -> Iterator[profile | None]:
    """Within this context, record steps 6 to 10 to `trace-rank<rank>.json.gz`; call `.step()` after each step.

    Args:
        folder: where the trace goes; None records nothing and yields None.
        rank: of this process.
        device: whose kernels are recorded beside the CPU's operators.

    """
    if folder is None:
        yield None
        return
    path = Path(folder) / f"trace-rank{rank}.json.gz"

    def write(finished: profile) -> None:
        try:
            finished.export_chrome_trace(str(path))
        except OSError as error:
            path.unlink(missing_ok=True)  # half of one
            log.warning(f"{path} cannot be written: {first_line(error)}; training goes on")
            return
        log.info(f"trace of {STEPS} steps: {path}")

    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(
        activities=activities,
        schedule=schedule(wait=WAIT, warmup=WARMUP, active=STEPS, repeat=1),
        on_trace_ready=write,
    ) as recording:
        yield recording
