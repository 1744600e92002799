import pytest
import torch

from dassl.utils import set_random_seed
from hivit_cls import encoder
from saratrx.checkpoint import save_checkpoint


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
