"""The published configs say what the publication does, and build with released MMDetection."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope

import hivit_det  # noqa: F401 -- registers what the configs name
from hivit_det.running import RunOptions, read_config
from hivit_det.testing import flip_too
from saratrx.command_line import parse
from saratrx.errors import InputError

CONFIGS = Path(__file__).parents[1] / "configs/_hivit_"
CLASSES = {
    "SARDet": ["ship", "aircraft", "car", "tank", "bridge", "harbor"],
    "OGSOD": ["bridge", "harbor", "tank"],
    "SARAircraft": ["A220", "A330", "A320/321", "Boeing737", "Boeing787", "ARJ21", "other"],
    "SSDD": ["ship"],
}
FILES = {  # training and test annotations, training and test images
    "SARDet": ("Annotations/train.json", "Annotations/test.json", "JPEGImages/", "JPEGImages/"),
    "OGSOD": ("Annotations/train.json", "Annotations/test.json", "JPEGImages/", "JPEGImages/"),
    "SARAircraft": ("annotations/train.json", "annotations/val.json", "images/", "images/"),
    "SSDD": ("annotations/train.json", "annotations/test.json", "images/train/", "images/test/"),
}


def config(name, *options, size="base"):
    words = [str(CONFIGS / f"hivit_{size}_{name}.py"), *options]
    return read_config(parse([RunOptions], "A test.", words, hyphens=True)[0])


def test_gpus_that_are_not_there_are_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="8 GPUs were asked for, and this machine has 2"):
        config("SSDD")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)  # processes on a CPU
    assert config("SSDD").launcher == "none"


def test_the_folder_of_the_data_can_be_named(tmp_path):
    cfg = config("SSDD", "--data-root", str(tmp_path))
    loaders = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    assert [loader.dataset.data_root for loader in loaders] == [f"{tmp_path}/"] * 3
    assert cfg.val_evaluator.ann_file == cfg.test_evaluator.ann_file == f"{tmp_path}/annotations/test.json"


@pytest.mark.parametrize("name", CLASSES)
def test_data_and_classes(name):
    cfg = config(name)
    train, test = cfg.train_dataloader.dataset, cfg.test_dataloader.dataset
    assert list(train.metainfo.classes) == list(test.metainfo.classes) == CLASSES[name]
    assert cfg.model.roi_head.bbox_head.num_classes == len(CLASSES[name])
    assert (train.ann_file, test.ann_file, train.data_prefix.img, test.data_prefix.img) == FILES[name]
    assert cfg.test_evaluator.ann_file == cfg.val_evaluator.ann_file == test.data_root + test.ann_file
    assert train.filter_cfg == {"filter_empty_gt": True, "min_size": 32}
    assert cfg.val_dataloader == cfg.test_dataloader


@pytest.mark.parametrize("name", CLASSES)
def test_schedule(name):
    cfg = config(name)
    aircraft = name == "SARAircraft"
    assert cfg.train_cfg.max_epochs == (72 if aircraft else 36)
    assert cfg.train_cfg.val_interval == (8 if aircraft else 1)
    assert cfg.optim_wrapper.get("accumulative_counts", 1) == (2 if aircraft else 1)
    assert cfg.optim_wrapper.optimizer == {"type": "AdamW", "lr": 5e-4, "betas": (0.9, 0.999), "weight_decay": 0.05}
    assert cfg.optim_wrapper.paramwise_cfg == {"num_layers": 20, "layer_decay_rate": 0.9}
    assert "clip_grad" not in cfg.optim_wrapper
    warmup, *steps = cfg.param_scheduler
    assert (warmup.start_factor, warmup.end, warmup.by_epoch) == (0.001, 500, False)
    assert [step.milestones for step in steps] == ([] if aircraft else [[27, 33]])
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.default_hooks.checkpoint.save_best == "coco/bbox_mAP"


def test_gfl_is_the_same_detector_with_another_head():
    cfg, faster = config("SARDet_gfl"), config("SARDet")
    init_default_scope("mmdet")
    assert cfg.model.backbone == faster.model.backbone
    assert cfg.train_dataloader == faster.train_dataloader
    cfg.model.backbone.update(
        init_cfg=None, embed_dim=64, depths=[1, 1, 2], num_heads=2, out_indices=["H", "M", 1, 1], global_indices=[1]
    )
    cfg.model.neck.in_channels = [16, 32, 64, 64]
    model = MODELS.build(cfg.model)
    batch = model.data_preprocessor(demo_mm_inputs(2, [[3, 128, 128], [3, 96, 120]], num_classes=6), training=True)
    losses = model(**batch, mode="loss")
    assert losses.keys() == {"loss_cls", "loss_bbox", "loss_dfl"}
    sum(sum(values) for values in losses.values()).backward()
    unused = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert unused == ["backbone.fpn1.weight", "backbone.fpn1.bias"]
    assert cfg.find_unused_parameters
    model.eval()
    with torch.no_grad():
        first, _ = model(**batch, mode="predict")
    assert first.pred_instances.bboxes.shape[1] == 4


@pytest.mark.parametrize("name", ["simulated", "MSTAR_DET"])
def test_light_configs_need_no_gpu(name):
    cfg = config(name, size="tiny")
    init_default_scope("mmdet")
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules())
    assert model.roi_head.bbox_head.num_classes == len(cfg.train_dataloader.dataset.metainfo.classes)
    assert model.data_preprocessor.std.flatten().tolist() == [255] * 3
    assert cfg.optim_wrapper.paramwise_cfg.num_layers == model.backbone.decay_layer("fpn1.weight") - 1
    shown = model.data_preprocessor({"inputs": [torch.full((3, 384, 384), 255, dtype=torch.uint8)]})["inputs"]
    assert shown.max() == 1


def test_the_quickstarts_detector_learns_with_all_its_parts():
    cfg = config("simulated_gfl", size="nano")
    init_default_scope("mmdet")
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    assert model.bbox_head.num_classes == len(cfg.train_dataloader.dataset.metainfo.classes)
    assert cfg.optim_wrapper.paramwise_cfg.num_layers == model.backbone.decay_layer("fpn1.weight") - 1
    batch = model.data_preprocessor(demo_mm_inputs(2, [[3, 128, 128], [3, 128, 128]], num_classes=2), training=True)
    losses = model(**batch, mode="loss")
    sum(sum(values) for values in losses.values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_model_and_pipeline():
    cfg = config("SARDet")
    init_default_scope("mmdet")
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    assert model.data_preprocessor.mean.flatten().tolist() == [0, 0, 0]
    assert model.data_preprocessor.std.flatten().tolist() == [1, 1, 1]
    head = model.roi_head.bbox_head
    assert (len(head.shared_convs), len(head.shared_fcs), head.shared_fcs[0].out_features) == (4, 1, 1024)
    assert type(head.shared_convs[0].norm).__name__ == "SyncBatchNorm"
    assert (head.reg_decoded_bbox, head.reg_class_agnostic, head.loss_bbox.loss_weight) == (True, False, 10.0)
    assert type(head.loss_bbox).__name__ == "GIoULoss"
    assert model.backbone.use_checkpoint
    assert [conv.conv.in_channels for conv in model.neck.lateral_convs] == [128, 256, 512, 512]
    assert model.test_cfg.rcnn == {"score_thr": 0.05, "nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 100}
    assert model.test_cfg.rpn.max_per_img == 1000
    flip, choice = cfg.train_pipeline[2:4]
    assert flip.prob == 0.5
    sizes = [(side, 1333) for side in (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)]
    (plain,), (first, crop, last) = choice.transforms
    assert plain.scales == last.scales == sizes
    assert first.scales == [(400, 1333), (500, 1333), (600, 1333)]
    assert (crop.crop_type, crop.crop_size, crop.allow_negative_crop) == ("absolute_range", (384, 600), True)
    assert cfg.test_pipeline[1].scale == (1333, 800)


def test_each_of_several_sets_is_tested_flipped():
    cfg = config("SSDD")
    one = cfg.test_dataloader.dataset
    cfg.test_dataloader.dataset = ConfigDict(type="ConcatDataset", datasets=[one, deepcopy(one)])
    flip_too(cfg)
    for each in cfg.test_dataloader.dataset.datasets:
        assert each.pipeline[-1]["type"] == "TestTimeAug"
        assert each.pipeline[-1]["transforms"][0][0]["prob"] == 0  # what is drawn is the image as it is
    assert cfg.model.type == "DetTTAModel"
