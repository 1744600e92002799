"""Tell timm about the encoders without importing PyTorch before somebody needs it.

Tools for annotations and tables import `saratrx` for its errors and files alone, and should start at once.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

MODELS = "timm.models"


class Registration(MetaPathFinder):
    """Imports `saratrx.hivit`, which registers the encoders, right after timm's own models."""

    is_looking = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Wrap the loading of timm's models; of nothing else."""
        if fullname != MODELS:
            return None
        if self.is_looking:  # the search below asks every finder, this one too
            return None
        self.is_looking = True
        try:
            spec = find_spec(fullname)
        finally:
            self.is_looking = False
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_register(module: ModuleType) -> None:
                load(module)
                sys.meta_path.remove(self)  # not before: an import that fails may be tried again
                importlib.import_module("saratrx.hivit")

            spec.loader.exec_module = load_and_register  # type: ignore[method-assign]  # of this one loader
        return spec


def when_timm_is_imported() -> None:
    """Register the encoders now if timm is there already, else as soon as it is imported."""
    if MODELS in sys.modules:
        importlib.import_module("saratrx.hivit")
    else:
        sys.meta_path.insert(0, Registration())
