"""A detector and a data set that take seconds to train and test."""

import json

import numpy as np
from detection_tools import STAGE
from PIL import Image

PIPELINE = """[
    dict(type="LoadSarImage"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]"""


def write_small_detector(root, images=8):
    """Write images with a bright square each, `boxes.json` and `small.py` to a folder; give the config's path."""
    rng = np.random.default_rng(0)
    content = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "ship"}, {"id": 3, "name": "vehicle"}]}
    for number in range(images):
        image = rng.gamma(1.0, 20.0, (64, 64)).clip(0, 255)
        x, y = rng.integers(4, 40, 2).tolist()
        image[y : y + 14, x : x + 18] = 250
        Image.fromarray(image.astype(np.uint8)).save(root / f"{number}.png")
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
        box = {"id": number, "image_id": number, "category_id": 7, "bbox": [x, y, 18, 14], "area": 252, "iscrowd": 0}
        content["annotations"].append(box)
    (root / "boxes.json").write_text(json.dumps(content))
    config = root / "small.py"
    config.write_text(
        f'''
_base_ = "{STAGE / "configs/_hivit_/hivit_tiny_simulated.py"}"
data = dict(data_root="{root}/", ann_file="boxes.json", data_prefix=dict(img=""))
model = dict(
    backbone=dict(img_size=64, embed_dim=32, depths=[1, 1, 2], num_heads=2, out_indices=["H", "M", 1, 1],
                  global_indices=[1], init_cfg=dict(checkpoint="{root / "weights.pth"}")),
    neck=dict(in_channels=[8, 16, 32, 32], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=16), bbox_head=dict(in_channels=16, fc_out_channels=32)),
)
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(pipeline={PIPELINE}, **data))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=data)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file="{root}/boxes.json")
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=2, val_interval=2)
optim_wrapper = dict(paramwise_cfg=dict(num_layers=2))
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(max_keep_ckpts=2))
'''
    )
    return config
