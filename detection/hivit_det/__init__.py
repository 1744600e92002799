"""HiViT as a plug-in for MMDetection 3; configs name it in `custom_imports`.

custom_imports = dict(imports=["hivit_det"])
"""
# ruff: noqa: E402 -- what is imported below needs what is done above

import contextlib
import io
import warnings

from coco_annotations.installation import check_imports
from hivit_det.installation import check_packages

check_packages()
check_imports("torchvision", "cv2", "mmengine", "mmcv")

import mmcv_stand_in  # noqa: F401 -- before mmdet's models

warnings.filterwarnings("ignore", message="faster_coco_eval")  # an evaluator that is not used here
with contextlib.redirect_stdout(io.StringIO()):  # "Could not import OneDL", which nobody needs
    check_imports("mmdet.models", "mmdet.datasets", "mmdet.apis")

from hivit_det import placeholders, safe_loading

placeholders.replace_placeholders()  # in what was imported before
safe_loading.install()  # from here on nothing that MMEngine loads can run code

from hivit_det.backbone import HiViTBackbone as HiViTBackbone
from hivit_det.checkpoint_hook import WholeCheckpointHook as WholeCheckpointHook
from hivit_det.classes import CocoByName as CocoByName
from hivit_det.classes import CocoMetricByName as CocoMetricByName
from hivit_det.costs import NoteCosts as NoteCosts
from hivit_det.exact_boxes import ExactBoxesHook as ExactBoxesHook
from hivit_det.layer_decay import HiViTLayerDecayOptimizerConstructor as HiViTLayerDecayOptimizerConstructor
from hivit_det.loading import LoadSarImage as LoadSarImage
from hivit_det.mixed_precision import CpuAmpOptimWrapper as CpuAmpOptimWrapper
from hivit_det.partial_labels import PartialLabelsFCOSHead as PartialLabelsFCOSHead
from hivit_det.partial_labels import PartialLabelsGFLHead as PartialLabelsGFLHead
from hivit_det.partial_labels import PartialLabelsRoIHead as PartialLabelsRoIHead
from hivit_det.partial_labels import PartialLabelsRPNHead as PartialLabelsRPNHead
from hivit_det.reproducible import SeedEachEpoch as SeedEachEpoch
