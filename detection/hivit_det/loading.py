"""Reading SAR images for MMDetection."""

from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from numpy.typing import NDArray

from saratrx import sar_image

SAR = "saratrx"  # as `imdecode_backend`


def read_sar_image(self: LoadImageFromFile, results: dict[str, Any]) -> dict[str, Any] | None:
    """Add `img`, its shapes and its scale to what is known of an image, in the place of MMCV's `transform`.

    With `imdecode_backend="saratrx"` it reads any file that `saratrx.sar_image` reads, as three equal channels: `img`
    uint8 [H, W, 3].

    Raises:
        ImageError: for a file that cannot be read.

    """
    if self.imdecode_backend != SAR:
        return read_by_mmcv(self, results)
    image = sar_image.read(results["img_path"])
    results["img"] = three_channels(image)
    results["img_shape"] = results["ori_shape"] = image.shape
    results["scale_factor"] = (1.0, 1.0)  # for pipelines that never resize
    return results


# MMDetection's tools look for this very class
read_by_mmcv, LoadImageFromFile.transform = LoadImageFromFile.transform, read_sar_image


@TRANSFORMS.register_module()
class LoadSarImage(LoadImageFromFile):
    """The same under the name that it has in configs of earlier versions."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs | {"imdecode_backend": SAR})


def three_channels(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[H, W] -> [H, W, 3], three times the same."""
    return np.repeat(grey[..., None], 3, axis=2)
