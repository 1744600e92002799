"""HiViT as a plug-in for MMDetection 3; configs name it in `custom_imports`.

custom_imports = dict(imports=["hivit_det"])
"""
# ruff: noqa: E402 -- what is imported below needs what is done above

import warnings

from coco_annotations.installation import check_imports
from hivit_det.installation import check_packages

check_packages()
check_imports("torchvision", "cv2", "mmengine", "mmcv")

from hivit_det.operators import stand_in_for_missing

stand_in_for_missing()  # before anything imports mmdet's models
warnings.filterwarnings("ignore", message="faster_coco_eval")  # an evaluator that is not used here
check_imports("mmdet.models", "mmdet.datasets")

from hivit_det.backbone import HiViTBackbone as HiViTBackbone
from hivit_det.classes import CocoByName as CocoByName
from hivit_det.classes import CocoMetricByName as CocoMetricByName
from hivit_det.layer_decay import HiViTLayerDecayOptimizerConstructor as HiViTLayerDecayOptimizerConstructor
from hivit_det.loading import LoadSarImage as LoadSarImage
from hivit_det.mixed_precision import CpuAmpOptimWrapper as CpuAmpOptimWrapper
from hivit_det.reproducible import SeedEachEpoch as SeedEachEpoch
