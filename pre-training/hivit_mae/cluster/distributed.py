"""One process or many: who am I, and the collective operations that training needs."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous as torch_rendezvous

from saratrx.device import choose_device
from saratrx.errors import InputError
from saratrx.process_groups import end_groups

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
    store: Store | None = None
    control: dist.ProcessGroup | None = None

    @property
    def restarts(self) -> int:
        """How often torchrun has started the processes again."""
        return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0


def rendezvous(device_name: str, *, dist_url: str = "env://", is_openmpi: bool = False) -> Processes:
    """Find the other processes, if a launcher (torchrun, torch.distributed.launch, OpenMPI, Slurm) started any.

    All but the first process are silent on stdout from here on.

    Args:
        device_name: see `choose_device`; each process of a machine gets a GPU of its own.
        dist_url: where they meet.
        is_openmpi: OpenMPI started them, not a launcher of PyTorch.

    Raises:
        InputError: if the device that is asked for is not there, or the processes do not meet.

    """
    device = choose_device(device_name)
    if is_openmpi:
        prefix = "OMPI_COMM_WORLD_"
        if prefix + "RANK" not in os.environ:
            raise InputError("--dist_on_itp: OpenMPI did not start this process; leave the option out")
        os.environ["LOCAL_RANK"] = os.environ[prefix + "LOCAL_RANK"]
        os.environ["RANK"], os.environ["WORLD_SIZE"] = os.environ[prefix + "RANK"], os.environ[prefix + "SIZE"]
    if "RANK" not in os.environ:
        return Processes(0, 1, device)

    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if device.type == "cuda":
        device = gpu_of_process(int(os.environ["LOCAL_RANK"]), torch.cuda.device_count())
        torch.cuda.set_device(device)
    if rank:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for the rest of the process
    try:
        store, rank, world_size = next(iter(torch_rendezvous(dist_url, rank, world_size, timeout=MEETING_TIMEOUT)))
    except (dist.DistError, ValueError) as error:
        raise InputError(f"process {rank} of {world_size} did not meet the others at {dist_url}: {error}") from error
    return Processes(rank, world_size, device, store)


def gpu_of_process(local_rank: int, count: int) -> torch.device:
    """Choose the GPU of a process of this machine, of `count` that it sees.

    Raises:
        InputError: if there are fewer GPUs than processes.

    """
    if is_slurm_task() and count == 1:  # as with --gpus-per-task: Slurm shows each task its own, which is then number 0
        return torch.device("cuda", 0)
    if local_rank >= count:
        raise InputError(f"process {local_rank} of this machine has no GPU: {count} are here")
    return torch.device("cuda", local_rank)


def is_slurm_task() -> bool:
    """Whether Slurm itself started this process, and not a launcher below one of its tasks."""
    return os.environ.get("SLURM_LOCALID", "") == os.environ["LOCAL_RANK"] and "TORCHELASTIC_RUN_ID" not in os.environ


def connect(processes: Processes) -> Processes:
    """Make the group of all processes, if there are others: nccl on CUDA, gloo on the CPU.

    Raises:
        InputError: if Slurm gave one GPU to several tasks, which nccl cannot work with.

    """
    if processes.store is None:
        return processes
    has_gpu = processes.device.type == "cuda"
    if has_gpu and is_slurm_task():
        uuid = torch.cuda.get_device_properties(processes.device).uuid
        if processes.store.add(f"gpu/{uuid}", 1) > 1:
            raise InputError(
                f"process {processes.rank} was given a GPU that another one has: ask Slurm for as many GPUs as tasks, "
                "as with --gpus-per-task 1"
            )
    dist.init_process_group(
        "nccl" if has_gpu else "gloo",
        store=processes.store,
        rank=processes.rank,
        world_size=processes.world_size,
        timeout=COLLECTIVE_TIMEOUT,
        device_id=processes.device if has_gpu else None,  # nccl connects now, not in the first step, and from this GPU
    )
    return replace(processes, control=dist.new_group(backend="gloo", timeout=COLLECTIVE_TIMEOUT))


def leave() -> None:
    """Leave the groups, if there are any; what holds one must be gone, as `end_groups` says."""
    if dist.is_initialized():
        dist.barrier()  # the process that hosts the store must not leave first
    end_groups()


def is_lost_connection(error: RuntimeError) -> bool:
    """Whether a collective operation failed because another process is gone."""
    return isinstance(error, dist.DistError) or "/gloo/" in str(error)  # gloo has no type of its own


def all_reduce_sum(value: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over all processes; the argument is left as it was."""
    value = value.clone()
    if dist.is_initialized():
        dist.all_reduce(value)
    return value


def all_reduce_max(number: int, processes: Processes) -> int:
    """Find the largest of the processes' numbers, without a word to the GPUs."""
    if processes.control is None:
        return number
    value = torch.tensor(number)
    dist.all_reduce(value, dist.ReduceOp.MAX, group=processes.control)
    return int(value)


class Agreement:
    """The largest of what all processes ask for at the end of each step, known one step later: none waits for another.

    All get the same answer at the same step. A process alone gets its own at once.

    Args:
        processes: this one and the others.

    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.pending: tuple[dist.Work, torch.Tensor] | None = None

    def after_step(self, asked: int, *, at_once: bool) -> int:
        """Tell the others what this process asks for; returns what was agreed on at the end of the last step.

        Args:
            asked: by this process, at the end of this step; at least 0, and the largest wins.
            at_once: wait for the others, so that what they ask for now counts too; the same in all processes.

        """
        if self.processes.control is None:
            return asked
        agreed = self.settle()
        value = torch.tensor(asked)
        self.pending = dist.all_reduce(value, dist.ReduceOp.MAX, group=self.processes.control, async_op=True), value
        return max(agreed, self.settle()) if at_once else agreed

    def settle(self) -> int:
        """Wait for what is under way, if anything is; returns the largest number, else 0."""
        if self.pending is None:
            return 0
        (work, value), self.pending = self.pending, None
        work.wait()
        return int(value)


def all_gather(value: Decision, processes: Processes) -> list[Decision]:
    """Collect every process's value, in the order of ranks."""
    if processes.control is None:
        return [value]
    values: list[Any] = [None] * processes.world_size
    dist.all_gather_object(values, value, group=processes.control)
    return values


def broadcast_from_main(decide: Callable[[], Decision], processes: Processes) -> Decision:
    """Give all processes what the main one decides; its `InputError` is raised there and ends the others in silence."""
    if processes.control is None:
        return decide()
    outcome: list[Any] = [None, False]  # the decision, and whether it was an error
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


def all_reduce_any(flags: torch.Tensor, device: torch.device) -> None:
    """Set each of these bools [N] where any process has it set."""
    if dist.is_initialized():
        everywhere = flags.to(device, torch.uint8)
        dist.all_reduce(everywhere, dist.ReduceOp.MAX)
        flags.copy_(everywhere.bool())
