import signal

import pytest
import torch
from small_sets import options, vehicles

import hivit_cls.datasets
import hivit_cls.trainers  # noqa: F401 -- registers them, as a run does
import train
from dassl.utils import set_random_seed
from hivit_cls import encoder
from hivit_cls.trainers.base import SarTrainer
from saratrx.checkpoint import save_checkpoint

signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background of a script


@pytest.fixture(autouse=True)
def _seeded():
    set_random_seed(0)


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    """Models this small gain nothing from more, and lose much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def drawn():
    """Asked for by tests that need a run's pictures."""


@pytest.fixture
def undrawn(request, monkeypatch):
    """Leaves a run's pictures out, which take two thirds of the time of a small one, unless `drawn` is asked for."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(SarTrainer, "draw", lambda self: None)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A pre-training checkpoint of the micro encoder: its weights, and parts that only pre-training has."""
    set_random_seed(1)
    weights = encoder.backbone("micro", img_size=48, verbose=False).state_dict()
    weights = {key: value for key, value in weights.items() if not key.startswith("fc_norm.")}
    weights |= {"mask_token": weights["absolute_pos_embed"][:, :1], "norm.weight": torch.ones(32)}
    path = tmp_path_factory.mktemp("weights") / "checkpoint-8.pth"
    save_checkpoint(path, model=weights, epoch=8)
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A small set, as MSTAR_EOC1."""
    return vehicles(tmp_path_factory.mktemp("data"), train=5, test=2)


@pytest.fixture(scope="module")
def finished(root, checkpoint, tmp_path_factory):
    """The folder of a run that has ended, without pictures."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SarTrainer, "draw", lambda self: None)
        train.main(options(root, folder, "MODEL.INIT_WEIGHTS", checkpoint, flags=["--seed", 0]))
    return folder
