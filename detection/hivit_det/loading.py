"""Reading SAR images for MMDetection."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from mmengine.config import Config
from numpy.typing import NDArray

from saratrx import sar_image
from saratrx.errors import InputError
from saratrx.grey_scale import REMAPS

SAR = "saratrx"  # as `imdecode_backend`


def know_how_to_read(
    self: LoadImageFromFile, *args: Any, remap: str = "percentile", channel: str | int | None = None, **kwargs: Any
) -> None:
    """Take two more arguments than MMCV's `__init__`, which hold with `imdecode_backend="saratrx"`.

    Args:
        self: the transform.
        args: MMCV's.
        remap: see `saratrx.sar_image.read`.
        channel: likewise.
        kwargs: MMCV's.

    """
    init_by_mmcv(self, *args, **kwargs)
    self.remap, self.channel = remap, channel


def read_sar_image(self: LoadImageFromFile, results: dict[str, Any]) -> dict[str, Any] | None:
    """Add `img`, its shapes and its scale to what is known of an image, in the place of MMCV's `transform`.

    With `imdecode_backend="saratrx"` it reads any file that `saratrx.sar_image` reads, as three equal channels: `img`
    uint8 [H, W, 3].

    Raises:
        ImageError: for a file that cannot be read.

    """
    if self.imdecode_backend != SAR:
        return read_by_mmcv(self, results)
    image = sar_image.read(results["img_path"], remap=self.remap, channel=self.channel)
    results["img"] = three_channels(image)
    results["img_shape"] = results["ori_shape"] = image.shape
    results["scale_factor"] = (1.0, 1.0)  # for pipelines that never resize
    return results


# MMDetection's tools look for this very class
init_by_mmcv, LoadImageFromFile.__init__ = LoadImageFromFile.__init__, know_how_to_read
read_by_mmcv, LoadImageFromFile.transform = LoadImageFromFile.transform, read_sar_image


@TRANSFORMS.register_module()
class LoadSarImage(LoadImageFromFile):
    """The same under the name that it has in configs of earlier versions."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs | {"imdecode_backend": SAR})


def three_channels(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[H, W] -> [H, W, 3], three times the same."""
    return np.repeat(grey[..., None], 3, axis=2)


def loading_steps(part: Any) -> Iterator[dict[str, Any]]:
    """Give the transforms that load images as `read_sar_image` does, at any depth of a config or a part of one."""
    if isinstance(part, dict | Config):
        name = str(part.get("type")).rpartition(".")[2]
        if name == "LoadSarImage" or (name == "LoadImageFromFile" and part.get("imdecode_backend") == SAR):
            yield part
        part = list(part.values())
    for each in part if isinstance(part, list | tuple) else ():
        yield from loading_steps(each)


def set_reading(cfg: Config, reading: dict[str, Any]) -> None:
    """Make all transforms of a config read images so.

    Args:
        cfg: to be changed.
        reading: `remap` or `channel`, or both.

    Raises:
        InputError: if there is any to be set, and the config has no such transform.

    """
    steps = list(loading_steps(cfg))
    if reading and not steps:
        raise InputError(
            f"--{' --'.join(reading)}: {cfg.filename} loads no image by saratrx; write dict(type='LoadImageFromFile', "
            f"imdecode_backend='{SAR}') in its pipelines"
        )
    for step in steps:
        step.update(reading)


def reading_of(part: Any) -> dict[str, Any]:
    """Give `remap` and `channel` of the first transform that loads images in a part of a config."""
    step = next(loading_steps(part), {})
    return {"remap": step.get("remap", REMAPS[0]), "channel": step.get("channel")}


def wrong_reading(cfg: Config) -> list[str]:
    """Say which remaps and channels of a config cannot be."""
    found = [reading_of(step) for step in loading_steps(cfg)]
    remaps = {str(each["remap"]) for each in found} - set(REMAPS)
    channels = {str(each["channel"]) for each in found if type(each["channel"]) not in (str, int, type(None))}
    return [
        *(f"remap={remap} of {cfg.filename}: unknown; choose one of {', '.join(REMAPS)}" for remap in sorted(remaps)),
        *(
            f"channel={each} of {cfg.filename}: must be a name, a number from 0, span or max"
            for each in sorted(channels)
        ),
    ]
