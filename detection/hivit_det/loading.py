"""Reading SAR images for MMDetection."""

from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from numpy.typing import NDArray

from saratrx import sar_image

SAR = "saratrx"  # as `imdecode_backend`


@TRANSFORMS.register_module(name="LoadImageFromFile")
class LoadAnyImage(LoadImageFromFile):
    """MMDetection's reader under its own name, for which its tools look; with `imdecode_backend="saratrx"`, ours.

    Ours reads any file that `saratrx.sar_image` reads, as three equal channels: `img` uint8 [H, W, 3].

    Raises:
        ImageError: for a file that cannot be read.

    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Add `img`, its shapes and its scale to what is known of an image."""
        if self.imdecode_backend != SAR:
            return super().transform(results)
        image = sar_image.read(results["img_path"])
        results["img"] = three_channels(image)
        results["img_shape"] = results["ori_shape"] = image.shape
        results["scale_factor"] = (1.0, 1.0)  # for pipelines that never resize
        return results


@TRANSFORMS.register_module()
class LoadSarImage(LoadAnyImage):
    """The same under the name that it has in configs of earlier versions."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs | {"imdecode_backend": SAR})


def three_channels(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[H, W] -> [H, W, 3], three times the same."""
    return np.repeat(grey[..., None], 3, axis=2)
