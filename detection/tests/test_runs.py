"""What a training loses to a crash, a full disk, a second run in its folder: nothing."""

import errno
import json
import os
import re
import shutil
import signal
from pathlib import Path

import mmdet
import pytest
import torch
from detection_tools import Forked, run_here
from mmdet.evaluation import CocoMetric
from mmdet.models.dense_heads import DETRHead
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from small_detector import write_small_detector

from hivit_det.exact_boxes import keep_boxes_exact
from hivit_det.weights import classes_of, keys_of_classes, read_detector, start_from_detector
from saratrx.errors import InputError
from saratrx.files import hash_path


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A detector that validates after each of two epochs."""
    init_default_scope("mmdet")
    path = write_small_detector(tmp_path_factory.mktemp("runs"), images=2)
    text = path.read_text().replace("max_epochs=2, val_interval=2", "max_epochs=2, val_interval=1")
    path.write_text(text.replace("num_workers=1", "num_workers=0, persistent_workers=False"))
    return path


def train(config, work_dir, *options):
    return run_here("tools/train.py", config, "--init-weights", "none", "--work-dir", work_dir, *options)


def scores(monkeypatch, *values):
    """Make the next validations give these figures, or raise what is no number."""
    coming = iter(values)

    def compute(self, results):
        value = next(coming)
        if isinstance(value, BaseException):
            raise value
        return {"bbox_mAP": value}

    monkeypatch.setattr(CocoMetric, "compute_metrics", compute)


@pytest.fixture(scope="module")
def whole(config):
    """The folder of a training that nothing happened to."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        scores(monkeypatch, 0.1, 0.2)
        done = train(config, config.parent / "whole")
    assert done.returncode == 0, done.stderr
    return config.parent / "whole"


def checkpoints(work_dir):
    return {path.name for path in work_dir.glob("*.pth*")}


def same_weights(first, second):
    first, second = (read_detector(path)["model"] for path in (first, second))
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_each_checkpoint_has_its_hash(whole):
    names = {"epoch_1.pth", "epoch_2.pth", "best_coco_bbox_mAP_epoch_2.pth"}
    assert checkpoints(whole) == names | {f"{name}.sha256" for name in names}


def test_a_run_says_what_it_wrote_and_keeps_the_rest_in_its_log(config, whole, tmp_path, monkeypatch):
    scores(monkeypatch, 0.1)
    options = ["--cfg-options", "train_cfg.max_epochs=1"]
    done = train(config, tmp_path / "run", *options)
    lines = done.stdout.splitlines()
    assert f"the best epoch is chosen on {config.parent}/boxes.json, the test set" in lines
    best = tmp_path / "run/best_coco_bbox_mAP_epoch_1.pth"
    assert lines[-1].startswith(f"wrote {best}, and the log in {tmp_path}/run/")
    assert lines[-1].endswith(f"; next: python tools/test.py {config} {best}")
    assert len(lines) < 12
    (log,) = (tmp_path / "run").glob("*/*.log")
    assert "Hooks will be executed" in log.read_text()


def test_a_validation_that_was_cut_off_is_made_up_for(config, whole, tmp_path, monkeypatch):
    work_dir = tmp_path / "run"
    scores(monkeypatch, 0.1, KeyboardInterrupt())
    done = train(config, work_dir)
    assert (done.returncode, done.stderr) == (130, "interrupted: what was finished is kept\n")
    assert "best_coco_bbox_mAP_epoch_1.pth" in checkpoints(work_dir)
    scores(monkeypatch, 0.2)
    done = train(config, work_dir, "--resume")
    assert done.returncode == 0, done.stderr
    assert checkpoints(work_dir) == checkpoints(whole)
    assert same_weights(work_dir / "best_coco_bbox_mAP_epoch_2.pth", whole / "best_coco_bbox_mAP_epoch_2.pth")


@pytest.mark.parametrize("damage", ["torn", "empty", "altered", "of weights alone"])
def test_a_run_goes_on_from_its_newest_whole_checkpoint(config, whole, tmp_path, monkeypatch, damage):
    work_dir = tmp_path / "run"
    shutil.copytree(whole, work_dir)
    newest = work_dir / "epoch_2.pth"
    data = newest.read_bytes()
    if damage == "of weights alone":
        torch.save({"state_dict": read_detector(newest)["model"]}, newest)
        hash_path(newest).unlink()
    else:
        newest.write_bytes({"torn": data[: len(data) // 2], "empty": b"", "altered": data[:-9] + bytes(9)}[damage])
    (work_dir / "last_checkpoint").write_text("/somewhere/else/epoch_9.pth")
    scores(monkeypatch, 0.1, 0.2)
    done = train(config, work_dir, "--resume")
    assert done.returncode == 0, done.stderr
    assert re.search(r"epoch_2.pth.*; looking for an earlier one", done.stdout)
    assert "resumed epoch: 1" in done.stdout
    assert checkpoints(work_dir) == checkpoints(whole)
    assert same_weights(newest, whole / "epoch_2.pth")


def test_checkpoints_that_are_all_torn_are_refused_and_kept(config, whole, tmp_path):
    work_dir = tmp_path / "run"
    shutil.copytree(whole, work_dir)
    for path in work_dir.glob("epoch_*.pth"):
        path.write_bytes(b"torn")
    done = train(config, work_dir, "--resume")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last == f"error: none of the 2 checkpoints in {work_dir} can be resumed; move them to begin anew"
    assert checkpoints(work_dir) == checkpoints(whole)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_full_disk_loses_no_checkpoint(config, whole, tmp_path, monkeypatch, number):
    """Writes, in order: of epoch 1, of the best one, of epoch 1 again, which now knows the best one, of epoch 2."""
    work_dir, save, written = tmp_path / "run", torch.save, []

    def full(content, file, *args, **kwargs):
        written.append(file)
        if len(written) == number:
            file.write(b"the first bytes")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(content, file, *args, **kwargs)

    monkeypatch.setattr(torch, "save", full)
    scores(monkeypatch, 0.1, 0.2)
    done = train(config, work_dir)
    name = ["epoch_1.pth", "best_coco_bbox_mAP_epoch_1.pth", "epoch_1.pth", "epoch_2.pth"][number - 1]
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert last.startswith(f"error: {work_dir / name} cannot be written: No space left on device")
    there = ["epoch_1.pth", "best_coco_bbox_mAP_epoch_1.pth"][: min(number - 1, 2)]
    assert checkpoints(work_dir) == {*there, *(f"{each}.sha256" for each in there)}
    for each in there:
        read_detector(work_dir / each)
    assert not list(work_dir.rglob("*.tmp"))


def test_one_folder_one_run_and_an_interrupt_is_one_line(config, tmp_path):
    work_dir, output = tmp_path / "run", tmp_path / "output.txt"
    options = ["--work-dir", work_dir, "--init-weights", "none", "--cfg-options", "train_cfg.max_epochs=1000"]
    first = Forked(output, "tools/train.py", config, *options, cwd=tmp_path)
    first.wait_for((work_dir / "epoch_1.pth").exists)
    second = train(config, work_dir)
    assert second.returncode == 2
    assert f"--work-dir {work_dir} is in use by process {first.process.pid} on " in second.stderr
    os.kill(first.process.pid, signal.SIGINT)
    done = first.ended()
    assert (done.returncode, done.stdout.splitlines()[-1]) == (130, "interrupted: what was finished is kept")
    assert "Traceback" not in done.stdout
    assert not (work_dir / ".run.lock").exists()


def test_another_detector_is_a_start_for_other_classes(config, whole, tmp_path, capsys):
    changes = ["train_cfg.max_epochs=1", "optim_wrapper.optimizer.lr=0.0"]
    text = f'''
_base_ = "{config}"
names = dict(classes=("ship",))
train_dataloader = dict(dataset=dict(metainfo=names))
val_dataloader = dict(dataset=dict(metainfo=names))
test_dataloader = val_dataloader
model = dict(roi_head=dict(bbox_head=dict(num_classes=1)))
'''
    other = tmp_path / "other.py"
    other.write_text(text)
    start = whole / "epoch_2.pth"
    options = ["--init-weights", start, "--work-dir", tmp_path / "run", "--cfg-options", *changes]
    done = run_here("tools/train.py", other, *options)
    assert done.returncode == 0, done.stderr
    assert "left new, to be learnt: roi_head.bbox_head.fc_cls, roi_head.bbox_head.fc_reg" in done.stderr + done.stdout
    old, new = (read_detector(path)["model"] for path in (start, tmp_path / "run/epoch_1.pth"))
    differing = {key for key in old if old[key].shape != new[key].shape or not torch.equal(old[key], new[key])}
    assert {key.rpartition(".")[0] for key in differing} <= {
        "roi_head.bbox_head.fc_cls", "roi_head.bbox_head.fc_reg",
    }  # fmt: skip
    assert new["roi_head.bbox_head.fc_cls.weight"].shape[0] == 2


def test_layers_of_classes_are_told_by_their_shapes():
    """Also where heads call them otherwise than Faster R-CNN, and where another set has as many classes."""
    cfg = Config.fromfile(f"{Path(mmdet.__file__).parent}/.mim/configs/yolox/yolox_tiny_8xb8-300e_coco.py")
    cfg.model.bbox_head.num_classes = 2
    model = MODELS.build(cfg.model)
    layers = {key.rpartition(".")[0] for key in keys_of_classes(model, cfg.model)}
    assert layers == {f"bbox_head.multi_level_conv_cls.{level}" for level in range(3)}
    weights = {key: value + 1 for key, value in model.state_dict().items()}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    content = {"model": weights, "meta": {"dataset_meta": {"classes": ("cat", "dog")}}}
    report = start_from_detector(model, cfg.model, content, "w.pth", ["ship", "tank"])
    assert {key.rpartition(".")[0] for key in report.new} == layers
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key] if key in report.new else weights[key])


@pytest.mark.parametrize("named", ["ship", ["ship"], ("ship",)])
def test_one_class_may_be_text(named):
    assert classes_of({"meta": {"CLASSES": named}}) == ("ship",)


def test_a_failed_training_writes_no_checkpoint(config, whole, tmp_path, monkeypatch):
    work_dir = tmp_path / "run"
    shutil.copytree(whole, work_dir)
    for path in (work_dir / "epoch_2.pth", work_dir / "best_coco_bbox_mAP_epoch_2.pth"):
        path.unlink()
        hash_path(path).unlink()
    scores(monkeypatch, 0.1, 0.2)
    done = train(config, work_dir, "--resume", "--cfg-options", "optim_wrapper.clip_grad.max_norm=nan")
    assert done.returncode == 2
    said = r"error: the training has failed at epoch 2, so nothing was written: it has values that are not finite in "
    assert re.match(said, done.stderr.splitlines()[-1])
    assert (work_dir / "epoch_1.pth").exists() and not (work_dir / "epoch_2.pth").exists()


@pytest.mark.parametrize("option", ["filename_tmpl=ep{}.ckpt", "out_dir={folder}/elsewhere"])
def test_checkpoints_of_other_names_and_places_are_found_again(config, tmp_path, monkeypatch, option):
    options = ["--cfg-options", f"default_hooks.checkpoint.{option.replace('{folder}', str(tmp_path))}"]
    scores(monkeypatch, 0.1, KeyboardInterrupt())
    assert train(config, tmp_path / "run", *options).returncode == 130
    scores(monkeypatch, 0.2)
    done = train(config, tmp_path / "run", "--resume", *options)
    assert done.returncode == 0, done.stderr
    assert "resumed epoch: 2" in done.stdout
    written = re.search(r"wrote (\S+), and the log", done.stdout)[1]
    assert Path(written).is_file()


def test_a_detector_that_finds_nothing_has_figures(config, whole, tmp_path):
    nothing = ["--cfg-options", "model.test_cfg.rcnn.score_thr=2.0"]
    done = run_here("tools/test.py", config, whole / "epoch_2.pth", "--work-dir", tmp_path, *nothing)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["figures"]["coco/bbox_mAP"], results["figures"]["coco/bbox_mAP_50"]) == (0, 0)
    assert results["per_class"]["ship"] == {"mAP": 0, "mAP_50": 0}


def test_detr_is_refused_under_mixed_precision():
    model = torch.nn.Sequential(DETRHead(num_classes=2, embed_dims=8))
    with pytest.raises(InputError, match="--amp: DETRHead computes its boxes in 16 bits"):
        keep_boxes_exact(model)


def test_a_test_is_of_the_file_that_was_named(config, whole, tmp_path):
    absent = ["--cfg-options", "load_from=absent.pth", "resume=True"]
    done = run_here("tools/test.py", config, whole / "epoch_2.pth", "--work-dir", tmp_path / "t", *absent)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "t/results.json").read_text())["checkpoint"]["path"] == str(whole / "epoch_2.pth")


def test_a_test_writes_boxes_and_pictures_and_flips(config, whole, tmp_path):
    options = ["--out", tmp_path / "boxes.pkl", "--show-dir", tmp_path / "shown", "--mistakes", tmp_path / "wrong"]
    done = run_here("tools/test.py", config, whole / "epoch_2.pth", *options, "--tta", "--work-dir", tmp_path / "t")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "boxes.pkl").stat().st_size > 100
    assert {path.name for path in (tmp_path / "shown").iterdir()} == {"0_0.jpg", "1_1.jpg"}
    names = {"mistakes.csv", "precision_recall.png", "confusion.png", "false_alarms.png", "misses.png"}
    assert {path.name for path in (tmp_path / "wrong").iterdir()} == names
    written = ("t/results.json", "boxes.pkl", "wrong", "shown")
    assert f"wrote {', '.join(f'{tmp_path}/{name}' for name in written)}; next: " in done.stdout


def test_boxes_are_exact_under_mixed_precision(config):
    """Numbers above 512 are 4 apart in bfloat16; box by box, so that nothing depends on their order."""
    torch.manual_seed(0)
    cfg = Config.fromfile(config)
    model = MODELS.build(cfg.model).eval()
    with torch.no_grad():  # deltas of a trained size: their own rounding stays below a pixel
        model.rpn_head.rpn_reg.weight *= 0.1
        model.roi_head.bbox_head.fc_reg.weight *= 0.1
    image = torch.randn(1, 3, 1504, 1504)
    corners = torch.randint(0, 1450, (300, 2)).float()
    proposals = torch.cat([corners, corners + torch.randint(12, 50, (300, 2))], dim=1) + 0.3
    meta = {"img_shape": (1504, 1504), "ori_shape": (1504, 1504), "scale_factor": (1.0, 1.0)}

    @torch.inference_mode()
    def boxes(amp):
        """Of all priors of a level, and of both classes at given proposals."""
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            maps = model.extract_feat(image)
            scores, deltas = (levels[1][0] for levels in model.rpn_head(maps))
            priors = model.rpn_head.prior_generator.grid_priors([each.shape[-2:] for each in maps], scores.dtype, "cpu")
            found = model.rpn_head.bbox_coder.decode(priors[1], deltas.permute(1, 2, 0).reshape(-1, 4))
            at = [InstanceData(bboxes=proposals.to(found.dtype))]
            (targets,) = model.roi_head.predict_bbox(maps, [meta], at, None, rescale=False)
        return found, targets.bboxes

    plain = boxes(amp=False)
    coarse = boxes(amp=True)
    keep_boxes_exact(model)
    exact = boxes(amp=True)
    for before, after, right in zip(coarse, exact, plain, strict=True):
        assert right.max() > 1400
        assert (before.float() - right).abs().max() >= 2
        assert (after - right).abs().max() < 0.5
        assert after.dtype == torch.float32
