"""A detector that nobody has trained, for scenes."""

import torch
from detection_tools import MICRO, STAGE
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope


def write_random_detector(folder):
    """Write the config `small.py` and a checkpoint of random weights, `small.pth`, to a folder, and give that."""
    init_default_scope("mmdet")
    cfg = Config.fromfile(STAGE / "configs/_hivit_/hivit_tiny_simulated.py")
    cfg.merge_from_dict(MICRO)
    cfg.dump(folder / "small.py")
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for parameter in model.roi_head.bbox_head.fc_cls.parameters():
        torch.nn.init.normal_(parameter)  # so that scores differ
    torch.save({"state_dict": model.state_dict(), "meta": {}}, folder / "small.pth")
    return folder
