"""Training, resuming and testing with the tools, on a model and a set that take seconds."""

import importlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from PIL import Image

from hivit_det.weights import read_detector
from saratrx.checkpoint import CheckpointError, save_checkpoint
from saratrx.errors import InputError
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
    save_checkpoint(root / "weights.pth", model=HiViT(**SIZES).state_dict())
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
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(pipeline=pipeline, **data))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=data)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file="{root}/boxes.json")
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=2, val_interval=2)
optim_wrapper = dict(paramwise_cfg=dict(num_layers=2))
default_hooks = dict(logger=dict(interval=1))
'''
    )
    return root


def run(tool, *args, cwd):
    command = [str(STAGE / "tools" / tool), *map(str, args)]
    if tool.endswith(".py"):
        command = [sys.executable, *command]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PORT": port, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=cwd, env=environment)


def losses(work_dir, name="loss"):
    """(epoch, iteration) -> a loss of all logs of a run, the newest last."""
    found = {}
    for path in sorted(work_dir.glob("*/vis_data/scalars.json")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if "loss" in entry:
                found[entry["epoch"], entry["iter"]] = entry[name]
    return found


def test_training_is_resumed_with_the_same_losses_tested_and_done_in_mixed_precision(folder, tmp_path):
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
    assert len(expected) == 4
    assert found.keys() == expected.keys()
    assert found == expected
    assert "resumed epoch: 1" in resumed.stdout
    tested = run("test.py", folder / "small.py", tmp_path / "whole/epoch_2.pth", "--work-dir", tmp_path / "t", cwd="/")
    assert tested.returncode == 0, tested.stderr[-2000:]
    options = ["--work-dir", tmp_path / "amp", "--amp", "--cfg-options", "train_cfg.max_epochs=1"]
    assert run("train.py", folder / "small.py", *options, cwd=tmp_path).returncode == 0
    amp, plain = (losses(tmp_path / kind, "loss_rpn_cls")[1, 1] for kind in ("amp", "whole"))
    assert amp != plain
    assert amp == pytest.approx(plain, rel=0.01)
    scores = [re.findall(r"coco/bbox_mAP: ([\d.-]+)", text)[-1] for text in (whole.stdout, tested.stdout)]
    assert scores[0] == scores[1]


def test_two_processes_train_resume_and_test(folder, tmp_path):
    config = [folder / "small.py", 2, "--val-from-train", 0.25]
    for name, *options in (("whole",), ("cut", "--cfg-options", "train_cfg.max_epochs=1"), ("cut", "--resume")):
        done = run("dist_train.sh", *config, "--work-dir", tmp_path / name, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
    expected, found = losses(tmp_path / "whole"), losses(tmp_path / "cut")
    assert len(expected) == 2  # six training images, in batches of four: one for each process
    assert found == expected
    weights = tmp_path / "whole/epoch_2.pth"
    for options in ([1], [2]):
        done = run("dist_test.sh", folder / "small.py", weights, *options, "--work-dir", tmp_path / "t", cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        scores = re.findall(r"coco/bbox_mAP_75: ([\d.-]+)", done.stdout)
        assert len(set(scores)) == 1
    for arguments in (["dist_train.sh", folder / "small.py"], ["dist_test.sh", folder / "small.py", weights, "all"]):
        done = run(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr[:13]) == (2, "error: usage:")


class Harmful:
    """A pickle that leaves a trace when it is read without care."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def test_checkpoints_that_could_run_code_are_refused(folder, tmp_path):
    torch.save(
        {"state_dict": {"weight": torch.zeros(1)}, "meta": Harmful(tmp_path / "trace")}, tmp_path / "harmful.pth"
    )
    with pytest.raises(CheckpointError, match="which can run code, so it was not opened"):
        read_detector(tmp_path / "harmful.pth")
    done = run("train.py", folder / "small.py", "--resume", tmp_path / "harmful.pth", cwd=tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "trace").exists()
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save({"state_dict": {"weight": torch.zeros(1)}, "message_hub": {"loss": buffer}}, tmp_path / "log.pth")
    assert read_detector(tmp_path / "log.pth")["message_hub"]["loss"].mean() == 1.5


def test_bad_input_gets_one_sentence(folder, tmp_path, monkeypatch):
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"images": [], "annotations": [], "categories": [{"id": 1, "name": "tank"}]}))
    small, sync = folder / "small.py", tmp_path / "sync.py"
    sync.write_text(f"""
_base_ = "{small}"
model = dict(roi_head=dict(bbox_head=dict(norm_cfg=dict(_delete_=True, type="SyncBN"))))
""")
    option = "train_dataloader.dataset.ann_file"
    cases = {
        "absent.py: no such file; name a config": ["absent.py"],
        "none.json cannot be read: No such file": [small, "--cfg-options", f"{option}=none.json"],
        "has the classes tank, and the config vehicle": [small, "--cfg-options", f"{option}={other}"],
        "--cfg-options amp: give KEY=VALUE": [small, "--cfg-options", "amp"],
        "--cfg-options model.roi_head.bbox_head.norm_cfg.type=BN: ": [
            *(small, "--cfg-options", "model.roi_head.bbox_head.norm_cfg.type=BN")
        ],
        "small.py names no pre-trained weights: give --init-weights FILE, or none for random ones": [
            *(small, "--cfg-options", "model.backbone.init_cfg=None")
        ],
        "absent.pth: no such file": [small, "--resume", "absent.pth"],
        "boxes.json: none of its 8 scenes is small enough": [small, "--val-from-train", "0.01"],
    }
    if not torch.cuda.is_available():
        cases |= {
            "--launcher slurm needs GPUs; on a CPU use tools/dist_train.sh": [small, "--launcher", "slurm"],
            "sync.py has SyncBN, which needs GPUs; on a CPU give": [sync, "--launcher", "pytorch"],
        }
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(STAGE / "tools")
    for sentence, arguments in cases.items():
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        with pytest.raises(InputError, match=re.escape(sentence)):
            importlib.import_module("train").main()


def test_what_is_found_out_later_gets_one_sentence(folder, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    content = json.loads((folder / "boxes.json").read_text())
    content["images"] = [{**content["images"][0], "file_name": str(tmp_path / "broken.png")}]
    (tmp_path / "broken.json").write_text(json.dumps(content))
    wrong = tmp_path / "wrong.pth"
    save_checkpoint(wrong, model={"patch_embed.proj.weight": torch.zeros(2, 3, 4, 4)})
    small = folder / "small.py"
    broken = ["--cfg-options", f"train_dataloader.dataset.ann_file={tmp_path / 'broken.json'}"]
    cases = {
        "absent.pth: no such file; give the path of a checkpoint": ["train.py", small, "--init-weights", "absent.pth"],
        "wrong.pth does not fit this model": ["train.py", small, "--init-weights", wrong],
        "broken.png cannot be read as an image": ["train.py", small, *broken],
        "weights.pth does not fit this model": ["test.py", small, folder / "weights.pth"],
    }
    for sentence, arguments in cases.items():
        done = run(*arguments, cwd=tmp_path)
        last = done.stderr.splitlines()[-1]
        assert (done.returncode, last.startswith("error: ")) == (2, True), (sentence, done.stderr[-1500:])
        assert sentence in last
