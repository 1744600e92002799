"""One process or many: who am I, and the two collective operations that training needs."""

import os
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from saratrx.errors import InputError


@dataclass(frozen=True)
class Processes:
    """This process among all: its rank, how many there are, its device."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0


def start(args: Namespace) -> Processes:
    """Join the other processes, if a launcher (torchrun, torch.distributed.launch, OpenMPI) started any.

    Uses nccl on CUDA and gloo on the CPU. All but the first process are silent on stdout from here on.

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
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=args.dist_url, rank=rank, world_size=world_size)
    if rank:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for the rest of the process
    return Processes(rank, world_size, device)


def stop() -> None:
    """Leave the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def mean(value: torch.Tensor) -> float:
    """The mean of a scalar tensor over all processes."""
    if dist.is_initialized():
        dist.all_reduce(value)
        value = value / dist.get_world_size()
    return value.item()


def union(flags: torch.Tensor, device: torch.device) -> None:
    """Set each of these bools [N] where any process has it set."""
    if dist.is_initialized():
        everywhere = flags.to(device, torch.uint8)
        dist.all_reduce(everywhere, dist.ReduceOp.MAX)
        flags.copy_(everywhere.bool())
