"""Lists of labelled images, and drawing a few of each class."""

import random
from collections import defaultdict
from dataclasses import dataclass, fields
from typing import Any

from yacs.config import CfgNode

from saratrx.errors import InputError

CROPPED = dict.fromkeys(("MSTAR_SOC", "MSTAR_EOC1", "MSTAR_EOC2C", "MSTAR_EOC2V"), 128)  # pixels, by DATASET.NAME


@dataclass(frozen=True)
class Datum:
    """One image.

    Args:
        impath: its file.
        label: 0 and up.
        domain: 0 and up; kept for data sets that have several.
        classname: what the label is called.
        condition: what the image was taken under, such as "30"; of a test image it names the sub-test.
        azimuth: of the target, in degrees from 0 to below 360; None where the data set does not say.
        depression: of the radar's view, in degrees; None likewise.

    """

    impath: str = ""
    label: int = 0
    domain: int = 0
    classname: str = ""
    condition: str = ""
    azimuth: float | None = None
    depression: float | None = None

    def __setstate__(self, state: Any) -> None:
        """Take what was pickled, here or by Dassl, which has underscores before the names.

        Raises:
            ValueError: if it is no image's; a label must never become 0 for want of one.

        """
        values = {str(name).removeprefix("_"): value for name, value in dict(state).items()}
        own = {field.name for field in fields(self)}
        if not {"impath", "label", "domain", "classname"} <= set(values) <= own or type(values["label"]) is not int:
            raise ValueError(f"a pickled Datum must hold impath, label, domain and classname, not {sorted(values)}")
        self.__dict__.update(values)


class DatasetBase:
    """The parts of a data set: lists of `Datum`, or None. Subclasses fill them from a config in their `__init__`.

    Attributes:
        dataset_dir: name of the folder, for subclasses.
        domains: names of the domains, for subclasses.
        centre_crop: side in pixels of the square that is cut from the middle of every image before any other
            transform, 0 for none: a property of the data, where the size of an image gives its class away. None, as
            in data sets written for Dassl: 128 if DATASET.NAME is one of the four of MSTAR, as in the published fork,
            else 0; see `centre_crop_of`.

    """

    dataset_dir = ""
    domains: tuple[str, ...] = ()
    centre_crop: int | None = None

    def __init__(
        self,
        train_x: list[Datum] | None = None,
        train_u: list[Datum] | None = None,
        val: list[Datum] | None = None,
        test: list[Datum] | None = None,
    ) -> None:
        if not train_x:
            raise InputError(f"data set {type(self).__name__}: no training image; check its folder and NUM_SHOTS")
        self.train_x, self.train_u, self.val, self.test = train_x, train_u, val, test
        self.num_classes = max(item.label for item in train_x) + 1
        everything = train_x + (val or []) + (test or [])
        self.lab2cname = {item.label: item.classname for item in sorted(everything, key=lambda item: item.label)}
        self.classnames = [self.lab2cname[label] for label in sorted({item.label for item in train_x})]

    def generate_fewshot_dataset(
        self, *data_sources: list[Datum], num_shots: int = -1, repeat: bool = False, seed: int | None = None
    ) -> list[Datum] | list[list[Datum]]:
        """Draw `num_shots` images of each class.

        What is drawn follows from the seed and the sorted paths alone, whatever the order of the list. With the same
        seed, what is drawn as more shots begins with what is drawn as fewer.

        Args:
            *data_sources: one list or several.
            num_shots: images of a class; all of them where there are fewer, and everything if it is below 1.
            repeat: draw an image more than once rather than fewer than `num_shots`.
            seed: of the draw (None: drawn from Python's generator, which `set_random_seed` seeds).

        Returns:
            One list for one source, else a list of lists.

        """
        if num_shots >= 1 and seed is None:
            seed = random.getrandbits(32)
        drawn = [self.draw_shots(source, num_shots, seed or 0, repeat) for source in data_sources]
        return drawn[0] if len(drawn) == 1 else drawn

    def draw_shots(self, source: list[Datum], num_shots: int, seed: int, repeat: bool = False) -> list[Datum]:
        """Draw from one list, as `generate_fewshot_dataset` does."""
        if num_shots < 1:
            return source
        drawn: list[Datum] = []
        for label, items in sorted(self.split_dataset_by_label(source).items()):
            generator = random.Random(f"shots {seed} {label}")
            candidates = shuffled(items, generator)
            if repeat and len(candidates) < num_shots:
                candidates += generator.choices(candidates, k=num_shots - len(candidates))
            drawn += candidates[:num_shots]
        return drawn

    def split_dataset_by_label(self, data_source: list[Datum]) -> dict[int, list[Datum]]:
        """Sort images by label; within one, they stay in their order."""
        groups: defaultdict[int, list[Datum]] = defaultdict(list)
        for item in data_source:
            groups[item.label].append(item)
        return groups


def centre_crop_of(cfg: CfgNode, dataset: Any = None) -> int:
    """Give the side of the centre that is cut from the images of a data set, or of that which the config names."""
    own = getattr(dataset, "centre_crop", None)
    return int(CROPPED.get(cfg.DATASET.NAME, 0) if own is None else own)


def shuffled(items: list[Datum], generator: random.Random) -> list[Datum]:
    """Bring images into an order that follows from the generator and their sorted paths."""
    items = sorted(items, key=lambda item: item.impath)
    generator.shuffle(items)
    return items
