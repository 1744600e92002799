"""Labels go by name, and the held-out part of a training set is honest."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from PIL import Image

from coco_annotations.coco_json import read_coco
from coco_annotations.hold_out import scene_of, split_by_scene
from hivit_det.classes import CocoByName, CocoMetricByName
from hivit_det.validation import hold_out
from saratrx.errors import InputError


def annotations(names=("a.png",), categories=((7, "ship"), (3, "tank"))):
    """One 10 x 10 box of each category in each image."""
    boxes = [
        {
            "id": 1 + 10 * i + k,
            "image_id": i,
            "category_id": number,
            "bbox": [20 * k, 0, 10, 10],
            "area": 100,
            "iscrowd": 0,
        }
        for i in range(len(names))
        for k, (number, _) in enumerate(categories)
    ]
    images = [{"id": i, "file_name": name, "width": 64, "height": 64} for i, name in enumerate(names)]
    return {
        "images": images,
        "annotations": boxes,
        "categories": [{"id": number, "name": name} for number, name in categories],
    }


@pytest.mark.parametrize(
    "categories", [((7, "ship"), (3, "tank")), ((3, "tank"), (7, "ship")), ((1, "tank"), (2, "ship"))]
)
@pytest.mark.parametrize("classes", [("ship", "tank"), ("tank", "ship")])
def test_labels_follow_the_config_whatever_the_file_lists_first(tmp_path, categories, classes):
    path = tmp_path / "boxes.json"
    content = annotations(categories=categories)
    path.write_text(json.dumps(content))
    dataset = CocoByName(ann_file=str(path), data_prefix={"img": ""}, metainfo={"classes": classes}, pipeline=[])
    names = dict(categories)
    left = {box["bbox"][0]: names[box["category_id"]] for box in content["annotations"]}
    for instance in dataset.get_data_info(0)["instances"]:
        assert classes[instance["bbox_label"]] == left[instance["bbox"][0]]

    metric = CocoMetricByName(ann_file=str(path), metric="bbox", classwise=True)
    metric.dataset_meta = dataset.metainfo
    ship = next(x for x, name in left.items() if name == "ship")
    found = InstanceData(
        bboxes=torch.tensor([[ship, 0.0, ship + 10, 10]]),
        scores=torch.tensor([0.9]),
        labels=torch.tensor([classes.index("ship")]),
    )
    metric.process({}, [{"img_id": 0, "pred_instances": found, "ori_shape": (64, 64)}])
    scores = metric.evaluate(1)
    assert scores["coco/ship_precision"] == 1
    assert scores["coco/tank_precision"] == 0
    assert metric.per_class["ship"] == pytest.approx({"mAP": 1, "mAP_50": 1})
    assert metric.per_class["tank"] == {"mAP": 0, "mAP_50": 0}
    assert [metric.figures[name] for name in ("mAP", "mAP_50", "mAP_75", "mAP_s")] == pytest.approx([0.5] * 4)
    assert (metric.figures["mAP_m"], metric.figures["mAP_l"]) == (None, None)


def test_scenes_are_told_by_names():
    names = {
        "P0001_1200_2000_3600_4400.jpg": "P0001",
        "sub/GF3-12_0_512.png": "sub/GF3",
        "000012_3.png": "000012",
        "000012.png": "000012",
        "scene_7.png": "scene_7",
        "0001_urban.png": "0001_urban",
    }
    assert {name: scene_of(name) for name in names} == names


def test_whole_scenes_are_held_out_by_name_alone():
    names = [f"P{scene:02}_{tile}_{512 * tile}.png" for scene in range(20) for tile in range(1 + scene % 4)]
    train, val = split_by_scene(annotations(names), 0.2)
    sides = [{image["file_name"] for image in part["images"]} for part in (train, val)]
    assert sides[0] | sides[1] == set(names)
    assert not {scene_of(name) for name in sides[0]} & {scene_of(name) for name in sides[1]}
    assert 0.1 < len(sides[1]) / len(names) <= 0.2
    for part in (train, val):
        assert {box["image_id"] for box in part["annotations"]} == {image["id"] for image in part["images"]}
        assert part["categories"] == annotations()["categories"]
    _, again = split_by_scene(annotations(names[::-1]), 0.2)
    assert {image["file_name"] for image in again["images"]} == sides[1]
    with pytest.raises(ValueError, match="none of its 1 scenes is small enough to hold out 20% of its images"):
        split_by_scene(annotations(["P1_0_0.png", "P1_0_1.png"]), 0.2)


def test_a_run_keeps_its_validation_set(tmp_path):
    names = [f"{i}.png" for i in range(10)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.json").write_text(json.dumps(annotations(names)))
    for name in names:
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "data" / name)

    def config():
        dataset = {"data_root": f"{tmp_path}/data/", "ann_file": "train.json", "data_prefix": {"img": ""}}
        test = {"data_root": "elsewhere/", "ann_file": "test.json", "data_prefix": {"img": "images/"}}
        return Config(
            {
                "train_dataloader": {"dataset": dataset},
                "val_dataloader": {"dataset": dict(test)},
                "test_dataloader": {"dataset": dict(test)},
                "val_evaluator": {"ann_file": "test.json"},
                "work_dir": str(tmp_path / "work"),
            }
        )

    cfg = config()
    hold_out(cfg, 0.3)
    counts = []
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        dataset = CocoByName(**loader.dataset, metainfo={"classes": ("ship", "tank")}, pipeline=[])
        assert dataset.get_data_info(0)["img_path"].startswith(f"{tmp_path}/data/")
        counts.append(len(dataset))
    assert counts == [7, 3]
    assert cfg.val_evaluator.ann_file == cfg.val_dataloader.dataset.ann_file
    assert cfg.test_dataloader.dataset.ann_file == "test.json"
    hold_out(config(), 0.3)  # resumed
    with pytest.raises(InputError, match=r"train.json is of another split; give this run a --work-dir of its own"):
        hold_out(config(), 0.5)
    with pytest.raises(InputError, match=r"train.json: to hold out 100% of its images leaves nothing to train on"):
        hold_out(config(), 1.0)
    broken = config()
    broken.train_dataloader.dataset.ann_file = "absent.json"
    with pytest.raises(InputError, match=r"absent.json cannot be read: No such file or directory; set data_root"):
        hold_out(broken, 0.3)


def test_the_ids_of_boxes_do_not_matter(tmp_path):
    """For pycocotools the id 0 is no box; doubled ones and none at all are as common."""
    for ids in ([0, 1, 2, 3], [5, 5, 5, 5], [None] * 4, ["a", "b", "c", "d"]):
        content = annotations(names=("a.png", "b.png"))
        for box, number in zip(content["annotations"], ids, strict=True):
            box["id"] = number
        (tmp_path / "boxes.json").write_text(json.dumps(content))
        metric = CocoMetricByName(ann_file=str(tmp_path / "boxes.json"), metric="bbox")
        metric.dataset_meta = {"classes": ("ship", "tank")}
        for image in range(2):
            boxes = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
            found = InstanceData(bboxes=boxes, scores=torch.ones(2), labels=torch.tensor([0, 1]))
            metric.process({}, [{"img_id": image, "pred_instances": found, "ori_shape": (64, 64)}])
        assert metric.evaluate(2)["coco/bbox_mAP"] == 1


def test_a_class_without_boxes_that_is_called_as_another_does_not_count(tmp_path):
    content = annotations(categories=((7, "ship"), (3, "tank")))
    content["categories"].insert(0, {"id": 0, "name": "ship"})
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    assert [each["id"] for each in read_coco(tmp_path / "boxes.json")["categories"]] == [7, 3]
