"""A GPU that stands idle is told: nobody trains on the CPU without knowing."""

import pytest
import torch

from saratrx import device
from saratrx.device import choose_device, has_cuda
from saratrx.errors import InputError


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """A machine without a GPU, or a word of one."""
    for name in ("CUDA_VISIBLE_DEVICES", *device.GIVEN_BY_SLURM):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(device, "DRIVER", tmp_path / "nvidiactl")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def old_driver():
    raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease update it.")


@pytest.mark.parametrize("sign", ["driver", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS"])
def test_a_gpu_that_cannot_be_used_is_an_error(monkeypatch, sign):
    monkeypatch.setattr(torch.cuda, "init", old_driver)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    if sign == "driver":
        device.DRIVER.touch()
        said = str(device.DRIVER)
    else:
        monkeypatch.setenv(sign, "0")
        said = f"{sign}=0"
    with pytest.raises(InputError) as raised:
        choose_device("auto")
    assert str(raised.value).startswith(
        f"{said} says that there is a GPU, and PyTorch cannot use it (The NVIDIA driver on your system is too old"
    )
    assert choose_device("cpu") == torch.device("cpu")


def test_a_pytorch_without_cuda_is_named(monkeypatch):
    device.DRIVER.touch()
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(InputError, match=r"\(torch \S+ is built without CUDA\)"):
        has_cuda()


@pytest.mark.parametrize("value", ["", "-1", "NoDevFiles"])
def test_who_wants_no_gpu_gets_none(monkeypatch, value):
    device.DRIVER.touch()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert choose_device("auto") == torch.device("cpu")


def test_a_machine_without_gpu_computes_on_its_cpu():
    assert choose_device("auto") == torch.device("cpu")


def test_a_device_without_values_is_refused():
    with pytest.raises(InputError, match="--device meta: "):
        choose_device("meta")
