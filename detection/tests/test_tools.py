"""Training, resuming and testing with the tools, on a model and a set that take seconds."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from saratrx.checkpoint import save_checkpoint
from saratrx.hivit import HiViT

STAGE = Path(__file__).parents[1]
SIZES = {"embed_dim": 32, "depths": (1, 1, 2), "num_heads": 2, "img_size": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight images with a bright square each, their annotations, weights, and a config."""
    root = tmp_path_factory.mktemp("detection")
    rng = np.random.default_rng(0)
    content = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "ship"}, {"id": 3, "name": "vehicle"}]}
    for number in range(8):
        image = rng.gamma(1.0, 20.0, (64, 64)).clip(0, 255)
        x, y = rng.integers(4, 40, 2).tolist()
        image[y : y + 14, x : x + 18] = 250
        Image.fromarray(image.astype(np.uint8)).save(root / f"{number}.png")
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
        box = {"id": number, "image_id": number, "category_id": 7, "bbox": [x, y, 18, 14], "area": 252, "iscrowd": 0}
        content["annotations"].append(box)
    (root / "boxes.json").write_text(json.dumps(content))
    torch.manual_seed(0)
    save_checkpoint(root / "weights.pth", model=HiViT(**SIZES, rpe=False, num_classes=0).state_dict())
    (root / "small.py").write_text(
        f'''
_base_ = "{STAGE / "configs/_hivit_/hivit_tiny_simulated.py"}"
data = dict(data_root="{root}/", ann_file="boxes.json", data_prefix=dict(img=""))
pipeline = [
    dict(type="LoadSarImage"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
model = dict(
    backbone=dict(img_size=64, embed_dim=32, depths=[1, 1, 2], num_heads=2, out_indices=["H", "M", 1, 1],
                  global_indices=[1], init_cfg=dict(checkpoint="{root / "weights.pth"}")),
    neck=dict(in_channels=[8, 16, 32, 32], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=16), bbox_head=dict(in_channels=16, fc_out_channels=32)),
)
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=pipeline, **data))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=data)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file="{root}/boxes.json")
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=3, val_interval=3)
optim_wrapper = dict(paramwise_cfg=dict(num_layers=2))
default_hooks = dict(logger=dict(interval=1))
'''
    )
    return root


def run(tool, *args, cwd):
    command = [sys.executable, str(STAGE / "tools" / tool), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=cwd)


def losses(work_dir):
    """(epoch, iteration) -> loss of all logs of a run, the newest last."""
    found = {}
    for path in sorted(work_dir.glob("*/vis_data/scalars.json")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if "loss" in entry:
                found[entry["epoch"], entry["iter"]] = entry["loss"]
    return found


def test_training_stopped_and_resumed_goes_on_with_the_same_losses(folder, tmp_path):
    whole = run("train.py", folder / "small.py", "--work-dir", tmp_path / "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr[-2000:]
    assert re.search(r"loaded +absolute_pos_embed \(1\), patch_embed \(4\), blocks", whole.stdout)
    assert "new     fpn1 (2), fpn2 (2), fpn3 (2), fpn4 (2)" in whole.stdout
    assert "coco/bbox_mAP_50" in whole.stdout
    short = ["--work-dir", tmp_path / "cut", "--cfg-options", "train_cfg.max_epochs=1"]
    assert run("train.py", folder / "small.py", *short, cwd=tmp_path).returncode == 0
    resumed = run("train.py", folder / "small.py", "--work-dir", tmp_path / "cut", "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    expected, found = losses(tmp_path / "whole"), losses(tmp_path / "cut")
    assert len(expected) == 6
    assert found.keys() == expected.keys()
    assert found == expected
    assert "resumed epoch: 1" in resumed.stdout
    tested = run("test.py", folder / "small.py", tmp_path / "whole/epoch_3.pth", "--work-dir", tmp_path / "t", cwd="/")
    assert tested.returncode == 0, tested.stderr[-2000:]
    scores = [re.findall(r"coco/bbox_mAP: ([\d.-]+)", text)[-1] for text in (whole.stdout, tested.stdout)]
    assert scores[0] == scores[1]


def test_bad_input_gets_one_sentence(folder, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"images": [], "annotations": [], "categories": [{"id": 1, "name": "tank"}]}))
    (tmp_path / "broken.png").write_bytes(b"no image")
    content = json.loads((folder / "boxes.json").read_text())
    content["images"] = [{**content["images"][0], "file_name": str(tmp_path / "broken.png")}]
    (tmp_path / "broken.json").write_text(json.dumps(content))
    wrong = tmp_path / "wrong.pth"
    save_checkpoint(wrong, model={"patch_embed.proj.weight": torch.zeros(2, 3, 4, 4)})
    small = folder / "small.py"
    option = "train_dataloader.dataset.ann_file"
    cases = {
        "no config": ([tmp_path / "absent.py"], "absent.py: no such file; name a config"),
        "no annotations": ([small, "--cfg-options", f"{option}=none.json"], "none.json cannot be read: No such file"),
        "other classes": (
            [small, "--cfg-options", f"{option}={other}"],
            "has the classes tank, and the config vehicle",
        ),
        "option": ([small, "--cfg-options", "amp"], "--cfg-options amp: give KEY=VALUE"),
        "no weights": (
            [small, "--cfg-options", "train_cfg.max_epochs=1", "--init-weights", "absent.pth"],
            "absent.pth: no such file; give the path of a checkpoint",
        ),
        "other size": (
            [small, "--cfg-options", f"model.backbone.init_cfg.checkpoint={wrong}"],
            "wrong.pth does not fit this model",
        ),
        "broken image": (
            [small, "--cfg-options", f"{option}={tmp_path / 'broken.json'}", "train_dataloader.num_workers=1"],
            "broken.png cannot be read as an image",
        ),
    }
    for name, (arguments, sentence) in cases.items():
        done = run("train.py", *arguments, cwd=tmp_path)
        last = done.stderr.splitlines()[-1]
        assert (done.returncode, last.startswith("error: ")) == (2, True), (name, done.stderr[-1500:])
        assert sentence in last, name
    done = run("test.py", small, "absent.pth", cwd=tmp_path)
    assert done.returncode == 2
    assert "absent.pth: no such file; give a checkpoint of tools/train.py" in done.stderr
