"""ATRNet-STAR in the settings of its benchmark, ATRBench (Liu et al., IEEE TPAMI 2026, 10.1109/TPAMI.2026.3658649).

SOC-40 holds all images, in train and test together: the other settings follow from the images' names, and from the
scenes in the XML files beside them. SOC-50, for which images were drawn, is read from its published folders alone.
"""

import os
import random
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY, Datum
from hivit_cls.datasets.image_folders import FolderDataset, Layout
from hivit_cls.datasets.image_names import images_below, parsed
from hivit_cls.datasets.split_files import Split
from saratrx.errors import InputError, first_line
from saratrx.files import is_file
from saratrx.names import readable
from saratrx.reporting import get_logger

log = get_logger(__name__)

FOLDER = "ATRNet-STAR"
SOC40, SOC50 = "SOC_40classes", "SOC_50classes"
TRAIN_SHARE = 0.7  # of SOC-40
SIDE = 128  # pixels of a chip; those of MSTAR in SOC-50 are cut to it
SECTOR = 60  # degrees of azimuth that are for training in EOC-Azimuth, and that each of its sub-tests has
NAME = re.compile(r"(X|KU)_(HH|HV|VH|VV)_(15|30|45|60)_(\d\d?|[12]\d\d|3[0-5]\d|360)_\w+\.tif", re.IGNORECASE)
EXAMPLE = "KU_HH_15_0_253993.tif (band, polarisation, depression, azimuth, number)"
SCENE = re.compile(rb"<scene_name>([^<]{1,50})</scene_name>")
LONGEST_XML = 1_000_000  # bytes that are searched
SCENES = {  # as the XML may write them, letters alone: as the sub-tests are called
    "sandstone": "sandstone",
    "baresoil": "bare soil",
    "soil": "bare soil",
    "city": "urban",
    "urban": "urban",
    "factory": "factory",
    "woodland": "woodland",
}


@dataclass(frozen=True)
class Chip:
    """What the name of an image says.

    Args:
        path: of the image.
        band: X or KU.
        polarization: HH, HV, VH or VV.
        depression: 15, 30, 45 or 60 degrees.
        azimuth: of the target, from 0 to 359 degrees.

    """

    path: str
    band: str
    polarization: str
    depression: int
    azimuth: int

    @property
    def scene(self) -> str:
        """One of `SCENES`; raises InputError if the XML does not say it."""
        return scene_of(self.path)


@dataclass(frozen=True)
class Setting:
    """Which images are for training, which for testing.

    Args:
        folder: as published.
        counts: published numbers of images for training and testing, ground range.
        trains: whether an image is for training; None: at random, or as the folders say.
        takes: whether it belongs to the setting at all.
        condition: of a test image, which names its sub-test.
        parts: published folders for training and for testing.

    """

    folder: str
    counts: tuple[int, int]
    trains: Callable[[Chip], bool] | None = None
    takes: Callable[[Chip], bool] = lambda _: True
    condition: Callable[[Chip], str] = lambda _: ""
    parts: tuple[str, str] = ("train", "test")


def is_without_city(chip: Chip) -> bool:
    """Tell whether an image is of a scene that was taken in both bands."""
    return chip.scene != "urban"


SETTINGS = {
    "ATRNet_SOC40": Setting(SOC40, (68_091, 29_284)),
    "ATRNet_SOC50": Setting(SOC50, (18_071, 17_603)),
    "ATRNet_EOC_Scene": Setting(
        "EOC_scene",
        (19_584, 77_791),
        trains=lambda chip: chip.scene in ("sandstone", "bare soil"),
        condition=lambda chip: chip.scene,
    ),
    "ATRNet_EOC_Depression": Setting(
        "EOC_depression",
        (24_361, 73_014),
        trains=lambda chip: chip.depression == 15,
        condition=lambda chip: str(chip.depression),
    ),
    # of both bands, as its numbers are: train and test are all the images
    "ATRNet_EOC_Azimuth": Setting(
        "EOC_azimuth",
        (18_636, 78_739),
        trains=lambda chip: chip.azimuth < SECTOR,
        condition=lambda chip: str(chip.azimuth // SECTOR * SECTOR),
    ),
    "ATRNet_EOC_Band": Setting(
        "EOC_band", (27_711, 27_763), trains=lambda chip: chip.band == "X", takes=is_without_city
    ),
    "ATRNet_EOC_Band_inverse": Setting(
        "EOC_band",
        (27_763, 27_711),
        trains=lambda chip: chip.band == "KU",
        takes=is_without_city,
        parts=("test", "train"),
    ),
    "ATRNet_EOC_Polarization": Setting(
        "EOC_pol",
        (24_361, 73_014),
        trains=lambda chip: chip.polarization == "HH",
        condition=lambda chip: chip.polarization,
    ),
}


class AtrnetStar(FolderDataset):
    """A setting; its published folders where they are there, else what follows from the names of all images.

    Without validation part, since the published figures are of the last epoch.

    Attributes:
        setting: set by subclasses.

    """

    setting: Setting

    def make_split(self, folder: Path, seed: int, by_groups: bool) -> Split:
        """Find the images of each part; a random part is the same for every seed.

        Raises:
            InputError: for a folder without images, a name that does not follow the scheme, or a missing scene.

        """
        published = folder / self.setting.folder
        is_published = (published / "train").is_dir()
        if not is_published and self.setting.folder == SOC50:
            raise InputError(f"{published / 'train'}: no such folder; SOC-50 needs its published folders")
        train, test = published_parts(published, self.setting) if is_published else rebuilt_parts(folder, self.setting)
        names = sorted({class_of(path) for path in train + test})
        if (len(train), len(test)) != self.setting.counts:
            numbers = "{:,} training and {:,} test images"
            found, expected = numbers.format(len(train), len(test)), numbers.format(*self.setting.counts)
            log.warning("%s has %s of %d classes; published are %s", self.setting.folder, found, len(names), expected)
        label = {name: number for number, name in enumerate(names)}
        split = {
            part: [Datum(path, label[class_of(path)], classname=readable(class_of(path))) for path in paths]
            for part, paths in (("train", train), ("test", test))
        }
        return split | {"val": []}

    def described(self, item: Datum) -> Datum:
        """Give a test image with what its name says; those of MSTAR, in SOC-50, say nothing."""
        if self.setting.folder == SOC50 and not NAME.fullmatch(Path(item.impath).name):
            return item
        chip = chip_of(item.impath)
        condition = self.setting.condition(chip)
        return replace(item, condition=condition, azimuth=chip.azimuth, depression=chip.depression)


for _name, _setting in SETTINGS.items():
    _layout = Layout(FOLDER, _setting.parts, {}, (".tif",), centre_crop=SIDE if _setting.folder == SOC50 else 0)
    _facts = {"setting": _setting, "layout": _layout, "__doc__": f"{_name}; see SETTINGS."}
    DATASET_REGISTRY.register(type(_name, (AtrnetStar,), _facts))


def published_parts(folder: Path, setting: Setting) -> tuple[list[str], list[str]]:
    """List the images of a setting's own folders; its sub-tests' make up a test folder that is not there."""
    train, test = (
        [path for place in places_of(folder, part) for path in images_below(place, ".tif")] for part in setting.parts
    )
    if setting.trains:
        strange = [path for path in train if not setting.trains(chip_of(path))]
        strange += [path for path in test if setting.trains(chip_of(path))]
        if strange:
            log.warning("%s: by name, %d images belong to its other part, such as %s", folder, len(strange), strange[0])
    return train, test


def places_of(folder: Path, part: str) -> list[Path]:
    """Give the folder of a part, or those of its sub-tests, such as test_30."""
    return [folder / part] if (folder / part).is_dir() else sorted(folder.glob(f"{part}_*")) or [folder / part]


def rebuilt_parts(folder: Path, setting: Setting) -> tuple[list[str], list[str]]:
    """Divide all images, which are those of SOC-40 or lie in classes' folders, by name and scene.

    Raises:
        InputError: if an image is there twice.

    """
    folder = folder / SOC40 if (folder / SOC40).is_dir() else folder
    paths = images_below(folder, ".tif")
    seen: dict[tuple[str, str], str] = {}
    for path in paths:
        key = (class_of(path), os.path.basename(path))  # noqa: PTH119
        if key in seen:
            raise InputError(f"{seen[key]} and {path} are one image: keep one of their folders")
        seen[key] = path
    learnt = set() if setting.trains else drawn(paths)
    trains = setting.trains or (lambda chip: chip.path in learnt)
    train: list[str] = []
    test: list[str] = []
    for chip in map(chip_of, paths):
        if setting.takes(chip):
            (train if trains(chip) else test).append(chip.path)
    return train, test


def drawn(paths: list[str]) -> set[str]:
    """Draw 70 % of each class, whatever the seed of the run: all runs have the same test images."""
    classes: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(paths, key=os.path.basename):
        classes[class_of(path)].append(path)
    return {
        path
        for name, items in classes.items()
        for path in random.Random(name).sample(items, round(TRAIN_SHARE * len(items)))
    }


def class_of(path: str) -> str:
    """Give the name of the folder that an image lies in.

    Raises:
        InputError: if that is the folder of a part.

    """
    name = path.split(os.sep)[-2]  # noqa: PTH206 -- many times faster
    if name in (FOLDER, SOC40, "train") or name.startswith("test"):
        raise InputError(f"{path}: lies in no class's folder; move it into one")
    return name


def chip_of(path: str) -> Chip:
    """Read the name of an image.

    Raises:
        InputError: if it does not follow the scheme.

    """
    band, polarization, depression, azimuth = parsed(path, NAME, EXAMPLE).groups()
    return Chip(path, band.upper(), polarization.upper(), int(depression), int(azimuth) % 360)


def scene_of(path: str) -> str:
    """Read the scene of an image from the XML beside it, once while that does not change.

    Raises:
        InputError: if it is not there, or names no scene that is known.

    """
    place = f"{path[: -len('.tif')]}.xml"
    if not is_file(place):
        raise InputError(f"{place}: no such file; the scene of the image stands there")
    try:
        return _scene(place, os.stat(place).st_mtime_ns)  # noqa: PTH116
    except OSError as error:
        raise InputError(f"{place} cannot be read: {first_line(error)}; the scene of the image stands there") from error


@lru_cache(maxsize=200_000)
def _scene(place: str, _: int) -> str:
    with Path(place).open("rb") as file:
        said = SCENE.search(file.read(LONGEST_XML))
    name = said[1].decode("utf-8", "replace").strip() if said else ""
    scene = SCENES.get(re.sub("[^a-z]", "", name.lower()))
    if scene is None:
        what = f"scene_name {readable(name)!r} is none of" if said else "no scene_name; it must be one of"
        raise InputError(f"{place}: {what} {', '.join(sorted(set(SCENES.values())))}")
    return scene
