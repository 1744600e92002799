"""Finding targets in scenes, one after another, as the command huge_image_infer.py does."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path

from mmengine.config import Config

from coco_annotations.reading import given
from coco_annotations.scene_options import SceneOptions, WindowOptions
from hivit_det.data_sets import classes_of
from hivit_det.loading import loading_steps, reading_of
from hivit_det.running import check_config, open_config
from hivit_det.scenes.detection_files import KEPT, refuse_folders, target_path, write_all
from hivit_det.scenes.parquet import write_parquet
from hivit_det.scenes.resuming import Kept, Run, is_finished, of_scene, run_of
from hivit_det.scenes.scene import Scene, open_scene
from hivit_det.scenes.windows import SceneDetector, corners
from saratrx.device import choose_device
from saratrx.errors import InputError
from saratrx.reporting import get_logger

log = get_logger(__name__)


def find(options: SceneOptions, how: WindowOptions) -> None:
    """Find targets in all scenes, and write what is found in each; go on where the same command was stopped.

    Everything is looked at before the first scene is: the config, the scenes, and where files go.

    Raises:
        InputError: for what the options, the config, the checkpoint or a scene have wrong.

    """
    cfg = config_of(options)
    reading = reading_of(cfg.test_dataloader) | given(options)
    device = choose_device(options.device)
    for path in options.scenes:
        refuse_folders(options.output_dir, path)
    run = run_of(cfg, options, how, device)
    todo = [path for path in options.scenes if not was_finished(options.output_dir, path, run)]

    def opened(path: Path) -> Scene:
        scene = open_scene(path, **reading)
        corners(scene, how.window, how.overlap, how.batch)
        if scene.crs and options.wgs84:
            scene.degrees([(0, 0), (scene.width, scene.height)])
        return scene

    for path in todo[1:]:  # the first one is next
        opened(path)
    if todo:
        detector = SceneDetector(cfg, options.checkpoint, device)
    for path in todo:
        find_in(opened(path), detector, options, how, run)
    if options.parquet:
        tables = {path: target_path(options.output_dir, path, ".csv") for path in options.scenes}
        log.info("wrote %s: %d targets of all scenes", options.parquet, write_parquet(options.parquet, tables))
    picture = target_path(options.output_dir, options.scenes[-1], ".jpg")
    log.info("wrote %s; next: look at %s", options.output_dir, picture)


def config_of(options: SceneOptions) -> Config:
    """Open the config, and set how it reads images; raises InputError, also for classes that it has not."""
    cfg = open_config(options.config)
    check_config(cfg)
    classes = classes_of(cfg.test_dataloader.dataset)
    unknown = sorted(set(options.classes or []) - set(classes))
    if unknown:
        raise InputError(f"--classes {unknown[0]}: the config has {', '.join(classes)}")
    for step in loading_steps(cfg):
        step.update(given(options))
    return cfg


def was_finished(folder: Path, path: Path, run: Run) -> bool:
    """Whether all files of a scene are there already, from an earlier time with the same command."""
    targets = target_path(folder, path, ".json")
    if not is_finished(targets, of_scene(run, path)):
        return False
    log.info("%s: was finished by the same command; to look again, delete %s", path, targets)
    target_path(folder, path, KEPT).unlink(missing_ok=True)
    return True


def find_in(scene: Scene, detector: SceneDetector, options: SceneOptions, how: WindowOptions, run: Run) -> None:
    """Find targets in one scene, and write them."""
    if scene.ground is not None:
        log.info("%s: RPCs give its map coordinates, for ground at their own height, %g m", scene.path, scene.ground)
    kept = Kept(target_path(options.output_dir, scene.path, KEPT), of_scene(run, scene.path))
    if kept.windows:
        log.info("%s: goes on after %d windows, which %s has", scene.path, kept.windows, kept.path)
    found = detector.detect(scene, **asdict(how), progress=True, kept=kept)
    if options.classes:
        found = found.of_classes(options.classes)
    counts = Counter(found.classes[label] for label in found.labels.tolist())
    written = write_all(options.output_dir, scene, found, options.wgs84, kept.run)
    kept.remove()
    said = ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "no targets"
    log.info("%s: %s; wrote %s", scene.path, said, ", ".join(map(str, written)))
