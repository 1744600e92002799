"""Detectors of oriented boxes with the stage's commands: trained, tested, and used on a scene."""

import json

import numpy as np
import pytest
from detection_tools import MICRO, STAGE, run_here
from PIL import Image


@pytest.fixture
def config(tmp_path):
    """A small detector, and two images with an oriented box each."""
    rng = np.random.default_rng(0)
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "ship"}, {"id": 2, "name": "vehicle"}]}
    for number in range(2):
        Image.fromarray(rng.integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
        about = {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "area": 400}
        about |= {"bbox": [20, 20, 30, 30], "segmentation": [[20, 30, 30, 20, 50, 40, 40, 50]]}
        content["annotations"].append(about)
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    path = tmp_path / "small.py"
    settings = {key.removeprefix("model."): value for key, value in MICRO.items()}
    backbone = {key.removeprefix("backbone."): settings[key] for key in settings if key.startswith("backbone.")}
    path.write_text(
        f"""
_base_ = "{STAGE / "configs/_hivit_/hivit_nano_simulated_rotated.py"}"
data = dict(data_root="{tmp_path}/", ann_file="boxes.json", data_prefix=dict(img=""))
model = dict(backbone={backbone}, neck=dict(in_channels={settings["neck.in_channels"]}), test_cfg=dict(score_thr=0.0))
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=data)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=data)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file="{tmp_path}/boxes.json")
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1, val_interval=1)
optim_wrapper = dict(paramwise_cfg=dict(num_layers=2))
"""
    )
    return path


def test_from_training_to_a_scene(tmp_path, config):
    done = run_here("tools/train.py", config, "--init-weights", "none", "--work-dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    (best,) = (tmp_path / "run").glob("best_rotated_bbox_mAP_epoch_1.pth")
    shown = ("--show-dir", tmp_path / "shown", "--out", tmp_path / "boxes.pkl")
    done = run_here("tools/test.py", config, best, "--work-dir", tmp_path / "tested", *shown)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "tested/results.json").read_text())["figures"]
    wanted = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "AP50_dota2007", "AP50_dota2012")
    assert all(0 <= figures[f"rotated/{name}"] <= 1 for name in wanted)
    assert len(list((tmp_path / "shown").glob("*.jpg"))) == 2
    place = ("--output_dir", tmp_path / "found", "--score", "0", "--device", "cpu")
    done = run_here("huge_image_infer.py", config, best, tmp_path / "0.png", *place)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found/0_targets.json").read_text())["annotations"]
    assert found
    assert all(len(box["segmentation"][0]) == 8 for box in found)
