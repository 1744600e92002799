"""The pre-trained encoder of a config, as every trainer here uses it."""

from functools import partial

import torch
from yacs.config import CfgNode

from dassl.modeling import BACKBONE_REGISTRY, build_backbone
from hivit_cls.content import content_hash
from saratrx.checkpoint import load_encoder
from saratrx.errors import InputError
from saratrx.hivit import SIZES, HiViTClassifier

PRECISIONS = ("fp32", "bf16")


class Classifier(HiViTClassifier):
    """HiViT for amplitude images, in two halves: `pool`, which pre-training has trained, and `classify`, which is new.

    Args:
        **kwargs: of `HiViT`; relative position bias is off.

    """

    def __init__(self, **kwargs) -> None:
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


def backbone(size: str, verbose: bool = True, pretrained: bool = False, **kwargs) -> Classifier:
    """A HiViT of one of the published sizes, by default giving features [B, D], as Dassl's models ask for it."""
    if verbose and pretrained:
        print(f"hivit_{size} begins with random weights: there are none to download")
    return Classifier(**SIZES[size] | {"num_classes": 0} | kwargs)


for _size in SIZES:
    _factory = partial(backbone, _size)
    _factory.__name__ = f"hivit_{_size}"
    BACKBONE_REGISTRY.register(_factory)


def precision(cfg: CfgNode, device: torch.device) -> torch.autocast:
    """The context of the encoder's arithmetic.

    Raises:
        InputError: for a precision that does not exist.

    """
    if cfg.MODEL.PRECISION not in PRECISIONS:
        raise InputError(f"MODEL.PRECISION {cfg.MODEL.PRECISION}: unknown; choose one of {', '.join(PRECISIONS)}")
    return torch.autocast(device.type, torch.bfloat16, enabled=cfg.MODEL.PRECISION == "bf16")


def add_config(cfg: CfgNode) -> None:
    """Keys of the encoder."""
    cfg.MODEL.RANDOM_INIT = False  # random weights, the same for every seed, instead of MODEL.INIT_WEIGHTS
    cfg.MODEL.PRECISION = "fp32"  # or bf16: of the encoder's arithmetic


def weights_id(cfg: CfgNode) -> str:
    """What tells one set of encoder weights from another.

    Raises:
        InputError: if the config names no file, or one that is not there, and does not ask for random weights.

    """
    if cfg.MODEL.RANDOM_INIT:
        if cfg.MODEL.INIT_WEIGHTS:
            raise InputError(f"MODEL.RANDOM_INIT True and MODEL.INIT_WEIGHTS {cfg.MODEL.INIT_WEIGHTS}: leave one out")
        return "random"
    if not cfg.MODEL.INIT_WEIGHTS:
        raise InputError("MODEL.INIT_WEIGHTS names no checkpoint: give one, or MODEL.RANDOM_INIT True to do without")
    return content_hash(cfg.MODEL.INIT_WEIGHTS)


def build_encoder(cfg: CfgNode, **kwargs) -> Classifier:
    """The encoder with its weights.

    Args:
        cfg: MODEL and INPUT.SIZE are used.
        **kwargs: of `HiViT`, such as `num_classes`.

    Raises:
        InputError: for an input size or weights that do not fit.

    """
    weights_id(cfg)  # says what is wrong with them
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            encoder = build_backbone(cfg.MODEL.BACKBONE.NAME, img_size=tuple(cfg.INPUT.SIZE), verbose=False, **kwargs)
    except ValueError as error:
        raise InputError(f"INPUT.SIZE {tuple(cfg.INPUT.SIZE)}: {error}") from error
    if cfg.MODEL.RANDOM_INIT:
        print(f"{cfg.MODEL.BACKBONE.NAME} with random weights")
    else:
        print(f"{cfg.MODEL.BACKBONE.NAME}, ", end="")
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
        """The model, in evaluation mode."""
        key = str(self.identity)
        if key not in _frozen:
            _frozen.clear()
            _frozen[key] = build_encoder(self.cfg).to(self.device).eval()
        return _frozen[key]

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 1 or 3, H, W], amplitude in [0, 1], on any device -> mean tokens [B, D], float32."""
        encoder = self.encoder()
        with precision(self.cfg, self.device):
            return encoder.pool(images.to(self.device)).float()
