"""What the processes of a machine do with its GPUs, and how they agree; without a GPU, and in one process."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from hivit_mae.cluster import distributed
from hivit_mae.cluster.distributed import Agreement, Processes, connect, gpu_of_process
from saratrx.errors import InputError

GPU = torch.device("cuda", 0)


@pytest.fixture
def launched(monkeypatch):
    """Set what launchers say to a process, and nothing else."""

    def launch(**environment):
        for name in ("SLURM_LOCALID", "LOCAL_RANK", "TORCHELASTIC_RUN_ID"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return launch


def test_a_task_to_which_slurm_shows_one_gpu_uses_that(launched):
    launched(LOCAL_RANK="3", SLURM_LOCALID="3")
    assert gpu_of_process(3, 1) == GPU
    assert gpu_of_process(3, 4) == torch.device("cuda", 3)
    with pytest.raises(InputError, match="process 3 of this machine has no GPU: 2 are here"):
        gpu_of_process(3, 2)


@pytest.mark.parametrize(
    "environment",
    [{}, {"SLURM_LOCALID": "0"}, {"SLURM_LOCALID": "3", "TORCHELASTIC_RUN_ID": "none"}],
    ids=["torchrun", "several processes below one task", "torchrun below a task of that number"],
)
def test_elsewhere_a_process_without_a_gpu_of_its_own_is_refused(launched, environment):
    launched(LOCAL_RANK="3", **environment)
    with pytest.raises(InputError, match="process 3 of this machine has no GPU: 1 are here"):
        gpu_of_process(3, 1)
    assert gpu_of_process(0, 1) == GPU


@pytest.fixture
def group(monkeypatch):
    """Record how groups are made."""
    made = []
    monkeypatch.setattr(dist, "init_process_group", lambda *args, **kwargs: made.append((args, kwargs)))
    monkeypatch.setattr(dist, "new_group", lambda **kwargs: "control")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="GPU-1"))
    return made


def test_nccl_is_told_its_gpu_at_once(launched, group):
    launched(LOCAL_RANK="0")
    store = dist.HashStore()
    for device, backend, told in ((GPU, "nccl", GPU), (torch.device("cpu"), "gloo", None)):
        connected = connect(Processes(0, 2, device, store))
        assert connected.control == "control"
        (args, kwargs) = group.pop()
        assert (args, kwargs["device_id"]) == ((backend,), told)


def test_one_gpu_for_two_tasks_is_refused(launched, group):
    store = dist.HashStore()
    launched(LOCAL_RANK="0", SLURM_LOCALID="0")
    connect(Processes(0, 2, GPU, store))
    launched(LOCAL_RANK="1", SLURM_LOCALID="1")
    with pytest.raises(InputError, match=r"process 1 was given a GPU that another one has: .*--gpus-per-task 1"):
        connect(Processes(1, 2, GPU, store))
    assert len(group) == 1


def test_what_is_agreed_on_is_read_a_step_later_and_at_once_where_there_is_no_later_step(monkeypatch):
    waited = []

    def all_reduce(value, _, *, group, async_op):
        assert (group, async_op) == ("control", True)
        others.append(int(value))

        def wait():
            waited.append(len(others))
            value.fill_(max(int(value), of_other.pop(0)))

        return SimpleNamespace(wait=wait)

    monkeypatch.setattr(distributed.dist, "all_reduce", all_reduce)
    others, of_other = [], [0, 2, 0, 1, 2]
    agreement = Agreement(replace(Processes(0, 2, torch.device("cpu")), control="control"))
    assert agreement.after_step(0, at_once=False) == 0
    assert waited == []  # the first step waits for nobody
    assert agreement.after_step(1, at_once=False) == 0
    assert waited == [1]  # for what was begun a step before
    assert agreement.after_step(0, at_once=False) == 2
    assert agreement.after_step(0, at_once=True) == 1
    assert waited == [1, 2, 3, 4]
    assert agreement.settle() == 0
    assert agreement.after_step(0, at_once=False) == 0
    assert agreement.settle() == 2
    assert others == [0, 1, 0, 0, 0]


def test_a_process_alone_agrees_with_itself_at_once():
    agreement = Agreement(Processes(0, 1, torch.device("cpu")))
    assert [agreement.after_step(asked, at_once=False) for asked in (0, 2, 1)] == [0, 2, 1]
