"""A test, from its options to results.json."""

import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.evaluation import DumpDetResults
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from coco_annotations.run_options import RunOptions, TestOptions
from hivit_det.classes import CocoMetricByName
from hivit_det.data_sets import annotation_sets, check_data, check_heads, classes_of, say_reordered
from hivit_det.loading import reading_of, three_channels
from hivit_det.mistake_figures import write_mistakes
from hivit_det.results import RESULTS, write_results
from hivit_det.runner import Run, formatted_once
from hivit_det.running import check_evaluator, has_oriented_boxes, processes, read_config
from hivit_det.weights import bare, load_detector
from saratrx import sar_image
from saratrx.errors import InputError, first_line
from saratrx.files import open_whole, refused_if_unwritable, try_writing
from saratrx.loader_workers import lost_workers_named

NO_WORKERS = "--cfg-options test_dataloader.num_workers=0 test_dataloader.persistent_workers=False"
# The image as it is comes first: it and its truth are what is drawn
FLIPPED = {
    "type": "TestTimeAug",
    "transforms": [
        [{"type": "RandomFlip", "prob": 0.0}, {"type": "RandomFlip", "prob": 1.0}],
        [
            {
                "type": "PackDetInputs",
                "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction"),
            }
        ],
    ],
}
MERGED = {"type": "DetTTAModel", "tta_cfg": {"nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 100}}


def test(run: RunOptions, tested: TestOptions) -> None:
    """Test the checkpoint that the options name, and nothing else.

    Raises:
        InputError: for what the options, the config, the data or the checkpoint have wrong.

    """
    cfg = read_config(run)
    cfg.load_from, cfg.resume = None, False
    cfg.model.backbone.init_cfg = None  # the checkpoint has all weights
    say_reordered(check_data(cfg.test_dataloader.dataset))
    check_evaluator(cfg, "test")
    try_writing(cfg.work_dir, "--work-dir")
    if tested.out:
        try_writing(tested.out.parent, "--out")
    if tested.mistakes:
        try_writing(tested.mistakes, "--mistakes")
    if tested.show_dir:
        try_writing(tested.show_dir, "--show-dir")
        draw(cfg, tested.show_dir)
    if tested.tta:
        flip_too(cfg)
    with processes(cfg), formatted_once():
        evaluate(cfg, run, tested)


def evaluate(cfg: Config, run: RunOptions, tested: TestOptions) -> None:
    """Test as a config says, in each of the processes; the first writes the results.

    Raises:
        InputError: for what the data or the checkpoint have wrong, or what cannot be written.

    """
    runner = Run.from_cfg(cfg)
    classes = classes_of(cfg.test_dataloader.dataset)
    check_heads(bare(runner.model), classes)
    costs = load_detector(bare(runner.model), tested.checkpoint, classes, reading_of(cfg.test_dataloader))
    boxes = KeptBoxes(out_file_path=str(tested.out or "boxes.pkl"))
    if tested.out or tested.mistakes:
        runner.test_evaluator.metrics.append(boxes)
    with refused_if_unwritable(cfg.work_dir), lost_workers_named(NO_WORKERS):
        scores = runner.test()
    if is_main_process():
        results = write_results(runner, scores, run, tested.checkpoint, costs)
        if tested.out:
            boxes.write(after=results)
        if tested.mistakes:
            show_mistakes(runner, boxes, tested.mistakes, after=results)
    refuse_missing_pictures(runner)
    if is_main_process():
        written = [results, tested.out, tested.mistakes, tested.show_dir]
        scenes = f"next: python huge_image_infer.py {run.config} {tested.checkpoint} SCENE"
        print(f"wrote {', '.join(str(path) for path in written if path)}; {scenes}", flush=True)


def flip_too(cfg: Config) -> None:
    """Test each image as it is and flipped, and merge what is found, as MMDetection's option does.

    Raises:
        InputError: for oriented boxes, which MMDetection cannot merge so.

    """
    if has_oriented_boxes(cfg):
        raise InputError(f"--tta: {cfg.filename} is of oriented boxes, which cannot be tested flipped; leave --tta out")
    for dataset in annotation_sets(cfg.test_dataloader.dataset):
        dataset.pipeline = cfg.get("tta_pipeline") or [*deepcopy(dataset.pipeline)[:-1], FLIPPED]
    cfg.model = ConfigDict(**(cfg.get("tta_model") or MERGED), module=cfg.model)


def draw(cfg: Config, folder: Path) -> None:
    """Draw the images of a test, with what is annotated and what was found."""
    hooks = cfg.get("default_hooks") or {}
    about = {"draw": True, "test_out_dir": str(folder.absolute()), "reading": reading_of(cfg.test_dataloader)}
    hooks["visualization"] = {"type": "SarVisualizationHook", **about}
    cfg.default_hooks = hooks


class KeptBoxes(DumpDetResults):
    """Keeps all boxes of a test until its figures are written, and writes them to a file then."""

    found: list[Any]

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Keep what was found; runs in the first process alone."""
        self.found = results
        return {}

    def write(self, after: Path) -> None:
        """Write it.

        Args:
            after: the file of the figures, which is there already.

        Raises:
            InputError: if it cannot be written, as on a full disk.

        """
        try:
            with open_whole(self.out_file_path) as file:
                pickle.dump(self.found, file)
        except OSError as error:
            raise InputError(
                f"--out {self.out_file_path} cannot be written: {first_line(error)}; the figures are in {after}"
            ) from error


def show_mistakes(runner: Runner, boxes: KeptBoxes, folder: Path, after: Path) -> None:
    """Write what was wrong to a folder.

    Args:
        runner: that has tested.
        boxes: all that it has found.
        folder: is there.
        after: the file of the figures, which is there already.

    Raises:
        InputError: if the folder cannot be written to, or the config has no metric of boxes by name.

    """
    metrics = [each for each in runner.test_evaluator.metrics if isinstance(each, CocoMetricByName)]
    if not metrics:
        raise InputError(f"--mistakes: {runner.cfg.filename} has no test_evaluator of type CocoMetricByName")
    try:
        write_mistakes(folder, metrics[0], boxes.found, reading_of(runner.cfg.test_dataloader))
    except OSError as error:
        raise InputError(
            f"--mistakes {folder} cannot be written: {first_line(error)}; the figures are in {after}"
        ) from error


@HOOKS.register_module()
class SarVisualizationHook(DetVisualizationHook):
    """MMDetection's hook, for images of any format that the project reads.

    From the first picture that cannot be written on, none is tried: `failure` is why, for the end of the test.

    Args:
        reading: `remap` and `channel` of the images.
        kwargs: MMDetection's.

    """

    failure: OSError | None = None

    def __init__(self, reading: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reading = reading

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict[str, Any], outputs: Any) -> None:
        """Write a picture per image."""
        for sample in outputs if self.failure is None else ():
            self._test_index += 1
            name = f"{Path(sample.img_path).stem}_{sample.img_id}.jpg".replace("/", "_")  # stems can be alike
            image = three_channels(sar_image.read(sample.img_path, **self.reading))
            try:
                with rc_context({"text.parse_math": False}):  # a class may have a $ in its name
                    self._visualizer.add_datasample(
                        name,
                        image,
                        data_sample=sample,
                        show=False,
                        pred_score_thr=self.score_thr,
                        out_file=str(Path(self.test_out_dir, name)),
                        step=self._test_index,
                    )
            except OSError as error:
                self.failure = error
                return


def refuse_missing_pictures(runner: Runner) -> None:
    """See that all pictures of a test were written; its figures are by now.

    Raises:
        InputError: if one was not.

    """
    for hook in runner.hooks:
        if isinstance(hook, SarVisualizationHook) and hook.failure is not None:
            raise InputError(
                f"--show-dir {hook.test_out_dir} cannot be written: {first_line(hook.failure)}; the figures are in "
                f"{Path(runner.work_dir, RESULTS)}"
            ) from hook.failure
