"""Runs in which something fails: one sentence, and what was measured is kept. And what a test draws and flips."""

import errno
import json
import os
import pickle
import shutil
import signal
import tempfile

import pytest
import torch
from detection_tools import run_here
from mmdet.evaluation import CocoMetric
from mmdet.models import FasterRCNN
from mmdet.registry import TRANSFORMS
from mmdet.visualization import DetLocalVisualizer
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import HOOKS
from mmengine.structures import InstanceData
from small_detector import write_small_detector
from torch.utils.data import get_worker_info

from hivit_det.checkpoint_hook import WholeCheckpointHook

NAMES = ["$vehicle", r"$\ship$"]  # neither is a formula of Matplotlib's


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The config of a detector that is trained for one epoch."""
    path = write_small_detector(tmp_path_factory.mktemp("failing"), images=2)
    text = path.read_text().replace("max_epochs=2, val_interval=2", "max_epochs=1, val_interval=2")
    path.write_text(text.replace("num_workers=1", "num_workers=0, persistent_workers=False"))
    return path


def train(config, work_dir):
    return run_here("tools/train.py", config, "--init-weights", "none", "--work-dir", work_dir)


@pytest.fixture(scope="module")
def trained(config):
    """What a training says, and its checkpoint."""
    done = train(config, config.parent / "whole")
    assert done.returncode == 0, done.stderr
    return done.stdout, config.parent / "whole/epoch_1.pth"


def last_line(done):
    """Give the sentence of a command that refused."""
    assert (done.returncode, "Traceback" in done.stdout + done.stderr) == (2, False), done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("option", "reason"),
    [("--out", "No space left on device"), ("--show-dir", "Is a directory"), ("--mistakes", "Is a directory")],
)
def test_the_figures_are_kept_where_other_outputs_fail(config, trained, tmp_path, option, reason):
    place = tmp_path / "there.pkl"
    if option == "--out":
        place.symlink_to("/dev/full")
    else:
        for name in ("0_0.jpg", "mistakes.csv"):  # where a picture goes, and a list
            (place / name).mkdir(parents=True)
    figures = tmp_path / "t/results.json"
    done = run_here("tools/test.py", config, trained[1], "--work-dir", tmp_path / "t", option, place)
    refused = f"{option} {place} cannot be written: {reason}; the figures are in {figures}"
    assert last_line(done) == f"error: {refused}"
    assert "coco/bbox_mAP" in json.loads(figures.read_text())["figures"]


def test_a_temporary_folder_that_is_full_at_the_evaluation_is_named(config, trained, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(CocoMetric, "results2json", full)
    refused = last_line(run_here("tools/test.py", config, trained[1], "--work-dir", tmp_path))
    folder = f"the temporary folder {tempfile.gettempdir()} cannot be written to: No space left on device"
    assert refused == f"error: {folder}; make room there, or name another folder in TMPDIR"


def test_a_test_that_its_config_makes_impossible_gets_a_sentence(config, trained, tmp_path):
    wrong = ["--cfg-options", "model.test_cfg.rcnn.nms=3"]
    done = run_here("tools/test.py", config, trained[1], "--work-dir", tmp_path, *wrong)
    refused = f"{config}: the model cannot take a test step: AttributeError, 'int' object has no attribute 'copy'"
    assert last_line(done).startswith(f"error: {refused}")


def test_scenes_that_a_config_makes_impossible_get_a_sentence(config, trained, tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(f"_base_ = '{config}'\nmodel = dict(test_cfg=dict(rcnn=dict(nms=3)))\n")
    start = [trained[1], config.parent / "0.png", "--output_dir", tmp_path / "found"]
    refused = last_line(run_here("huge_image_infer.py", wrong, *start))
    assert refused.startswith(f"error: {wrong}: the model cannot look at windows: AttributeError, 'int' object has no")
    refused = last_line(run_here("huge_image_infer.py", config, *start, "--device", "meta"))
    assert refused == "error: --device meta: Cannot copy out of meta tensor; no data!"


def test_an_error_of_a_later_step_is_no_fault_of_the_config(config, tmp_path, monkeypatch):
    steps = []

    def fail_later(self, *args, **kwargs):
        steps.append(self)
        if len(steps) == 2:
            raise TypeError("of the program")
        return BaseModel.train_step(self, *args, **kwargs)

    config_of_two = tmp_path / "two.py"
    config_of_two.write_text(f"_base_ = '{config}'\ntrain_dataloader = dict(batch_size=1)\n")
    monkeypatch.setattr(FasterRCNN, "train_step", fail_later)
    with pytest.raises(TypeError, match="of the program"):
        train(config_of_two, tmp_path / "run")


def test_an_order_of_classes_is_told_once(config, trained):
    told = f"another order of classes than the config's, which is taken: {config.parent}/boxes.json\n"
    assert trained[0].count("another order") == trained[0].count(told) == 1


@TRANSFORMS.register_module()
class EndTheWorker:
    """A step of reading at which the system ends the process, as where memory runs out."""

    def __call__(self, results):
        """End it, if it is a worker's."""
        if get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return results


@HOOKS.register_module()
class RemoveWorkDir(Hook):
    """Somebody removes the folder of a run."""

    def after_train_iter(self, runner, *_, **__):
        """Remove it."""
        shutil.rmtree(runner.work_dir)


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_killed_loader_process_gets_a_sentence(config, trained, tmp_path, part):
    other = tmp_path / "killed.py"
    loader = "num_workers=1, dataset=dict(pipeline=[dict(type='EndTheWorker')])"
    other.write_text(f"_base_ = '{config}'\n{part}_dataloader = dict({loader})\n")
    words = ["--init-weights", "none"] if part == "train" else [trained[1]]
    refused = last_line(run_here(f"tools/{part}.py", other, *words, "--work-dir", tmp_path / "t"))
    assert refused.startswith("error: a loader process was lost (DataLoader worker ")
    options = f"{part}_dataloader.num_workers=0 {part}_dataloader.persistent_workers=False"
    assert refused.endswith(f", or set --cfg-options {options}")


def test_a_work_dir_that_vanishes_gets_a_sentence(config, tmp_path):
    other = tmp_path / "vanishes.py"
    other.write_text(f"_base_ = '{config}'\ncustom_hooks = [dict(type='RemoveWorkDir')]\n")
    refused = last_line(train(other, tmp_path / "work"))
    assert refused.startswith(f"error: {tmp_path}/work")
    assert refused.endswith("cannot be written: No such file or directory")


def test_a_figure_that_is_not_measured_chooses_nothing(caplog):
    hook = WholeCheckpointHook(interval=1, save_best="coco/segm_mAP", rule="greater")
    with caplog.at_level("WARNING"):
        hook._save_best_checkpoint(None, {"coco/bbox_mAP": 0.5})
    assert "this validation gave no coco/segm_mAP, by which the best epoch is chosen" in caplog.text


@pytest.fixture
def exact(monkeypatch):
    """An exact detector of the small set's bright squares, as each view shows them."""

    def predict(self, batch_inputs, batch_data_samples, rescale=True):
        for image, sample in zip(batch_inputs, batch_data_samples, strict=True):
            y, x = torch.nonzero(image[0] > 0.95 * image[0].max(), as_tuple=True)
            box = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]) / torch.tensor(sample.scale_factor * 2)
            found = InstanceData(bboxes=box[None], scores=torch.tensor([0.9]), labels=torch.tensor([1]))
            sample.pred_instances = found
        return batch_data_samples

    monkeypatch.setattr(FasterRCNN, "predict", predict)


def test_what_flipped_views_show_lies_on_the_targets(config, trained, tmp_path, exact, monkeypatch):
    drawn, draw = [], DetLocalVisualizer.add_datasample

    def keep(self, name, image, data_sample, **kwargs):
        drawn.append(data_sample)
        draw(self, name, image, data_sample, **kwargs)

    monkeypatch.setattr(DetLocalVisualizer, "add_datasample", keep)
    start = ["tools/test.py", config, trained[1], "--work-dir", tmp_path]
    done = run_here(*start, "--tta", "--out", tmp_path / "boxes.pkl", "--show-dir", tmp_path / "pictures")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "results.json").read_text())["figures"]["coco/bbox_mAP"] == pytest.approx(1)
    truth = json.loads((config.parent / "boxes.json").read_text())
    boxes = {box["image_id"]: box["bbox"] for box in truth["annotations"]}
    found = pickle.loads((tmp_path / "boxes.pkl").read_bytes())
    assert {image["img_id"] for image in found} == set(boxes)
    for image in found:
        x, y, width, height = boxes[image["img_id"]]
        assert x + width / 2 != 32  # a square in the middle would lie right however it is flipped
        expected = torch.tensor([[x, y, x + width, y + height]]).float()
        assert torch.allclose(image["pred_instances"]["bboxes"], expected, atol=0.5)  # one: both views agree
    assert len(drawn) == 2
    for image in drawn:  # the truth that is drawn is of the image as it is, too
        assert torch.allclose(image.pred_instances.bboxes, image.gt_instances.bboxes, atol=0.5)


def test_a_class_with_a_dollar_in_its_name_is_drawn(config, trained, tmp_path, exact):
    content = json.loads((config.parent / "boxes.json").read_text())
    content["categories"] = [{"id": 7, "name": NAMES[1]}, {"id": 3, "name": NAMES[0]}]
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    other = tmp_path / "dollars.py"
    other.write_text(
        f"_base_ = '{config}'\n"
        f"test_dataloader = dict(dataset=dict(ann_file='{tmp_path}/boxes.json', metainfo=dict(classes={NAMES})))\n"
        f"test_evaluator = dict(ann_file='{tmp_path}/boxes.json')\n"
    )
    start = ["tools/test.py", other, trained[1], "--work-dir", tmp_path / "work"]
    done = run_here(*start, "--show-dir", tmp_path / "pictures")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"0_0.jpg", "1_1.jpg"}
