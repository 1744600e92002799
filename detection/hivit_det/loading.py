"""Reading SAR images for MMDetection."""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from saratrx import sar_image


@TRANSFORMS.register_module()
class LoadSarImage(BaseTransform):
    """Any file that `saratrx.sar_image` reads, as three equal channels: `img` uint8 [H, W, 3].

    Raises:
        ImageError: for a file that cannot be read.

    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add `img`, its shapes and its scale to what is known of an image."""
        image = sar_image.read(results["img_path"])
        results["img"] = np.repeat(image[..., None], 3, axis=2)
        results["img_shape"] = results["ori_shape"] = image.shape
        results["scale_factor"] = (1.0, 1.0)  # for pipelines that never resize
        return results
