"""Finding targets in scenes, one after another, as the command huge_image_infer.py does."""

from collections import Counter
from dataclasses import asdict

from coco_annotations.reading import given
from coco_annotations.scene_options import SceneOptions, WindowOptions
from hivit_det.data_sets import classes_of
from hivit_det.loading import loading_steps, reading_of
from hivit_det.running import check_config, open_config
from hivit_det.scenes.detection_files import refuse_folders, write_all
from hivit_det.scenes.scene import open_scene
from hivit_det.scenes.windows import SceneDetector, corners
from saratrx.device import choose_device
from saratrx.errors import InputError
from saratrx.reporting import get_logger

log = get_logger(__name__)


def find(options: SceneOptions, how: WindowOptions) -> None:
    """Find targets in all scenes, and write what is found in each.

    Everything is looked at before the first scene is: the config, the scenes, and where files go.

    Raises:
        InputError: for what the options, the config, the checkpoint or a scene have wrong.

    """
    cfg = open_config(options.config)
    check_config(cfg)
    classes = classes_of(cfg.test_dataloader.dataset)
    unknown = sorted(set(options.classes or []) - set(classes))
    if unknown:
        raise InputError(f"--classes {unknown[0]}: the config has {', '.join(classes)}")
    for step in loading_steps(cfg):
        step.update(given(options))
    reading = reading_of(cfg.test_dataloader) | given(options)
    device = choose_device(options.device)
    for path in options.scenes:
        refuse_folders(options.output_dir, path)
    for path in options.scenes[1:]:  # the first one is next
        corners(open_scene(path, **reading), how.window, how.overlap, how.batch)
    detector = SceneDetector(cfg, options.checkpoint, device)
    for path in options.scenes:
        scene = open_scene(path, **reading)
        found = detector.detect(scene, **asdict(how), progress=True)
        if options.classes:
            found = found.of_classes(options.classes)
        counts = Counter(found.classes[label] for label in found.labels.tolist())
        written = write_all(options.output_dir, scene, found)
        targets = ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "no targets"
        log.info("%s: %s; wrote %s", path, targets, ", ".join(map(str, written)))
    log.info("wrote %s; next: look at %s", options.output_dir, next(path for path in written if path.suffix == ".jpg"))
