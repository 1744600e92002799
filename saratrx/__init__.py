"""What every stage of SARATR-X shares: the HiViT encoder, its checkpoints, SAR image reading, and small tools.

After `import saratrx`, timm knows the encoders: `timm.create_model("hivit_base_patch16_224")`.
"""

import importlib
from types import ModuleType

from saratrx import register

__version__ = "1.0.0"

register.when_timm_is_imported()


def __getattr__(name: str) -> ModuleType:
    """Import `saratrx.hivit`, and PyTorch with it, when somebody first asks for it."""
    if name == "hivit":
        return importlib.import_module("saratrx.hivit")
    raise AttributeError(f"module 'saratrx' has no attribute {name!r}")
