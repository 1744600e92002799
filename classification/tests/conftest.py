import sys
from pathlib import Path

import pytest
import torch

STAGE = Path(__file__).parents[1]
sys.path[:0] = [str(STAGE), str(Path(__file__).parent)]

from saratrx.hivit import SIZES  # noqa: E402

torch.set_num_threads(1)  # models this small gain nothing from more, and lose much on a busy machine
SIZES["micro"] = {"embed_dim": 32, "depths": (1, 1, 2), "num_heads": 2}  # becomes the backbone hivit_micro

import encoder  # noqa: E402
from dassl.utils import set_random_seed  # noqa: E402
from saratrx.checkpoint import save_checkpoint  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded():
    set_random_seed(0)


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
