"""Oriented boxes: data, metric and loss beside MMRotate's detectors; configs name it in `custom_imports`.

custom_imports = dict(imports=["hivit_det", "hivit_det.rotated"])

A box is (x, y, w, h, angle): its centre and sides in pixels, w the longer one, and the angle of this side in radians,
from the x axis towards the y axis, which points down: in [-pi / 2, pi / 2), MMRotate's `le90`.
"""

# ruff: noqa: E402 -- what is imported below needs what is looked at above

from coco_annotations.installation import check_imports, check_installed

check_installed("mmrotate")
check_imports("mmrotate.models", "mmrotate.structures", "mmrotate.visualization")

from hivit_det.rotated.angle import DoubleAngle as DoubleAngle
from hivit_det.rotated.data import RandomQuarterTurn as RandomQuarterTurn
from hivit_det.rotated.data import RotatedCocoByName as RotatedCocoByName
from hivit_det.rotated.loss import GaussianDivergenceLoss as GaussianDivergenceLoss
from hivit_det.rotated.metric import RotatedMetricByName as RotatedMetricByName
