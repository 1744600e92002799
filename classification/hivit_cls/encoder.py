"""The pre-trained encoder of a config, as every trainer here uses it."""

import inspect
from typing import Any

import timm
import torch
from yacs.config import CfgNode

import hivit_cls.baselines  # noqa: F401 -- registers them
from dassl.modeling import BACKBONE_REGISTRY, build_backbone
from hivit_cls.config_values import FOLDER
from hivit_cls.pooling import WIDTHS, pool_tokens
from hivit_cls.timm_encoder import build_timm_encoder, folder_id, load_weights, refuse_unknown
from saratrx.checkpoint import load_encoder
from saratrx.errors import InputError
from saratrx.files import content_hash
from saratrx.hivit import SIZES, HiViT, HiViTClassifier
from saratrx.reporting import get_logger

log = get_logger(__name__)

PRECISIONS = ("fp32", "bf16")


class Classifier(HiViTClassifier):
    """HiViT for amplitude images, in two halves: `pool`, which pre-training has trained, and `classify`, which is new.

    Args:
        pooling: of the tokens, see `pool_tokens`; `classify` takes "mean" alone.
        **kwargs: of `HiViTClassifier`.

    """

    def __init__(self, pooling: str = "mean", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pooling = pooling
        self.out_features = self.num_features * WIDTHS[pooling]

    def pool(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 1 or 3, H, W], amplitude in [0, 1] -> pooled tokens [B, D], before any norm."""
        return pool_tokens(self.forward_features(images.expand(-1, 3, -1, -1)), self.pooling)

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


def has_weights(name: str) -> bool:
    """Tell whether a config must name an encoder's weights: not a baseline's, nor a folder's, which brings its own."""
    return not name.startswith(FOLDER) and getattr(BACKBONE_REGISTRY.objects.get(name), "has_weights", True)


def refuse_bad_encoder(cfg: CfgNode) -> None:
    """Raise an InputError for an encoder that is not known, and for weights that are missing, or given twice."""
    name, path = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.INIT_WEIGHTS
    refuse_unknown(name)
    if not has_weights(name) and (cfg.MODEL.RANDOM_INIT or path):
        given = f"MODEL.INIT_WEIGHTS {path}" if path else "MODEL.RANDOM_INIT True"
        kind = "brings its weights" if name.startswith(FOLDER) else "has no weights"
        raise InputError(f"{given}: {name} {kind}; leave it out")
    if name not in BACKBONE_REGISTRY.objects and "normalize" in cfg.INPUT.TRANSFORMS:
        raise InputError(f"INPUT.TRANSFORMS normalize: {name} normalises images itself; leave it out")
    if cfg.MODEL.RANDOM_INIT and path:
        raise InputError(f"MODEL.RANDOM_INIT True and MODEL.INIT_WEIGHTS {path}: leave one out")
    if has_weights(name) and not cfg.MODEL.RANDOM_INIT and not path:
        raise InputError(
            "MODEL.INIT_WEIGHTS names no checkpoint: give one, or MODEL.RANDOM_INIT True to do without; nothing is "
            "downloaded"
        )
    if name in BACKBONE_REGISTRY.objects and cfg.MODEL.POOLING == "cls":
        raise InputError(f"MODEL.POOLING cls: {name} has no class token; choose mean")
    if name in BACKBONE_REGISTRY.objects and not is_ours(name) and cfg.MODEL.POOLING != "mean":
        raise InputError(f"MODEL.POOLING {cfg.MODEL.POOLING}: {name} gives no tokens to pool; choose mean")
    weights_id(cfg)


def weights_id(cfg: CfgNode) -> str:
    """Give what tells one set of encoder weights from another: hashes of what it is read from, "random", or "none".

    Raises:
        InputError: if the checkpoint cannot be read.

    """
    name = cfg.MODEL.BACKBONE.NAME
    if name.startswith(FOLDER):
        return folder_id(name)
    if not has_weights(name):
        return "none"
    return content_hash(cfg.MODEL.INIT_WEIGHTS) if cfg.MODEL.INIT_WEIGHTS else "random"


def build_encoder(cfg: CfgNode, **kwargs: Any) -> Any:
    """Make the encoder with its weights; random ones are the same for every seed.

    Args:
        cfg: MODEL and INPUT are used.
        **kwargs: for the encoders that are registered here, such as `num_classes` for a HiViT.

    Returns:
        A `Classifier` for hivit_*, a `TimmEncoder`, or what is registered under the name, made with img_size (H, W) and
        verbose.

    Raises:
        InputError: for an input size or weights that do not fit.

    """
    refuse_bad_encoder(cfg)
    name, size = cfg.MODEL.BACKBONE.NAME, tuple(cfg.INPUT.SIZE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name not in BACKBONE_REGISTRY.objects:
            encoder: Any = build_timm_encoder(cfg)
        else:
            try:
                if is_ours(name):
                    kwargs["pooling"] = cfg.MODEL.POOLING
                encoder = build_backbone(name, img_size=size, verbose=False, **kwargs)
            except ValueError as error:
                raise InputError(f"INPUT.SIZE {size}: {error}") from error
    kinds = {True: "random", False: "trained" if has_weights(name) or name.startswith(FOLDER) else "no"}
    log.info("%s with %s weights", name, kinds[cfg.MODEL.RANDOM_INIT])
    if cfg.MODEL.INIT_WEIGHTS and isinstance(encoder, HiViT):
        load_encoder(encoder, cfg.MODEL.INIT_WEIGHTS, missing_ok=("fc_norm.", "head."))
    elif cfg.MODEL.INIT_WEIGHTS and name in BACKBONE_REGISTRY.objects:
        load_weights(encoder, cfg.MODEL.INIT_WEIGHTS)
    return encoder


def is_ours(name: str) -> bool:
    """Tell whether a name is that of a HiViT, and no user's file stands in for it."""
    return getattr(BACKBONE_REGISTRY.objects.get(name), "__module__", "") == __name__


_frozen: dict[str, Any] = {}  # the one in use, shared by all runs of a process


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
        refuse_bad_encoder(cfg)
        name = cfg.MODEL.BACKBONE.NAME
        self.cfg, self.device = cfg, device
        self.identity = {
            "weights": weights_id(cfg),
            "backbone": name,
            "input size": list(cfg.INPUT.SIZE),
            "precision": cfg.MODEL.PRECISION,
            "device": device.type,
            "torch": torch.__version__,
        }
        if cfg.MODEL.MIRROR:
            self.identity["mirror"] = True
        self.key = f"{self.identity} {cfg.MODEL.POOLING}"
        if is_ours(name):
            self.width: int = SIZES[name.removeprefix("hivit_")]["embed_dim"] * WIDTHS[cfg.MODEL.POOLING]
            if cfg.MODEL.POOLING != "mean":
                self.identity["pooling"] = cfg.MODEL.POOLING
            return
        if name in BACKBONE_REGISTRY.objects:  # what its file says decides too
            self.identity["code"] = content_hash(inspect.getfile(BACKBONE_REGISTRY.get(name)))
        else:
            self.identity |= {"timm": timm.__version__, "pooling": cfg.MODEL.POOLING}
            self.identity["normalisation"] = self.encoder().normalisation
        self.width = getattr(self.encoder(), "out_features", 0)
        if self.width < 1:
            raise InputError(f'MODEL.BACKBONE.NAME "{name}": its out_features must say how many features it gives')

    def encoder(self) -> Any:
        """Give the model, in evaluation mode."""
        if self.key not in _frozen:
            _frozen.clear()
            _frozen[self.key] = build_encoder(self.cfg).to(self.device).eval()
        return _frozen[self.key]

    def pooled(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 1 or 3, H, W], amplitude in [0, 1], on the device -> features [B, D], float32."""
        encoder = self.encoder()
        pool = getattr(encoder, "pool", encoder)
        with precision(self.cfg, self.device):
            pooled = pool(images).float()
            if self.cfg.MODEL.MIRROR:
                pooled = (pooled + pool(images.flip(3)).float()) / 2
        return pooled

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 1 or 3, H, W], amplitude in [0, 1], on any device -> features [B, D], float32.

        Raises:
            FloatingPointError: if one is infinite or not a number.

        """
        pooled = self.pooled(images.to(self.device))
        if not torch.isfinite(pooled).all():
            raise FloatingPointError(
                "the encoder's features are not finite: its weights, or MODEL.PRECISION, do not fit"
            )
        return pooled
