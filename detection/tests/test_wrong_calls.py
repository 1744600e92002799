"""Wrong calls of training and testing: exit 2, sentences that name what to change, and nothing written."""

import errno
import json
import shutil
import tempfile

import pytest
import torch
from detection_tools import run_and_list_imports, run_here
from mmengine.config import Config
from small_detector import write_small_detector

from saratrx.checkpoint import save_checkpoint
from saratrx.hivit import SIZES, HiViT

TRAIN, TEST = "tools/train.py", "tools/test.py"
NONE = ["--init-weights", "none"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The small detector's config, and files that are wrong in their own way."""
    root = tmp_path_factory.mktemp("wrong")
    write_small_detector(root, images=2)
    for name, text in {
        "text.py": "this is no Python",
        "list.py": "model = [1, 2]",
        "empty.py": "",
        "raises.py": "1 / 0",
        "exits.py": "raise SystemExit(3)",
        "base.py": '_base_ = "absent.py"',
        "data.py": "model = dict(type='FasterRCNN', backbone=dict())\ntest_dataloader = 3",
        "no_backbone.py": "model = dict(type='FasterRCNN')\ntest_dataloader = dict(dataset=dict())",
        "no_training.py": '_base_ = "small.py"\ntrain_dataloader = None',
        "config.yaml": "model: 1",
    }.items():
        (root / name).write_text(text)
    (root / "bytes.py").write_bytes(bytes(range(256)))
    (root / "torn.pth").write_bytes(b"PK\x03\x04torn")
    (root / "text.pth").write_text("no checkpoint")
    torch.save([torch.zeros(1)], root / "list.pth")
    torch.save({"state_dict": {"neck.a": torch.zeros(1), "backbone.b": torch.zeros(1)}}, root / "weights.pth")
    parts = {"neck.a": torch.zeros(1), "backbone.b": torch.zeros(1)}
    torch.save({"state_dict": parts | {"neck.a": torch.tensor(float("nan"))}}, root / "nan.pth")
    state = {"meta": {"epoch": -5, "iter": 1}, "optimizer": {}, "message_hub": {}}
    torch.save({"state_dict": parts} | state, root / "minus.pth")
    notes = {"log_scalars": {}, "resumed_keys": {}, "runtime_info": {"best_score": "high"}}
    state |= {"meta": {"epoch": 1, "iter": 1}, "message_hub": notes}
    torch.save({"state_dict": parts} | state, root / "scored.pth")
    torch.save({"state_dict": parts} | state | {"message_hub": {"log_scalars": {}}}, root / "no_notes.pth")
    save_checkpoint(root / "wider.pth", model=HiViT(**SIZES["micro"] | {"embed_dim": 64}, img_size=64).state_dict())
    whole = json.loads((root / "boxes.json").read_text())
    for name, changes in {
        "no_categories": {"categories": None},
        "no_boxes": {"annotations": []},
        "other_classes": {"categories": [{"id": 7, "name": "tank"}]},
        "twice": {"images": [whole["images"][0], whole["images"][0]]},
        "kinds": {"images": [whole["images"][0], whole["images"][1] | {"id": "1"}]},
        "class": {
            "categories": [{"id": 1, "name": "ship"}, {"id": 2, "name": "ship"}, {"id": 3, "name": "vehicle"}],
            "annotations": [whole["annotations"][0] | {"category_id": number} for number in (1, 2)],
        },
        "infinite": {"annotations": [whole["annotations"][0] | {"bbox": [1, 2, float("inf"), 4]}]},
        "huge_id": {"images": [whole["images"][0] | {"id": 10**30}]},
    }.items():
        (root / f"{name}.json").write_text(json.dumps(whole | changes))
    (root / "deep.json").write_text("[" * 100_000)
    (root / "boxes.pkl").write_bytes(b"")
    return root


def options(*changes):
    return ["small.py", *NONE, "--cfg-options", *changes]


DATA = "train_dataloader.dataset"
CALLS = {
    "no config": (TRAIN, [], "config"),
    "absent config": (TRAIN, ["absent.py"], "absent.py: no such file; name a config, such as"),
    "a folder": (TRAIN, ["."], ".: no such file; name a config"),
    "yaml": (TRAIN, ["config.yaml"], "config.yaml: is no config, which ends in .py"),
    "text": (TRAIN, ["text.py"], "text.py cannot be read as a config, which is Python"),
    "bytes": (TRAIN, ["bytes.py"], "bytes.py cannot be read as a config, which is Python"),
    "list": (TRAIN, ["list.py"], "list.py has no model"),
    "empty": (TRAIN, ["empty.py"], "empty.py has no model"),
    "raises": (TRAIN, ["raises.py"], "raises.py cannot be read as a config: ZeroDivisionError, division by zero"),
    "exits": (TRAIN, ["exits.py"], "exits.py cannot be read as a config: SystemExit, 3"),
    "base absent": (TRAIN, ["base.py"], "base.py cannot be read as a config: "),
    "data a number": (TRAIN, ["data.py"], "data.py has no test_dataloader"),
    "no backbone": (TRAIN, ["no_backbone.py"], "no_backbone.py: its model has no backbone"),
    "no training": (TRAIN, ["no_training.py"], "no_training.py has no train_dataloader"),
    "long name": (TRAIN, ["x" * 300], "no such file"),
    "unknown option": (TRAIN, ["small.py", "--epochs", "3"], "--epochs"),
    "option without value": (TRAIN, ["small.py", "--work-dir"], "--work-dir"),
    "seed a word": (TRAIN, ["small.py", "--seed", "one"], "--seed"),
    "seed negative": (TRAIN, ["small.py", "--seed", "-1"], "--seed -1: must not be negative"),
    "seed huge": (TRAIN, ["small.py", "--seed", 10**23], "--seed"),
    "seed nan": (TRAIN, ["small.py", "--seed", "nan"], "--seed"),
    "launcher": (TRAIN, ["small.py", "--launcher", "other"], "--launcher"),
    "launcher alone": (TRAIN, ["small.py", "--launcher", "pytorch"], "LOCAL_RANK is not set; start it with"),
    "slurm alone": (TRAIN, ["small.py", "--launcher", "slurm"], "SLURM_PROCID is not set; start it with"),
    "data root": (TRAIN, ["small.py", "--data-root", "absent"], "--data-root absent: no such folder"),
    "share 0": (TRAIN, ["small.py", "--val-from-train", "0"], "--val-from-train 0: must be above 0 and below 1"),
    "share nan": (TRAIN, ["small.py", "--val-from-train", "nan"], "--val-from-train"),
    "share inf": (TRAIN, ["small.py", "--val-from-train", "inf"], "--val-from-train"),
    "key alone": (TRAIN, options("amp"), "--cfg-options amp: give KEY=VALUE"),
    "no key": (TRAIN, options("=3"), "--cfg-options =3: give KEY=VALUE"),
    "key of a number": (TRAIN, options("train_cfg.max_epochs.more=3"), "--cfg-options train_cfg.max_epochs.more=3: "),
    "epochs -1": (TRAIN, options("train_cfg.max_epochs=-1"), "train_cfg.max_epochs -1: must be a whole number from 1"),
    "epochs abc": (TRAIN, options("train_cfg.max_epochs=abc"), "train_cfg.max_epochs abc: must be a whole number"),
    "epochs 0.5": (TRAIN, options("train_cfg.max_epochs=0.5"), "train_cfg.max_epochs 0.5: must be a whole number"),
    "batch 0": (TRAIN, options("train_dataloader.batch_size=0"), "train_dataloader.batch_size 0: must be a whole"),
    "batch huge": (TRAIN, options(f"train_dataloader.batch_size={10**20}"), "train_dataloader.batch_size 1000"),
    "workers -1": (TRAIN, options("train_dataloader.num_workers=-1"), "train_dataloader.num_workers -1: must be"),
    "rate inf": (TRAIN, options("optim_wrapper.optimizer.lr=1e999"),
            "optim_wrapper.optimizer.lr inf: must be a finite"),
    "rate negative": (TRAIN, options("optim_wrapper.optimizer.lr=-1"), "optim_wrapper.optimizer.lr -1: must be"),
    "rate a word": (TRAIN, options("optim_wrapper.optimizer.lr=fast"), "optim_wrapper.optimizer.lr fast: must be"),
    "no annotations": (TRAIN, options(f"{DATA}.ann_file=absent.json"), "absent.json cannot be read: No such file"),
    "pickled annotations": (TRAIN, options(f"{DATA}.ann_file=boxes.pkl"), "boxes.pkl: annotations are read from COCO"),
    "proposals": (TRAIN, options(f"{DATA}.proposal_file=a.pkl"), "proposal_file is not supported"),
    "no categories": (TRAIN, options(f"{DATA}.ann_file=no_categories.json"),
            "no_categories.json is no COCO annotation"),
    "twice an image": (TRAIN, options(f"{DATA}.ann_file=twice.json"), "1 stand twice by their id"),
    "ids of two kinds": (TRAIN, options(f"{DATA}.ann_file=kinds.json"), "of its images, some have a number"),
    "class twice": (TRAIN, options(f"{DATA}.ann_file=class.json"), "1 stand twice by their name"),
    "other truth": (TRAIN, options("val_evaluator.ann_file=twice.json"), "the val_evaluator reads twice.json, and the"),
    "no truth": (TRAIN, options("val_evaluator.ann_file=None"), "val_evaluator.ann_file None: must be the path"),
    "evaluator 3": (TRAIN, options("val_evaluator=3"), "its val_evaluator is no dict(type=...)"),
    "loader 3": (TRAIN, options("val_dataloader=3"), "its val_dataloader has no dataset"),
    "load_from 3": (TRAIN, options("load_from=3"), "load_from 3: must be the path of a checkpoint"),
    "metainfo 3": (TRAIN, options(f"{DATA}.metainfo=3"), "names no classes: write metainfo=dict(classes="),
    "rate True": (TRAIN, options("optim_wrapper.optimizer.lr=True"), "optim_wrapper.optimizer.lr True: must be"),
    "interval": (TRAIN, options("default_hooks.checkpoint.interval=abc"), "checkpoint.interval abc: must"),
    "template": (TRAIN, options("default_hooks.checkpoint.filename_tmpl=a.pth"), "a.pth: must have {} once"),
    "resume of epoch -5": (TRAIN, ["small.py", "--resume", "minus.pth"], "minus.pth has no training state"),
    "resume of a score in words": (TRAIN, ["small.py", "--resume", "scored.pth"],
            "scored.pth cannot be resumed: its best_score is 'high', a str; take an earlier one"),
    "resume without notes": (TRAIN, ["small.py", "--resume", "no_notes.pth"], "its message_hub has no runtime_info"),
    "weights of NaN": (TRAIN, ["small.py", "--init-weights", "nan.pth"], "nan.pth has values that are not finite"),
    "test: other truth": (TEST, ["small.py", "weights.pth", "--cfg-options", "test_evaluator.ann_file=twice.json"],
            "the test_evaluator reads twice.json, and the data set"),
    "no boxes": (TRAIN, options(f"{DATA}.ann_file=no_boxes.json"), "no_boxes.json has no box of the config's classes"),
    "other classes": (TRAIN, options(f"{DATA}.ann_file=other_classes.json"), "other_classes.json has the classes tank"),
    "infinite box": (TRAIN, options(f"{DATA}.ann_file=infinite.json"), "infinite.json: annotations[0] has no bbox"),
    "huge id": (TRAIN, options(f"{DATA}.ann_file=huge_id.json"), "huge_id.json: images[0] has no id that can be used"),
    "deep JSON": (TRAIN, options(f"{DATA}.ann_file=deep.json"), "deep.json is no JSON"),
    "no classes": (TRAIN, options(f"{DATA}.metainfo.classes=ship"), "names no classes: write metainfo=dict(classes="),
    "a class twice": (TRAIN, options(f'{DATA}.metainfo.classes=["ship","ship"]'), "have a name twice"),
    "heads": (TRAIN, options("model.roi_head.bbox_head.num_classes=5"), "bbox_head.num_classes is 5, and the data set"),
    "unknown neck": (TRAIN, options("model.neck.type=Absent"), "small.py: its model, hooks or logs cannot be used"),
    "no neck": (TRAIN, options("model.neck=None"),
            "small.py: the model cannot take a training step: RuntimeError, Given groups=1, weight of size"),
    "no scales": (TRAIN, options("model.rpn_head.anchor_generator.scales=[]"),
            "small.py: the model cannot take a training step: RuntimeError, "),
    "no rules of the RPN": (TRAIN, options("model.train_cfg.rpn=None"),
            "small.py: the model cannot take a training step: TypeError, 'NoneType' object is not subscriptable"),
    "no attention heads": (TRAIN, options("model.backbone.num_heads=0"),
            "small.py: the model cannot take a training step: ZeroDivisionError, "),
    "window 0": (TRAIN, options("model.backbone.window_size=0"), "model.backbone.window_size 0: must be a whole"),
    "window abc": (TRAIN, options("model.backbone.window_size=abc"), "model.backbone.window_size abc: must be a whole"),
    "init_cfg 3": (TRAIN, options("model.neck.init_cfg=3"), "small.py: its init_cfg of a part of the model cannot"),
    "few outputs": (TRAIN, options("model.neck.num_outs=3"), "cannot be used: AssertionError (fpn.py, line "),
    "unknown set": (TRAIN, options(f"{DATA}.type=Absent"),
            "small.py: its train_dataloader or train_cfg cannot be used"),
    "unknown optimizer": (TRAIN, options("optim_wrapper.optimizer.type=Absent"),
            "small.py: its optim_wrapper cannot be"),
    "unknown metric": (TRAIN, options("val_evaluator.type=Absent"), "small.py: its val_dataloader, val_evaluator or"),
    "no weights": (TRAIN, ["small.py", "--cfg-options", "model.backbone.init_cfg=None"],
            "names no pre-trained weights"),
    "weights absent": (TRAIN, ["small.py", "--init-weights", "absent.pth"], "absent.pth: no such file"),
    "weights twice": (TRAIN, ["small.py", "--init-weights", "weights.pth", "--cfg-options", "load_from=weights.pth"],
                      "the config has load_from=weights.pth, too"),
    "weights torn": (TRAIN, ["small.py", "--init-weights", "torn.pth"], "torn.pth"),
    "weights text": (TRAIN, ["small.py", "--init-weights", "text.pth"], "text.pth"),
    "weights a list": (TRAIN, ["small.py", "--init-weights", "list.pth"], "list.pth"),
    "weights wider": (TRAIN, ["small.py", "--init-weights", "wider.pth"], "wider.pth"),
    "weights of another": (TRAIN, ["small.py", "--init-weights", "weights.pth"], "weights.pth does not fit this model"),
    "resume and weights": (TRAIN, ["small.py", *NONE, "--resume", "weights.pth"], None),
    "resume absent": (TRAIN, ["small.py", "--resume", "absent.pth"], "absent.pth: no such file"),
    "resume of weights": (TRAIN, ["small.py", "--resume", "weights.pth"], "weights.pth has no training state"),
    "work dir a file": (TRAIN, ["small.py", *NONE, "--work-dir", "text.py/run"],
            "--work-dir text.py/run cannot be made"),
    "auto scale": (TRAIN, [*options("auto_scale_lr=None"), "--auto-scale-lr"], "does not say for which batch size"),
    "test: no checkpoint": (TEST, ["small.py"], "checkpoint"),
    "test: absent": (TEST, ["small.py", "absent.pth"], "absent.pth: no such file; give the path of a checkpoint"),
    "test: torn": (TEST, ["small.py", "torn.pth"], "torn.pth"),
    "test: another": (TEST, ["small.py", "weights.pth"], "weights.pth does not fit this model"),
    "test: swapped": (TEST, ["weights.pth", "small.py"], "weights.pth: is no config, which ends in .py"),
    "test: out": (TEST, ["small.py", "weights.pth", "--out", "boxes.json"], "--out boxes.json: must be a file"),
    "test: out there": (TEST, ["small.py", "weights.pth", "--out", "text.py/b.pkl"], "--out text.py cannot be made"),
    "test: mistakes there": (TEST, ["small.py", "weights.pth", "--mistakes", "text.py/m"],
            "--mistakes text.py/m cannot be"),
    "test: shown there": (TEST, ["small.py", "weights.pth", "--show-dir", "text.py/s"],
            "--show-dir text.py/s cannot be"),
    "test: threshold": (TEST, ["small.py", "weights.pth", "--score-thr", "1"], "--score-thr"),
    "test: batch": (TEST, ["small.py", "weights.pth", "--cfg-options", "test_dataloader.batch_size=0"],
                    "test_dataloader.batch_size 0: must be a whole number from 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_is_a_sentence(folder, tmp_path, monkeypatch, name):
    for variable in ("LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(variable, raising=False)
    tool, arguments, sentence = CALLS[name]
    arguments = list(arguments)
    if "--work-dir" not in arguments:
        arguments += ["--work-dir", tmp_path / "work"]
    done = run_here(tool, *arguments, cwd=folder)
    last = done.stderr.splitlines()[-1] if done.stderr else done.stdout
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), (done.stdout[-500:], done.stderr[-1500:])
    assert last.startswith("error: ")
    assert sentence is None or sentence in done.stderr, done.stderr
    assert not list(tmp_path.rglob("*.pth"))


def test_the_log_has_the_traceback_of_what_a_config_broke(folder, tmp_path):
    done = run_here(TRAIN, *options("model.neck=None"), "--work-dir", tmp_path, cwd=folder)
    assert done.returncode == 2
    [log] = tmp_path.glob("*/*.log")
    assert "Traceback (most recent call last)" in log.read_text()
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("tool", [TRAIN, TEST])
def test_a_full_temporary_folder_is_named(folder, tmp_path, monkeypatch, tool):
    def full(*_, **__):
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(shutil, "copyfile", full)
    monkeypatch.setattr(Config, "_substitute_predefined_vars", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done = run_here(tool, "small.py", *(["weights.pth"] if tool == TEST else NONE), cwd=folder)
    refused = f"the temporary folder {tmp_path} cannot be written to: File too large; make room there, or name another"
    assert (done.returncode, done.stderr) == (2, f"error: {refused} folder in TMPDIR\n")


def test_a_temporary_folder_that_cannot_be_made_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "absent")])
    done = run_here(TRAIN, "small.py", *NONE, "--work-dir", tmp_path / "work", cwd=folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: the temporary folder ")


def test_what_the_options_alone_tell_is_told_without_pytorch(folder):
    for tool, arguments in ((TRAIN, ["small.py", "--seed", "-1"]), (TEST, ["small.py", "absent.pth"])):
        done, imported = run_and_list_imports(tool, *arguments, cwd=folder)
        assert done.returncode == 2
        assert not imported & {"torch", "mmengine", "mmcv", "mmdet"}
