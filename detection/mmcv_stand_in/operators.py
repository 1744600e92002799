"""MMCV's compiled operators by other means: non-maximum suppression is torchvision's, the rest says what is missing.

Faster R-CNN and GFL need two of them, NMS and RoIAlign; torchvision has both, compiled for CPU and CUDA. RoIAlign is a
choice in the config (`use_torchvision=True`), NMS is put in place here.
"""

from collections.abc import Callable
from types import ModuleType
from typing import NoReturn

import torch
import torchvision

INSTALL = (
    "pip install setuptools wheel packaging ninja psutil, then MMCV_WITH_OPS=1 MAX_JOBS=2 pip install "
    "--no-build-isolation --no-binary onedl-mmcv --force-reinstall --no-deps onedl-mmcv==2.3.6"
)


class Operators(ModuleType):
    """A module with `nms`; every other name is there, as a function that says how to get the real one."""

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
