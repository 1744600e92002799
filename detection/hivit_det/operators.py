"""MMCV's compiled operators, where they are missing: non-maximum suppression by torchvision.

The wheels of MMCV that install anywhere have no compiled operators, and MMDetection's models do not import without.
Faster R-CNN and GFL need two of them, NMS and RoIAlign; torchvision has both, compiled for CPU and CUDA. RoIAlign is a
choice in the config (`use_torchvision=True`), NMS is put in place here. Configs name this package in `custom_imports`,
so that whoever opens one has it, also after `import mmdet`.
"""

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn

import torch
import torchvision

NAME = "mmcv._ext"
INSTALL = (
    "pip install setuptools wheel packaging ninja psutil, then MMCV_WITH_OPS=1 MAX_JOBS=2 pip install "
    "--no-build-isolation --no-binary onedl-mmcv --force-reinstall --no-deps onedl-mmcv==2.3.6"
)


class Operators(ModuleType):
    """A module with `nms`; every other name is there, as a function that says how to get the real one."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self.__spec__ = ModuleSpec(NAME, loader=None)

    @staticmethod
    def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, offset: int) -> torch.Tensor:
        """Suppress boxes that overlap better ones; give the indices of those that stay, by falling score.

        Args:
            boxes: [N, 4], x1, y1, x2, y2.
            scores: [N].
            iou_threshold: boxes that overlap a better one by more are dropped.
            offset: 0, or 1 where x2 and y2 are the last pixels inside.

        """
        return torchvision.ops.nms(boxes + boxes.new_tensor([0, 0, offset, offset]), scores, iou_threshold)

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: object, **kwargs: object) -> NoReturn:
            raise NotImplementedError(f"{name} is a compiled operator of MMCV, which is not installed: {INSTALL}")

        return missing


def stand_in_for_missing() -> None:
    """Register the stand-in, unless MMCV has its own operators."""
    if NAME not in sys.modules and importlib.util.find_spec(NAME) is None:
        sys.modules[NAME] = Operators()


def replace_placeholders() -> None:
    """Give MMDetection's modules that were imported before the stand-in the operators that they did without.

    Where MMCV's operators do not import, such a module defines functions and classes of their names, which only raise.
    """
    operators = importlib.import_module("mmcv.ops")
    for name, module in list(sys.modules.items()):
        if name.startswith("mmdet."):
            for word, value in list(vars(module).items()):
                is_own = getattr(value, "__module__", None) == name
                if is_own and hasattr(operators, word) and "requires mmcv to be compiled" in source_words(value):
                    setattr(module, word, getattr(operators, word))


def source_words(value: object) -> str:
    """Texts in a function, or in the constructor of a class."""
    function = value.__init__ if isinstance(value, type) else value  # type: ignore[misc]
    code = getattr(function, "__code__", None)
    return " ".join(word for word in code.co_consts if isinstance(word, str)) if code else ""
