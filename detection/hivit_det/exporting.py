"""A detector as an ONNX file."""

from pathlib import Path
from typing import Any

import torch
from mmdet.models.dense_heads import GFLHead
from torch import nn

from coco_annotations.run_options import ExportOptions
from hivit_det.data_sets import classes_of
from hivit_det.loading import reading_of
from hivit_det.running import check_config, open_config
from hivit_det.scenes.windows import SceneDetector
from saratrx.errors import InputError
from saratrx.files import refused_if_unwritable, try_writing, write_json
from saratrx.onnx_file import import_runtime, write_onnx


class Candidates(nn.Module):
    """What the file computes: all boxes [B, N, 4] and scores [B, N, C] of images [B, 1, S, S] in [0, 1].

    Boxes are x1, y1, x2, y2 in pixels, inside the image; of each target there are many, of which a suppression of
    doubles (NMS) keeps the best.

    Args:
        model: a one-stage detector with MMDetection's GFL head.
        side: of the images, a multiple of the largest stride.

    """

    centres: torch.Tensor  # [N, 2]
    steps: torch.Tensor  # distances of which a head tells how likely each is, in strides

    def __init__(self, model: Any, side: int) -> None:
        super().__init__()
        self.model: Any = model
        self.side = side
        self.strides = strides = [stride for stride, _ in model.bbox_head.prior_generator.strides]
        maps = [(side // stride, side // stride) for stride in strides]
        priors = model.bbox_head.prior_generator.grid_priors(maps, device="cpu")  # its own choice is a GPU
        self.register_buffer("centres", torch.cat([(each[:, :2] + each[:, 2:]) / 2 for each in priors]))
        self.register_buffer("steps", torch.arange(model.bbox_head.reg_max + 1.0))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        about = self.model.data_preprocessor
        seen = ((255 * images).expand(-1, 3, -1, -1) - about.mean) / about.std
        scores, sides = self.model.bbox_head(self.model.extract_feat(seen))
        scores = [each.permute(0, 2, 3, 1).flatten(1, 2).sigmoid() for each in scores]
        reach = []  # from a centre to the four sides
        for each, stride in zip(sides, self.strides, strict=True):
            likely = each.permute(0, 2, 3, 1).flatten(1, 2).unflatten(-1, (4, len(self.steps))).softmax(dim=-1)
            reach.append(stride * (likely * self.steps).sum(dim=-1))
        distances = torch.cat(reach, dim=1)
        boxes = torch.cat([self.centres - distances[..., :2], self.centres + distances[..., 2:]], dim=-1)
        return boxes.clamp(0, self.side), torch.cat(scores, dim=1)


def export(options: ExportOptions) -> None:
    """Write `model.onnx` and `detector.json`.

    Raises:
        InputError: for another head than GFL, a side that does not fit, or what config and checkpoint have wrong.

    """
    import_runtime()
    cfg = open_config(options.config)
    check_config(cfg)
    detector = SceneDetector(cfg, options.checkpoint, "cpu")
    head = getattr(detector.model, "bbox_head", None)
    if not isinstance(head, GFLHead):
        raise InputError(f"{options.config}: only detectors with a GFLHead can be exported, such as those of *_gfl.py")
    largest = max(stride for stride, _ in head.prior_generator.strides)
    if options.size % largest:
        raise InputError(f"--size {options.size}: must be a multiple of {largest}, the largest stride")
    try_writing(options.folder, "FOLDER")
    generator = torch.Generator().manual_seed(0)
    examples = [torch.rand(count, 1, options.size, options.size, generator=generator) for count in (2, 1)]
    network = Candidates(detector.model, options.size).eval()
    version = write_onnx(network, options.folder / "model.onnx", examples, ("boxes", "scores"), free=(0,))
    settings = cfg.model.get("test_cfg") or {}
    about: dict[str, Any] = {
        "classes": list(classes_of(cfg.test_dataloader.dataset)),
        "input": ["images", 1, options.size, options.size],
        "reading": reading_of(cfg.test_dataloader),
        "score_threshold": settings.get("score_thr"),
        "nms": settings.get("nms"),
        "opset": version,
        "checkpoint": str(Path(options.checkpoint).absolute()),
    }
    with refused_if_unwritable(options.folder):
        write_json(options.folder / "detector.json", about, indent=1)
    print(f"wrote {options.folder}/model.onnx (opset {version}) and detector.json; ONNX Runtime computes the same")
