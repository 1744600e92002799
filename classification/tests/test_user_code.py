"""A data set and a trainer written for Dassl, with its names alone, run as they are.

All names that the specification lists are imported, used or not.
"""

import os

import torch
from small_sets import CLASSES, options, vehicles
from torch.nn import functional as F

import train
from dassl.data import DataManager, DatasetWrapper
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum, build_dataset
from dassl.data.transforms import INTERPOLATION_MODES, build_transform
from dassl.engine import TRAINER_REGISTRY, SimpleTrainer, TrainerBase, TrainerX, build_trainer
from dassl.evaluation import EVALUATOR_REGISTRY, build_evaluator
from dassl.metrics import compute_accuracy
from dassl.modeling import BACKBONE_REGISTRY, HEAD_REGISTRY
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    AverageMeter,
    MetricMeter,
    Registry,
    check_isfile,
    collect_env_info,
    count_num_param,
    listdir_nohidden,
    load_checkpoint,
    load_pretrained_weights,
    mkdir_if_missing,
    read_image,
    read_json,
    resume_from_checkpoint,
    save_checkpoint,
    set_random_seed,
    setup_logger,
    write_json,
)


@DATASET_REGISTRY.register()
class ParkedVehicles(DatasetBase):
    """Reads a folder tree, keeps its split as JSON, draws shots."""

    dataset_dir = "MSTAR_EOC1"

    def __init__(self, cfg):
        root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = os.path.join(root, self.dataset_dir)
        self.split_dir = os.path.join(root, "splits")
        mkdir_if_missing(self.split_dir)
        train = self.read_data("TRAIN")
        test = self.read_data("TEST")
        if cfg.DATASET.NUM_SHOTS >= 1:
            path = os.path.join(self.split_dir, f"shot_{cfg.DATASET.NUM_SHOTS}-seed_{cfg.SEED}.json")
            if os.path.exists(path):
                train = [Datum(impath=p, label=y, classname=c) for p, y, c in read_json(path)]
            else:
                train = self.generate_fewshot_dataset(train, num_shots=cfg.DATASET.NUM_SHOTS)
                write_json([[item.impath, item.label, item.classname] for item in train], path)
        super().__init__(train_x=train, val=test, test=test)

    def read_data(self, split):
        folder = os.path.join(self.dataset_dir, split)
        items = []
        for label, name in enumerate(listdir_nohidden(folder, sort=True)):
            for image in listdir_nohidden(os.path.join(folder, name)):
                impath = os.path.join(folder, name, image)
                items.append(Datum(impath=impath, label=label, domain=0, classname=name.lower()))
        return items


class Average(torch.nn.Module):
    """A backbone: means of an image's 8 x 8 blocks."""

    out_features = 36

    def forward(self, x):
        return F.adaptive_avg_pool2d(x, 6).flatten(1)


@BACKBONE_REGISTRY.register()
def average_blocks(**kwargs):
    return Average()


@TRAINER_REGISTRY.register()
class Centroids(TrainerX):
    """Two models with optimizers of their own, one step a batch."""

    def check_cfg(self, cfg):
        assert cfg.OPTIM.MAX_EPOCH > 0

    def build_model(self):
        cfg = self.cfg
        self.scale = torch.nn.Linear(36, 36)
        self.classifier = torch.nn.Linear(36, self.num_classes)
        self.backbone = BACKBONE_REGISTRY.get("average_blocks")()
        for name in ("scale", "classifier"):
            model = getattr(self, name).to(self.device)
            optim = build_optimizer(model, cfg.OPTIM)
            sched = build_lr_scheduler(optim, cfg.OPTIM)
            self.register_model(name, model, optim, sched)
        print(f"{count_num_param(self.classifier)} parameters in the classifier")
        self.seen = []

    def before_epoch(self):
        self.seen.append(self.epoch)

    def forward_backward(self, batch):
        images, labels = self.parse_batch_train(batch)
        assert set(batch) == {"img", "label", "domain", "impath", "index"}
        assert images.shape[1:] == (1, 48, 48)
        assert self.classifier.training
        output = self.model_inference(images)
        loss = F.cross_entropy(output, labels)
        self.model_backward_and_update(loss)
        summary = {"loss": loss.item(), "acc": compute_accuracy(output, labels)[0].item()}
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return summary

    def model_inference(self, input):  # noqa: A002
        return self.classifier(self.scale(self.backbone(input)))


@TRAINER_REGISTRY.register()
class Plain(TrainerX):
    """The model that Dassl builds by itself."""

    def forward_backward(self, batch):
        images, labels = self.parse_batch_train(batch)
        loss = F.cross_entropy(self.model(images), labels)
        self.model_backward_and_update(loss)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item()}


def run(root, output, trainer, *opts):
    flags = ["--seed", 0, "--trainer", trainer]
    common = ("DATASET.NAME", "ParkedVehicles", "OPTIM.MAX_EPOCH", 15, "OPTIM.LR", 0.05, "DATASET.NUM_SHOTS", 8)
    train.main(options(root, output, *common, *opts, flags=flags))
    return (output / "log.txt").read_text()


def accuracy(log):
    return float(log.rpartition("* accuracy: ")[2].partition("%")[0])


def test_the_data_set_and_the_trainer_run_unchanged(tmp_path):
    root = vehicles(tmp_path, train=10, test=6)
    log = run(root, tmp_path / "out", "Centroids", "DATALOADER.NUM_WORKERS", 1, "TEST.FINAL_MODEL", "best_val")
    assert f"{37 * 4} parameters in the classifier" in log
    assert "epoch [15/15] batch [1/1]" in log
    assert accuracy(log) > 90  # the place of the bright block tells the class
    for name in ("scale", "classifier"):
        assert load_checkpoint(tmp_path / "out" / name / "model.pth.tar-15")["epoch"] == 15
    shots = read_json(root / "splits/shot_8-seed_0.json")
    assert len(shots) == 32
    assert {name for _, _, name in shots} == {name.lower() for name in CLASSES}
    again = run(root, tmp_path / "again", "Centroids")  # now from the split that was written, and the last epoch
    assert again.count("=> result") == 1
    assert accuracy(again) > 90


def test_dassls_own_model(tmp_path):
    log = run(vehicles(tmp_path), tmp_path / "out", "Plain", "MODEL.BACKBONE.NAME", "average_blocks")
    assert "# params: 148" in log
    assert accuracy(log) > 90
    log = run(vehicles(tmp_path), tmp_path / "hivit", "Plain", "OPTIM.MAX_EPOCH", 1)
    assert "hivit_micro begins with random weights: there are none to download" in log
