"""main_pretrain.py with one more model, `micro`, which trains in a second; for tests."""

import runpy
import sys
from pathlib import Path

STAGE = Path(__file__).parents[1]
sys.path.insert(0, str(STAGE))

from models.models_hivit_mae import MODELS, HiViTMaskedAutoencoder  # noqa: E402


def micro(**kwargs):
    """A masked autoencoder of 0.1 M parameters."""
    sizes = {"embed_dim": 32, "depths": (1, 1, 2), "num_heads": 2}
    decoder = {"decoder_embed_dim": 32, "decoder_depth": 1, "decoder_num_heads": 2}
    return HiViTMaskedAutoencoder(**sizes | decoder | kwargs)


MODELS["micro"] = micro

if __name__ == "__main__":
    sys.argv[0] = str(STAGE / "main_pretrain.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
