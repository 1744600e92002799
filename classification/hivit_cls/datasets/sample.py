"""SAMPLE: from simulated to measured images (Lewis et al., SPIE 2019, 10.1117/12.2523460)."""

import random
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY, Datum
from hivit_cls.datasets.image_folders import FolderDataset, Layout
from hivit_cls.datasets.image_names import images_below, parsed
from hivit_cls.datasets.split_files import Split
from saratrx.errors import InputError

VEHICLES = {  # as the names begin, in the order of the labels
    "2s1": "2S1, self-propelled howitzer",
    "bmp2": "BMP2, infantry fighting vehicle",
    "btr70": "BTR70, armoured personnel carrier",
    "m1": "M1, main battle tank",
    "m2": "M2, infantry fighting vehicle",
    "m35": "M35, military truck",
    "m548": "M548, tracked cargo carrier",
    "m60": "M60, main battle tank",
    "t72": "T72, main battle tank",
    "zsu23": "ZSU23, self-propelled anti-aircraft gun",
}
TEST_ELEVATION = 17  # degrees; 14 to 16 are for training
NAME = re.compile(
    rf"({'|'.join(VEHICLES)})_(real|synth)_[a-z]\d*_elevdeg_(01[4-7])_azcenter_(\d{{3}})_(\w+)\.png", re.IGNORECASE
)
EXAMPLE = "2s1_real_A07_elevDeg_015_azCenter_010_22_serial_b01.png, its vehicle one of the ten, elevation 14 to 17"
REAL, SYNTH = "real", "synth"
Pose = tuple[str, str, str, str]  # vehicle, elevation, azimuth, and the rest of the name, which the two images share


@DATASET_REGISTRY.register()
class SAMPLE(FolderDataset):
    """Trained at elevations of 14 to 16 degrees, tested on measured images at 17.

    Each pair of a simulated and a measured image of one pose gives training one of them: the measured one for a share
    DATASET.MEASURED_SHARE of the pairs of each vehicle, drawn by SEED; a larger share keeps what a smaller one has
    drawn. There is no validation part.
    """

    layout = Layout("SAMPLE/png_images/qpm", (REAL, SYNTH), VEHICLES, (".png",))

    def __init__(self, cfg: CfgNode) -> None:
        self.measured_share = cfg.DATASET.MEASURED_SHARE
        super().__init__(cfg)

    def make_split(self, folder: Path, seed: int, by_groups: bool) -> Split:
        """Find the images of each part by their names, in whatever folders they lie.

        Raises:
            InputError: for a name that does not follow the scheme, an image that is there twice, or one that training
                needs and that is not there.

        """
        found: dict[str, dict[Pose, str]] = {REAL: {}, SYNTH: {}}
        for path in images_below(folder, ".png"):
            name = (part.lower() for part in parsed(path, NAME, EXAMPLE).groups())
            vehicle, kind, elevation, azimuth, rest = name
            pose = (vehicle, elevation, azimuth, rest)
            if pose in found[kind]:
                raise InputError(f"{found[kind][pose]} and {path} are one image: keep one of their folders")
            found[kind][pose] = path
        train: list[Datum] = []
        for vehicle, poses in poses_by_vehicle({**found[REAL], **found[SYNTH]}).items():
            random.Random(f"measured {seed} {vehicle}").shuffle(poses)
            measured = set(poses[: round(self.measured_share * len(poses))])
            for pose in sorted(poses):
                kind = REAL if pose in measured else SYNTH
                if pose not in found[kind]:
                    other = found[REAL if kind == SYNTH else SYNTH][pose]
                    raise InputError(f"{other}: its {kind} partner, which training needs, is not there")
                train.append(as_item(found[kind][pose], vehicle))
        tested = {pose: path for pose, path in found[REAL].items() if elevation_of(pose) == TEST_ELEVATION}
        return {"train": train, "val": [], "test": [as_item(path, pose[0]) for pose, path in sorted(tested.items())]}

    def described(self, item: Datum) -> Datum:
        """Give a test image with its azimuth and depression."""
        name = parsed(item.impath, NAME, EXAMPLE)
        return replace(item, azimuth=int(name[4]) % 360, depression=int(name[3]))


def poses_by_vehicle(found: dict[Pose, str]) -> dict[str, list[Pose]]:
    """Give the poses for training, sorted."""
    poses: defaultdict[str, list[Pose]] = defaultdict(list)
    for pose in sorted(found):
        if elevation_of(pose) != TEST_ELEVATION:
            poses[pose[0]].append(pose)
    return poses


def elevation_of(pose: Pose) -> int:
    """Give the elevation of a pose in degrees."""
    return int(pose[1])


def as_item(path: str, vehicle: str) -> Datum:
    """Make an image of its path and vehicle."""
    return Datum(path, list(VEHICLES).index(vehicle), classname=VEHICLES[vehicle])
