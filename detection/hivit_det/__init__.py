"""HiViT as a plug-in for MMDetection 3; configs name it in `custom_imports`.

custom_imports = dict(imports=["hivit_det"])
"""

from hivit_det import operators

operators.stand_in_for_missing()  # before anything imports mmdet's models

from hivit_det.backbone import HiViTBackbone as HiViTBackbone  # noqa: E402
from hivit_det.layer_decay import HiViTLayerDecayOptimizerConstructor as HiViTLayerDecayOptimizerConstructor  # noqa: E402
from hivit_det.loading import LoadSarImage as LoadSarImage  # noqa: E402
from hivit_det.reproducible import SeedEachEpoch as SeedEachEpoch  # noqa: E402
