"""Find targets in scenes of any size.

    python huge_image_infer.py CONFIG CHECKPOINT scene.tif --output_dir found
    python huge_image_infer.py configs/_hivit_/hivit_base_SARDet.py epoch_36.pth *.tif --classes ship --device cuda:1

For each scene it writes COCO JSON, CSV, a picture and, where the scene has map coordinates, GeoJSON.
"""

import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

try:
    import hivit_det  # noqa: F401
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {error.name} is not installed: pip install -r requirements_detection.txt, from the top of the project"
    )
except ImportError as error:  # its text says what does not fit
    sys.exit(f"error: {error}")

from hivit_det.running import open_config
from hivit_det.scenes.detection_files import write_all
from hivit_det.scenes.scene import open_scene
from hivit_det.scenes.windows import SceneDetector, WindowOptions
from saratrx.command_line import option, parse
from saratrx.device import choose_device
from saratrx.errors import InputError, exit_on_input_error, first_line, raise_problems


@dataclass(frozen=True)
class SceneOptions:
    """What is looked at, and for what."""

    config: Path = option(positional=True, help="that the detector was trained with")
    checkpoint: Path = option(positional=True, help="of tools/train.py")
    scenes: tuple[Path, ...] = option(positional=True, help="GeoTIFF, TIFF, PNG, JPEG, BMP or .npy")
    output_dir: Path = option(Path("detections"), help="where files of what is found go")
    classes: tuple[str, ...] | None = option(None, help="look for these alone", default_text="all of the config")
    device: str = option("auto", help="cuda, cuda:1, cpu, ...", default_text="a GPU if there is one")

    def __post_init__(self) -> None:
        stems = Counter(path.stem for path in self.scenes)
        raise_problems(
            [
                f"{stem}: several scenes have this name; give each an --output_dir"
                for stem, count in stems.items()
                if count > 1
            ]
        )


def main() -> None:
    """Run over all scenes as the options say."""
    options, how = parse([SceneOptions, WindowOptions], "Find targets in scenes of any size.")
    try:
        options.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # now, rather than after hours
        raise InputError(f"--output_dir {options.output_dir} cannot be made: {first_line(error)}") from error
    cfg = open_config(options.config)
    detector = SceneDetector(cfg, options.checkpoint, choose_device(options.device))
    unknown = sorted(set(options.classes or []) - set(detector.classes))
    if unknown:
        raise InputError(f"--classes {unknown[0]}: the config has {', '.join(detector.classes)}")
    for path in options.scenes:
        scene = open_scene(path)
        found = detector.detect(scene, **asdict(how), progress=True)
        if options.classes:
            found = found.of_classes(options.classes)
        counts = Counter(found.classes[label] for label in found.labels.tolist())
        written = write_all(options.output_dir, scene, found)
        targets = ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "no targets"
        print(f"{path}: {targets}; wrote {', '.join(map(str, written))}", flush=True)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
