"""The pre-trained encoder of a config, as every trainer here uses it."""

from typing import Any

import torch
from yacs.config import CfgNode

from dassl.modeling import BACKBONE_REGISTRY, build_backbone
from saratrx.checkpoint import load_encoder
from saratrx.errors import InputError
from saratrx.files import content_hash
from saratrx.hivit import SIZES, HiViTClassifier
from saratrx.reporting import get_logger

log = get_logger(__name__)

PRECISIONS = ("fp32", "bf16")


class Classifier(HiViTClassifier):
    """HiViT for amplitude images, in two halves: `pool`, which pre-training has trained, and `classify`, which is new.

    Args:
        **kwargs: of `HiViTClassifier`.

    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.out_features = self.num_features

    def pool(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 1 or 3, H, W], amplitude in [0, 1] -> mean token [B, D], before any norm."""
        return self.forward_features(images.expand(-1, 3, -1, -1)).mean(dim=1)

    def classify(self, pooled: torch.Tensor) -> torch.Tensor:
        """Mean tokens [B, D] -> logits [B, num_classes]."""
        return self.head(self.fc_norm(pooled))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classify(self.pool(images))


def backbone(size: str, verbose: bool = True, pretrained: bool = False, **kwargs: Any) -> Classifier:
    """Make a HiViT of one of the published sizes, by default giving features [B, D], as Dassl's models ask for it."""
    if verbose and pretrained:
        log.info("hivit_%s begins with random weights: there are none to download", size)
    return Classifier(**SIZES[size] | {"num_classes": 0} | kwargs)


def _register(size: str) -> None:
    """Make a size known as the backbone `hivit_<size>`."""

    def create(**kwargs: Any) -> Classifier:
        return backbone(size, **kwargs)

    create.__name__ = f"hivit_{size}"
    BACKBONE_REGISTRY.register(create)


for _size in SIZES:
    _register(_size)


def precision(cfg: CfgNode, device: torch.device) -> torch.autocast:
    """Make the context of the encoder's arithmetic.

    Raises:
        InputError: for a precision that does not exist.

    """
    if cfg.MODEL.PRECISION not in PRECISIONS:
        raise InputError(f"MODEL.PRECISION {cfg.MODEL.PRECISION}: unknown; choose one of {', '.join(PRECISIONS)}")
    return torch.autocast(device.type, torch.bfloat16, enabled=cfg.MODEL.PRECISION == "bf16")


def refuse_bad_weights(cfg: CfgNode) -> None:
    """Raise an InputError if the config names no weights, or a file that is not there, or two kinds of weights."""
    if cfg.MODEL.RANDOM_INIT and cfg.MODEL.INIT_WEIGHTS:
        raise InputError(f"MODEL.RANDOM_INIT True and MODEL.INIT_WEIGHTS {cfg.MODEL.INIT_WEIGHTS}: leave one out")
    if not cfg.MODEL.RANDOM_INIT and not cfg.MODEL.INIT_WEIGHTS:
        raise InputError("MODEL.INIT_WEIGHTS names no checkpoint: give one, or MODEL.RANDOM_INIT True to do without")
    weights_id(cfg)


def weights_id(cfg: CfgNode) -> str:
    """Give what tells one set of encoder weights from another: the hash of a checkpoint, or "random".

    Raises:
        InputError: if the checkpoint cannot be read.

    """
    return content_hash(cfg.MODEL.INIT_WEIGHTS) if cfg.MODEL.INIT_WEIGHTS else "random"


def build_encoder(cfg: CfgNode, **kwargs: Any) -> Classifier:
    """Make the encoder with its weights.

    Args:
        cfg: MODEL and INPUT.SIZE are used.
        **kwargs: of `HiViTClassifier`, such as `num_classes`.

    Raises:
        InputError: for an input size or weights that do not fit.

    """
    refuse_bad_weights(cfg)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            name, size = cfg.MODEL.BACKBONE.NAME, tuple(cfg.INPUT.SIZE)
            encoder: Classifier = build_backbone(name, img_size=size, verbose=False, **kwargs)
    except ValueError as error:
        raise InputError(f"INPUT.SIZE {tuple(cfg.INPUT.SIZE)}: {error}") from error
    if cfg.MODEL.RANDOM_INIT:
        log.info("%s with random weights", name)
    else:
        log.info("%s with trained weights", name)
        load_encoder(encoder, cfg.MODEL.INIT_WEIGHTS, missing_ok=("fc_norm.", "head."))
    return encoder


_frozen: dict[str, Classifier] = {}  # the one in use, shared by all runs of a process


class FrozenEncoder:
    """An encoder that is only used, made when it is first asked.

    Args:
        cfg: MODEL and INPUT.SIZE are used.
        device: where it runs.

    Attributes:
        width: D of the features.
        identity: all that decides them.

    """

    def __init__(self, cfg: CfgNode, device: torch.device) -> None:
        BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)  # refuses an unknown one
        refuse_bad_weights(cfg)
        self.cfg, self.device = cfg, device
        self.width: int = SIZES[cfg.MODEL.BACKBONE.NAME.removeprefix("hivit_")]["embed_dim"]
        self.identity = {
            "weights": weights_id(cfg),
            "backbone": cfg.MODEL.BACKBONE.NAME,
            "input size": list(cfg.INPUT.SIZE),
            "precision": cfg.MODEL.PRECISION,
            "device": device.type,
            "torch": torch.__version__,
        }

    def encoder(self) -> Classifier:
        """Give the model, in evaluation mode."""
        key = str(self.identity)
        if key not in _frozen:
            _frozen.clear()
            _frozen[key] = build_encoder(self.cfg).to(self.device).eval()
        return _frozen[key]

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 1 or 3, H, W], amplitude in [0, 1], on any device -> mean tokens [B, D], float32.

        Raises:
            FloatingPointError: if one is infinite or not a number.

        """
        encoder = self.encoder()
        with precision(self.cfg, self.device):
            pooled = encoder.pool(images.to(self.device)).float()
        if not torch.isfinite(pooled).all():
            raise FloatingPointError(
                "the encoder's features are not finite: its weights, or MODEL.PRECISION, do not fit"
            )
        return pooled
