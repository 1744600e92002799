"""Models of checkpoints of pre-training."""

from pathlib import Path
from typing import Any

from hivit_mae.models.models_hivit_mae import MODELS, HiViTMaskedAutoencoder
from hivit_mae.models.targets import DEFAULT
from saratrx.checkpoint import load_all, load_checkpoint


def load_trained(path: Path) -> tuple[HiViTMaskedAutoencoder, dict[str, Any]] | None:
    """Load the model of a checkpoint of `main_pretrain.py`, for evaluation, and the options of its run.

    Returns:
        None if the file does not say of which model it is, as one that holds an encoder alone.

    Raises:
        CheckpointError: for a file that is none, or is of another model than it says.

    """
    content = load_checkpoint(path)
    options = content.get("args") or {}
    if options.get("model") not in MODELS:
        return None
    is_published = "amp" not in options  # such files say that targets were not normalised, yet they always were
    norm_pix_loss = is_published or options["norm_pix_loss"]
    model = MODELS[options["model"]](
        img_size=options["input_size"], norm_pix_loss=norm_pix_loss, target=options.get("target", DEFAULT)
    )
    load_all(model, content["model"], path)
    return model.eval(), options
