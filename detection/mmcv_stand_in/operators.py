"""MMCV's compiled operators by other means: upright boxes are torchvision's, rotated ones are in `rotated_*.py`.

Faster R-CNN and GFL need two of them, NMS and RoIAlign; torchvision has both, compiled for CPU and CUDA. RoIAlign is a
choice in the config (`use_torchvision=True`), NMS is put in place here. All others say what is missing.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

import torch
import torchvision

from mmcv_stand_in.rotated_boxes import overlap, overlaps, suppress
from mmcv_stand_in.rotated_rois import align

INSTALL = (
    "pip install setuptools wheel packaging ninja psutil, then MMCV_WITH_OPS=1 MAX_JOBS=2 pip install "
    "--no-build-isolation --no-binary onedl-mmcv --force-reinstall --no-deps onedl-mmcv==2.3.6"
)


class Operators(ModuleType):
    """A module with some operators; every other name is there, as a function that says how to get the real one."""

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

    @staticmethod
    def box_iou_rotated(
        bboxes1: torch.Tensor, bboxes2: torch.Tensor, ious: torch.Tensor, mode_flag: int, aligned: bool
    ) -> None:
        """Write the overlaps of rotated boxes into a tensor.

        Args:
            bboxes1: [N, 5], x, y, w, h, angle (rad, clockwise).
            bboxes2: [M, 5].
            ious: [N] for pairs, [N * M] for each with each; gets them.
            mode_flag: 0 for the shared area over the union, 1 over the area of the first box.
            aligned: whether the boxes are pairs.

        """
        found = (overlap if aligned else overlaps)(bboxes1, bboxes2, of_first=mode_flag == 1)
        ious.copy_(found.flatten())

    @staticmethod
    def nms_rotated(
        dets: torch.Tensor,
        scores: torch.Tensor,
        order: torch.Tensor,
        dets_sorted: torch.Tensor,
        labels: torch.Tensor,
        iou_threshold: float,
        multi_label: bool,
    ) -> torch.Tensor:
        """Suppress rotated boxes that overlap better ones; give the indices of those that stay, by falling score.

        Args:
            dets: not needed beside `dets_sorted`; nor are `scores` and `labels`.
            scores: [N].
            order: [N], indices by falling score.
            dets_sorted: [N, 5] or [N, 6] in this order: x, y, w, h, angle (rad, clockwise), and the label.
            labels: [N].
            iou_threshold: boxes that overlap a better one by more are dropped.
            multi_label: whether only boxes of one label suppress each other.

        """
        return order[suppress(dets_sorted[:, :5], iou_threshold, dets_sorted[:, 5] if multi_label else None)]

    @staticmethod
    def roi_align_rotated_forward(input: torch.Tensor, rois: torch.Tensor, output: torch.Tensor, **how: Any) -> None:  # noqa: A002
        """Write what `align` gives for maps and RoIs into a tensor.

        Args:
            input: [B, C, H, W].
            rois: [R, 6].
            output: [R, C, rows, columns]; gets it.
            how: MMCV's names for the other arguments of `align`.

        """
        output.copy_(align(input, rois, **arguments(**how)))

    @staticmethod
    def roi_align_rotated_backward(
        grad_output: torch.Tensor, rois: torch.Tensor, grad_input: torch.Tensor, **how: Any
    ) -> None:
        """Write the gradient of maps [B, C, H, W] into a tensor, from that of what was aligned."""
        with torch.enable_grad():
            maps = torch.zeros_like(grad_input, requires_grad=True)  # of which the gradient does not depend
            aligned = align(maps, rois, **arguments(**how))
        grad_input.copy_(torch.autograd.grad(aligned, maps, grad_output, allow_unused=True)[0])

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: object, **kwargs: object) -> NoReturn:
            raise NotImplementedError(f"{name} is a compiled operator of MMCV, which is not installed: {INSTALL}")

        return missing


def arguments(
    pooled_height: int, pooled_width: int, spatial_scale: float, sampling_ratio: int, aligned: bool, clockwise: bool
) -> dict[str, Any]:
    """Give the arguments of `align` by MMCV's names."""
    return {
        "size": (pooled_height, pooled_width),
        "scale": spatial_scale,
        "samples": sampling_ratio,
        "aligned": aligned,
        "clockwise": clockwise,
    }
