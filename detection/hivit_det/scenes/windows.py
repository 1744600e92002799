"""Finding targets in a scene that is too large for the detector, or for the memory: window by window."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torchvision.ops import batched_nms
from tqdm import tqdm

from hivit_det.scenes.scene import Scene
from hivit_det.weights import load_detector
from saratrx.errors import InputError

EDGE = 0.01  # a box that ends within this part of a window's side from its edge is taken to be cut
Placed = tuple[tuple[int, int], np.ndarray]  # left and top in the scene, and the window
PAIRS_AT_ONCE = 500_000  # of boxes, when they are compared: bounds the memory


@dataclass
class Detections:
    """Targets of a scene: `boxes` float32 [N, 4] as x1, y1, x2, y2 in its pixels, by falling score.

    `scores` float32 [N] in [0, 1]; `labels` int64 [N], numbers in `classes`.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.boxes)

    def of_classes(self, names: Sequence[str]) -> "Detections":
        """Those of some classes."""
        wanted = torch.tensor([self.classes.index(name) for name in names])
        kept = torch.isin(self.labels, wanted)
        return Detections(self.boxes[kept], self.scores[kept], self.labels[kept], self.classes)


class SceneDetector:
    """A trained detector, for scenes of any size.

        detector = SceneDetector(Config.fromfile("hivit_base_SSDD.py"), "epoch_36.pth", "cuda")
        detections = detector.detect(open_scene("scene.tif"))

    Args:
        cfg: the config that it was trained with; windows are prepared by its test pipeline.
        checkpoint: file of tools/train.py.
        device: where it runs.

    Raises:
        CheckpointError: if the checkpoint is of another model.

    """

    def __init__(self, cfg: Config, checkpoint: str | Path, device: str | torch.device) -> None:
        init_default_scope("mmdet")
        cfg.model.backbone.init_cfg = None  # the checkpoint has all weights
        model = MODELS.build(cfg.model)
        load_detector(model, checkpoint)
        self.device = torch.device(device)
        self.model = revert_sync_batchnorm(model).to(self.device).eval()
        self.classes = tuple(cfg.test_dataloader.dataset.metainfo.classes)
        steps = cfg.test_dataloader.dataset.pipeline
        self.prepare = Compose([step for step in steps if not step["type"].startswith("Load")])

    def detect(
        self,
        scene: Scene,
        window: int = 1024,
        overlap: int | None = None,
        batch: int | None = None,
        score: float = 0.3,
        nms: float = 0.5,
        amp: bool = False,
        progress: bool = False,
    ) -> Detections:
        """Find the targets of a scene. The memory needed follows from window and batch, not from the scene.

        Args:
            scene: where to look.
            window: side of the windows in pixels.
            overlap: pixels that neighbouring windows share, to be larger than a target; by default a quarter of the
                window.
            batch: windows that go through the model at once; by default 8 on a GPU, and 1 on a CPU, where more do not
                make it faster.
            score: targets below are dropped (and below the config's own threshold, 0.05 as published).
            nms: of boxes of one class that overlap by more, the best stays.
            amp: compute in bfloat16 where it is accurate enough.
            progress: show a bar.

        Raises:
            InputError: if the overlap is not smaller than the window.

        """
        overlap = window // 4 if overlap is None else overlap
        batch = batch or (8 if self.device.type == "cuda" else 1)
        size = min(window, scene.width), min(window, scene.height)
        rows, columns = starts(scene.height, window, overlap), starts(scene.width, window, overlap)
        places = [(left, top) for top in rows for left in columns]
        found = [nothing()]
        with (
            torch.autocast(self.device.type, torch.bfloat16, enabled=amp),
            tqdm(total=len(places), desc=scene.path.name, unit="window", disable=not progress) as bar,
        ):
            for windows, looked_at in read_ahead(scene, places, size, batch):
                if windows:
                    found += self.detect_in_windows(scene, windows, score)
                bar.update(looked_at)
        boxes, scores, labels, frames = (torch.cat(parts) for parts in zip(*found, strict=True))
        kept = merge(boxes, scores, labels, frames, (scene.width, scene.height), nms)
        return Detections(boxes[kept], scores[kept], labels[kept], self.classes)

    @torch.inference_mode()
    def detect_in_windows(self, scene: Scene, windows: list[Placed], score: float) -> list[tuple[torch.Tensor, ...]]:
        """Boxes in pixels of the scene, scores, labels, and the window [N, 4] of each, for every window."""
        inputs = []
        for _, image in windows:
            values = np.repeat(image[..., None], 3, axis=2)
            known = {"img": values, "img_shape": image.shape, "ori_shape": image.shape, "scale_factor": (1.0, 1.0)}
            inputs.append(self.prepare(known | {"img_id": 0, "img_path": str(scene.path)}))
        found = []
        for ((left, top), image), sample in zip(windows, self.model.test_step(pseudo_collate(inputs)), strict=True):
            targets = sample.pred_instances.cpu()
            targets = targets[targets.scores >= score]
            corner = torch.tensor([left, top, left, top], dtype=torch.float32)
            height, width = image.shape
            frame = corner + torch.tensor([0, 0, width, height])
            found.append((targets.bboxes + corner, targets.scores, targets.labels, frame.expand(len(targets), 4)))
        return found


def starts(length: int, window: int, overlap: int) -> list[int]:
    """Where windows begin along a side of a scene; the last one ends with the scene, however much it overlaps.

    Raises:
        InputError: if the overlap is not smaller than the window.

    """
    if not 0 <= overlap < window:
        raise InputError(f"--overlap {overlap}: must be from 0 to less than --window {window}")
    last = max(0, length - window)
    return [*range(0, last, window - overlap), last]


def read_ahead(
    scene: Scene, places: list[tuple[int, int]], size: tuple[int, int], batch: int
) -> Iterator[tuple[list[Placed], int]]:
    """Windows of a scene in batches, the next of which is read while the model is busy.

    Yields:
        The windows of a batch, without blank ones (no data), and how many there were.

    """

    def read(corners: list[tuple[int, int]]) -> list[Placed]:
        windows = [(corner, scene.read(*corner, *size)) for corner in corners]
        return [(corner, image) for corner, image in windows if image.min() < image.max()]

    with ThreadPoolExecutor(max_workers=1) as reader:
        groups = [places[i : i + batch] for i in range(0, len(places), batch)]
        coming = reader.submit(read, groups[0])
        for group, following in zip(groups, [*groups[1:], []], strict=True):
            windows, coming = coming.result(), reader.submit(read, following)
            yield windows, len(group)


def nothing() -> tuple[torch.Tensor, ...]:
    """Boxes, scores, labels and windows of no target."""
    return torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.int64), torch.empty(0, 4)


def merge(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    labels: torch.Tensor,
    frames: torch.Tensor,
    size: tuple[int, int],
    nms: float,
) -> torch.Tensor:
    """Choose one box for each target that several windows have found.

    Whole boxes come first: non-maximum suppression by class. A box that its window's edge cuts stays only if no whole
    box, nor a larger cut one, is of the same target, of whatever class: a part of a target is easily mistaken.

    Args:
        boxes: [N, 4] in pixels of the scene.
        scores: [N].
        labels: [N].
        frames: [N, 4], the window in which each was found.
        size: width and height of the scene.
        nms: overlap above which two boxes are of one target.

    Returns:
        Indices of the boxes that stay, by falling score.

    """
    is_cut = cut_by_window(boxes, frames, size)

    def same_target(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        overlaps = overlap_where_both_see(boxes[first], frames[first], boxes[second], frames[second]) > nms
        neighbours = (frames[first, None] != frames[None, second]).any(dim=2)
        return overlaps & (neighbours | (labels[first, None] == labels[None, second]))  # one window has decided itself

    whole, cut = (~is_cut).nonzero()[:, 0], is_cut.nonzero()[:, 0]
    kept = whole[batched_nms(boxes[whole], scores[whole], labels[whole], nms)]
    parts = cut.split(max(1, PAIRS_AT_ONCE // max(1, len(kept))))
    cut = torch.cat([part[~same_target(part, kept).any(dim=1)] for part in parts])
    areas = (boxes[cut, 2:] - boxes[cut, :2]).prod(dim=1)
    for part in cut[areas.argsort(descending=True, stable=True)].split(1):
        if not same_target(part, kept[is_cut[kept]]).any():
            kept = torch.cat([kept, part])
    return kept[scores[kept].argsort(descending=True, stable=True)]


def cut_by_window(boxes: torch.Tensor, frames: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Which boxes [N, 4] reach an edge of their window [N, 4] that is no edge of the scene."""
    width, height = size
    margin = EDGE * (frames[:, 2:] - frames[:, :2]).repeat(1, 2)
    scene = torch.tensor([0, 0, width, height])
    return (((boxes - frames).abs() <= margin) & (frames != scene)).any(dim=1)


def overlap_where_both_see(
    first: torch.Tensor, first_frames: torch.Tensor, second: torch.Tensor, second_frames: torch.Tensor
) -> torch.Tensor:
    """Intersection over union [M, N] of boxes [M, 4] and [N, 4], each cut to what both their windows show."""
    corner = torch.maximum(first_frames[:, None, :2], second_frames[None, :, :2])
    opposite = torch.minimum(first_frames[:, None, 2:], second_frames[None, :, 2:])

    def cut(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.maximum(boxes[..., :2], corner), torch.minimum(boxes[..., 2:], opposite)

    def area(corner: torch.Tensor, opposite: torch.Tensor) -> torch.Tensor:
        return (opposite - corner).clamp(min=0).prod(dim=-1)

    (a, a_end), (b, b_end) = cut(first[:, None]), cut(second[None])
    shared = area(torch.maximum(a, b), torch.minimum(a_end, b_end))
    return shared / (area(a, a_end) + area(b, b_end) - shared).clamp(min=1e-6)
