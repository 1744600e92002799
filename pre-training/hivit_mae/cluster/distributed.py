"""One process or many: who am I, and the collective operations that training needs."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist

from saratrx.errors import InputError

Decision = TypeVar("Decision")
# of a collective operation; the watchdog ends a hung run long before, and one process may be busy for long
COLLECTIVE_TIMEOUT = timedelta(hours=2)
MEETING_TIMEOUT = timedelta(minutes=2)  # until the first process is there


@dataclass(frozen=True)
class Processes:
    """This process among all: its rank, how many there are, its device, and how it reaches the others.

    `store` is that by which the processes meet, None for a process that no launcher started. `control` is a group on
    the CPUs, for what they have to agree on without waiting for their GPUs; None until they are connected.
    """

    rank: int
    world_size: int
    device: torch.device
    store: dist.Store | None = None
    control: dist.ProcessGroup | None = None

    @property
    def restarts(self) -> int:
        """How often torchrun has started the processes again."""
        return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0


def meet(args: Namespace) -> Processes:
    """Find the other processes, if a launcher (torchrun, torch.distributed.launch, OpenMPI, Slurm) started any.

    All but the first process are silent on stdout from here on.

    Raises:
        InputError: if the device that is asked for is not there.

    """
    name = args.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name}: no such kind of device; use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {name}: PyTorch sees no CUDA GPU here; use --device cpu or auto")

    if args.dist_on_itp:
        prefix = "OMPI_COMM_WORLD_"
        if prefix + "RANK" not in os.environ:
            raise InputError("--dist_on_itp: OpenMPI did not start this process; leave the option out")
        os.environ["LOCAL_RANK"] = os.environ[prefix + "LOCAL_RANK"]
        os.environ["RANK"], os.environ["WORLD_SIZE"] = os.environ[prefix + "RANK"], os.environ[prefix + "SIZE"]
    if "RANK" not in os.environ:
        return Processes(0, 1, device)

    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if device.index >= torch.cuda.device_count():
            raise InputError(f"process {device.index} of this machine has no GPU: {torch.cuda.device_count()} are here")
        torch.cuda.set_device(device)
    if rank:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for the rest of the process
    try:
        store, rank, world_size = next(iter(dist.rendezvous(args.dist_url, rank, world_size, timeout=MEETING_TIMEOUT)))
    except (dist.DistError, ValueError) as error:
        raise InputError(
            f"process {rank} of {world_size} did not meet the others at {args.dist_url}: {error}"
        ) from error
    return Processes(rank, world_size, device, store)


def connect(processes: Processes) -> Processes:
    """Make the group of all processes, if there are others: nccl on CUDA, gloo on the CPU."""
    if processes.store is None:
        return processes
    dist.init_process_group(
        "nccl" if processes.device.type == "cuda" else "gloo",
        store=processes.store,
        rank=processes.rank,
        world_size=processes.world_size,
        timeout=COLLECTIVE_TIMEOUT,
    )
    return replace(processes, control=dist.new_group(backend="gloo", timeout=COLLECTIVE_TIMEOUT))


def stop() -> None:
    """Leave the group, if there is one."""
    if dist.is_initialized():
        dist.barrier()  # the process that hosts the store must not leave first
        dist.destroy_process_group()


def is_lost_connection(error: RuntimeError) -> bool:
    """Whether a collective operation failed because another process is gone."""
    return isinstance(error, dist.DistError) or "/gloo/" in str(error)  # gloo has no type of its own


def total(value: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes; the argument is left as it was."""
    value = value.clone()
    if dist.is_initialized():
        dist.all_reduce(value)
    return value


def largest(number: int, processes: Processes) -> int:
    """The largest of the processes' numbers, without a word to the GPUs."""
    if processes.control is None:
        return number
    value = torch.tensor(number)
    dist.all_reduce(value, dist.ReduceOp.MAX, group=processes.control)
    return int(value)


def gathered(value: Decision, processes: Processes) -> list[Decision]:
    """Every process's value, in the order of ranks."""
    if processes.control is None:
        return [value]
    values: list = [None] * processes.world_size
    dist.all_gather_object(values, value, group=processes.control)
    return values


def decided_by_main(decide: Callable[[], Decision], processes: Processes) -> Decision:
    """What the main process decides, for all; its `InputError` is raised there and ends the others in silence."""
    if processes.control is None:
        return decide()
    outcome: list = [None, False]  # the decision, and whether it was an error
    error: InputError | None = None
    if processes.is_main:
        try:
            outcome[0] = decide()
        except InputError as raised:
            error, outcome[1] = raised, True
    dist.broadcast_object_list(outcome, group=processes.control)
    if error is not None:
        raise error
    if outcome[1]:
        sys.exit(2)
    return outcome[0]


def union(flags: torch.Tensor, device: torch.device) -> None:
    """Set each of these bools [N] where any process has it set."""
    if dist.is_initialized():
        everywhere = flags.to(device, torch.uint8)
        dist.all_reduce(everywhere, dist.ReduceOp.MAX)
        flags.copy_(everywhere.bool())
