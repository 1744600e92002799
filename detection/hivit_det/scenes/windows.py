"""Finding targets in a scene that is too large for the detector, or for the memory: window by window."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from numpy.typing import NDArray
from tqdm import tqdm

from coco_annotations.scene_options import wrong_overlap
from hivit_det.data_sets import annotation_sets, check_heads, classes_of
from hivit_det.exact_boxes import keep_boxes_exact
from hivit_det.loading import reading_of
from hivit_det.runner import refusal
from hivit_det.running import has_oriented_boxes
from hivit_det.scenes.merge import cut_by_window
from hivit_det.scenes.merge import merge as merge_windows
from hivit_det.scenes.merge_oriented import longer_side_first, merge_oriented, upright
from hivit_det.scenes.resuming import Kept
from hivit_det.scenes.scene import Scene
from hivit_det.scenes.second_look import second_looks
from hivit_det.weights import load_detector
from mmcv_stand_in.rotated_boxes import corners as corners_of_oriented
from saratrx.errors import InputError, first_line, raise_problems
from saratrx.sar_image import max_pixels

Corner = tuple[int, int]  # left and top of a window in the scene
Placed = tuple[Corner, NDArray[np.uint8]]
MAX_WINDOWS = 1_000_000  # of a scene: of 1,024 px, enough for 700,000 x 700,000


@dataclass
class Detections:
    """Targets of a scene: `boxes` float32 [N, 4] as x1, y1, x2, y2 in its pixels, by falling score.

    Oriented ones are [N, 5], as `hivit_det.rotated` says. `scores` float32 [N] in [0, 1]; `labels` int64 [N], numbers
    in `classes`.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def are_oriented(self) -> bool:
        """Whether the boxes have an angle."""
        return self.boxes.shape[1] == 5

    @property
    def corners(self) -> torch.Tensor:
        """Corners [N, 4, 2] of the boxes, one after the other around each."""
        if self.are_oriented:
            return corners_of_oriented(self.boxes.double())
        return self.boxes[:, [0, 1, 0, 3, 2, 3, 2, 1]].reshape(-1, 4, 2)

    def of_classes(self, names: Sequence[str]) -> "Detections":
        """Keep those of some classes."""
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
        InputError: if the model cannot be built or look at a first window, or has heads for other classes.
        CheckpointError: if the checkpoint is of another model.

    """

    is_oriented = False

    def __init__(self, cfg: Config, checkpoint: str | Path, device: str | torch.device) -> None:
        init_default_scope("mmdet")
        try:
            cfg.model.backbone.init_cfg = None  # the checkpoint has all weights
            model = MODELS.build(cfg.model)
            steps = next(annotation_sets(cfg.test_dataloader.dataset)).pipeline
            self.prepare = Compose([step for step in steps if not step["type"].startswith("Load")])
        except Exception as error:  # a config can name anything
            raise InputError(
                f"the model or test pipeline of {cfg.filename} cannot be built: {first_line(error)}"
            ) from error
        self.classes = tuple(classes_of(cfg.test_dataloader.dataset))
        check_heads(model, self.classes)
        load_detector(model, checkpoint, self.classes, reading_of(cfg.test_dataloader))
        self.cfg, self.has_worked, self.is_oriented = cfg, False, has_oriented_boxes(cfg)
        self.device = torch.device(device)
        self.model = revert_sync_batchnorm(model).to(self.device).eval()
        keep_boxes_exact(self.model)  # under autocast, too

    def detect(
        self,
        scene: Scene,
        window: int = 1024,
        overlap: int | None = None,
        batch: int | None = None,
        score: float = 0.3,
        nms: float = 0.5,
        merge: Literal["union", "best"] = "union",
        amp: bool = False,
        progress: bool = False,
        kept: Kept | None = None,
    ) -> Detections:
        """Find the targets of a scene. The memory needed follows from window and batch, not from the scene.

        Args:
            scene: where to look.
            window: side of the windows in pixels.
            overlap: pixels that neighbouring windows share; by default an eighth of the window. Longer targets that
                a window can hold are looked at again in one around them.
            batch: windows that go through the model at once; by default 8 on a GPU, and 1 on a CPU, where more do not
                make it faster.
            score: targets below are dropped (and below the config's own threshold, 0.05 as published).
            nms: of boxes of one class that overlap by more, the best stays.
            merge: of a target that no window shows whole, "union" joins the pieces, and "best" keeps the largest.
                Oriented boxes stay pieces.
            amp: compute in bfloat16 where it is accurate enough.
            progress: show a bar.
            kept: what an interrupted run over this scene, with the same options, has found so far.

        Raises:
            InputError: if the overlap is not smaller than the window, or windows are too many or too large.

        """
        kept = kept or Kept()
        batch = batch or (8 if self.device.type == "cuda" else 1)
        overlap = shared_by(window) if overlap is None else overlap
        size, extent = (min(window, scene.width), min(window, scene.height)), (scene.width, scene.height)
        places = corners(scene, window, overlap, batch)
        with (
            torch.autocast(self.device.type, torch.bfloat16, enabled=amp),
            tqdm(
                total=len(places), initial=kept.windows, desc=scene.path.name, unit="window", disable=not progress
            ) as bar,
        ):

            def look(name: str, places: list[Corner]) -> tuple[torch.Tensor, ...]:
                done, found = kept.of(name)
                found.append(nothing(5 if self.is_oriented else 4))
                for windows, looked_at in read_ahead(scene, places[done:], size, batch):
                    if windows:
                        found += self.detect_in_windows(scene, windows, score)
                    done += looked_at
                    kept.keep(name, done, found)
                    bar.update(looked_at)
                return tuple(torch.cat(parts) for parts in zip(*found, strict=True))

            found = look("first", places)
            shown, scores, labels, frames = upright(found[0], found[3]), *found[1:]
            boxes = shown.clone()
            chosen = merge_windows(boxes, scores, labels, frames, extent, nms)
            cut = chosen[cut_by_window(shown, frames, extent)[chosen]]
            again = second_looks(boxes[cut], size, overlap, extent)
            if again:
                bar.total += len(again)
                seen = look("second", again)
                is_whole = ~cut_by_window(upright(seen[0], seen[3]), seen[3], extent)
                found = tuple(torch.cat([first, second[is_whole]]) for first, second in zip(found, seen, strict=True))
        if self.is_oriented:
            boxes, scores, labels, frames = longer_side_first(found[0]), *found[1:]
            chosen = merge_oriented(boxes, scores, labels, frames, extent, nms)
        elif again or merge == "best":
            boxes, scores, labels, frames = found
            chosen = merge_windows(boxes, scores, labels, frames, extent, nms, merge)
        return Detections(boxes[chosen], scores[chosen], labels[chosen], self.classes)

    @torch.inference_mode()
    def detect_in_windows(self, scene: Scene, windows: list[Placed], score: float) -> list[tuple[torch.Tensor, ...]]:
        """Boxes [N, 4] or [N, 5] in pixels of the scene, scores, labels, and the window [N, 4] of each, by window."""
        inputs = []
        for _, image in windows:
            values = np.repeat(image[..., None], 3, axis=2)
            known = {"img": values, "img_shape": image.shape, "ori_shape": image.shape, "scale_factor": (1.0, 1.0)}
            inputs.append(self.prepare(known | {"img_id": 0, "img_path": str(scene.path)}))
        try:
            samples = self.model.test_step(pseudo_collate(inputs))
        except (InputError, MemoryError):
            raise
        except Exception as error:
            if self.has_worked:
                raise
            raise refusal(self.cfg, "the model cannot look at windows", error) from error
        self.has_worked = True
        found: list[tuple[torch.Tensor, ...]] = []
        for ((left, top), image), sample in zip(windows, samples, strict=True):
            targets = sample.pred_instances.cpu()
            targets = targets[targets.scores >= score]
            corner = torch.tensor([left, top, left, top], dtype=torch.float32)
            height, width = image.shape
            frame = corner + torch.tensor([0, 0, width, height])
            shift = torch.tensor([left, top, 0, 0, 0], dtype=torch.float32) if self.is_oriented else corner
            found.append((targets.bboxes + shift, targets.scores, targets.labels, frame.expand(len(targets), 4)))
        return found


def corners(scene: Scene, window: int, overlap: int | None, batch: int | None) -> list[Corner]:
    """Left and top of all windows of a scene, row by row; see `SceneDetector.detect`.

    Raises:
        InputError: if the overlap is not smaller than the window, or windows are too many or too large.

    """
    overlap = shared_by(window) if overlap is None else overlap
    raise_problems(wrong_overlap(window, overlap))
    at_once = min(window, scene.width) * min(window, scene.height) * (batch or 1)
    if at_once > max_pixels():
        raise InputError(
            f"--window {window} --batch {batch or 1}: {at_once:,} pixels of {scene.path} at once are more than "
            f"SARATRX_MAX_PIXELS={max_pixels()} allows; give a smaller one"
        )
    step = window - overlap
    count = (1 + max(0, scene.width - window) // step) * (1 + max(0, scene.height - window) // step)
    if count > MAX_WINDOWS:
        raise InputError(
            f"--window {window} --overlap {overlap}: {scene.path} would have {count:,} windows, above {MAX_WINDOWS:,}; "
            "give larger windows, or a smaller overlap"
        )
    rows, columns = starts(scene.height, window, overlap), starts(scene.width, window, overlap)
    return [(left, top) for top in rows for left in columns]


def shared_by(window: int) -> int:
    """Pixels that neighbouring windows share by default: most targets have fewer."""
    return window // 8


def starts(length: int, window: int, overlap: int) -> list[int]:
    """Where windows begin along a side of a scene; the last one ends with the scene, however much it overlaps.

    Raises:
        InputError: if the overlap is not smaller than the window.

    """
    raise_problems(wrong_overlap(window, overlap))
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
        groups = [*(places[i : i + batch] for i in range(0, len(places), batch)), []]
        coming = reader.submit(read, groups[0])
        for group, following in pairwise(groups):
            windows, coming = coming.result(), reader.submit(read, following)
            yield windows, len(group)


def nothing(numbers: int) -> tuple[torch.Tensor, ...]:
    """Boxes of so many numbers, scores, labels and windows of no target."""
    return torch.empty(0, numbers), torch.empty(0), torch.empty(0, dtype=torch.int64), torch.empty(0, 4)
