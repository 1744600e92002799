"""A stand-in for MMCV's compiled operators, wherever they are missing and whatever is imported first.

The wheels of MMCV that install anywhere have no compiled operators, and without them MMDetection's models do not
import. Once this package is imported, `mmcv._ext` is found nevertheless. `hivit_det` imports it; so that MMDetection's
own tools have it too, which import MMDetection before they read a config, let every Python of an environment do so:

    python -m mmcv_stand_in
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

NAME = "mmcv._ext"


class StandIn(MetaPathFinder, Loader):
    """Finds `mmcv._ext` where nothing else has: it stands last."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Answer for the one name."""
        return ModuleSpec(NAME, self) if name == NAME else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Make the module; PyTorch is imported now, not before."""
        from mmcv_stand_in.operators import Operators  # noqa: PLC0415

        return Operators(NAME)

    def exec_module(self, module: ModuleType) -> None:
        """Do no more: the module is complete."""


if not any(isinstance(finder, StandIn) for finder in sys.meta_path):
    sys.meta_path.append(StandIn())
