"""Trainers by name."""

from typing import Any

from yacs.config import CfgNode

from dassl.utils.registry import Registry
from saratrx.errors import InputError

TRAINER_REGISTRY = Registry("TRAINER.NAME")
LEFT_OUT = (  # Dassl's trainers for several domains and for unlabelled data
    *("ADDA", "AdaBN", "CDAC", "DAEL", "DANN", "M3SDA", "MCD", "MME", "SE", "SourceOnly"),
    *("CrossGrad", "DAELDG", "DDAIG", "DomainMix", "Vanilla"),
    *("EntMin", "FixMatch", "MeanTeacher", "MixMatch", "SupBaseline"),
)


def build_trainer(cfg: CfgNode) -> Any:
    """Make the trainer that the config names.

    Raises:
        InputError: if there is none of that name.

    """
    name = cfg.TRAINER.NAME
    if name in LEFT_OUT and name not in TRAINER_REGISTRY.registered_names():
        raise InputError(
            f"TRAINER.NAME {name}: Dassl's trainers for domain adaptation, domain generalisation and semi-supervised "
            f"learning are not part of this engine; choose one of {', '.join(TRAINER_REGISTRY.registered_names())}"
        )
    return TRAINER_REGISTRY.get(name)(cfg)
