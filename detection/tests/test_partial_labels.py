"""Merged sets whose sources annotate some of the classes alone: what is learnt from them, against plain forms."""

import json
from types import SimpleNamespace

import pytest
import torch
from detection_tools import STAGE, run_here
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from small_detector import write_small_detector
from torch import nn

from coco_annotations.sources import check_sources, check_table, source_of
from hivit_det.classes import CocoByName, CocoMetricByName
from hivit_det.partial_labels import missing_classes
from hivit_det.weights import read_detector
from saratrx.errors import InputError

CLASSES = ["ship", "tank", "car"]
SHIPS, ALL = [True, False, False], [True, True, True]


@pytest.fixture(scope="module", autouse=True)
def scope():
    init_default_scope("mmdet")


def metas(*annotated):
    return [{"img_shape": (64, 64), "pad_shape": (64, 64), "annotated": each} for each in annotated]


def test_the_source_of_an_image_is_its_field_or_what_its_name_begins_with():
    table = {"ssdd_": ["ship"], r"P\d+_": ["tank", "car"], "HRSID": ["ship"]}
    names = {"ssdd_1.png": "ssdd_", "P012_3.png": r"P\d+_"}
    assert {name: source_of({"file_name": name}, table) for name in names} == names
    assert source_of({"file_name": "ssdd_1.png", "source": "HRSID"}, table) == "HRSID"
    for image, said in (
        ({"file_name": "P_1.png"}, "annotated has none for P_1.png; give each image one source"),
        ({"file_name": "ssdd_1.png", "source": "ssdd"}, "annotated has none for ssdd_1.png, whose source is ssdd"),
    ):
        with pytest.raises(InputError, match=said):
            source_of(image, table)
    with pytest.raises(InputError, match="annotated has 2 of them, ss and ssdd_ for ssdd_1"):
        source_of({"file_name": "ssdd_1.png"}, {"ss": ["ship"], "ssdd_": ["tank"]})


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, r'annotated \{\} of the data set: write annotated=\{"ssdd_": \["ship"\]\}'),
        (["ship"], r"annotated \['ship'\] of the data set: write "),
        ({"a": "ship"}, "annotated: 'a' has no list of classes"),
        ({"a": []}, "annotated: 'a' has no list of classes"),
        ({"a": ["ship", "boat"]}, "annotated: 'a' has boat, and the config ship, tank, car"),
        ({"a(": ["ship"]}, r"annotated: 'a\(' is no regular expression"),
        ({7: ["ship"]}, "annotated: '7' is no regular expression"),
    ],
)
def test_a_table_that_cannot_be_is_refused(table, said):
    with pytest.raises(InputError, match=said):
        check_table(table, CLASSES)


def test_a_box_of_a_class_that_its_source_does_not_annotate_is_refused(capsys):
    content = {
        "images": [{"id": 1, "file_name": "a_1.png"}, {"id": 2, "file_name": "b_1.png"}],
        "annotations": [{"image_id": 2, "category_id": 5}],
        "categories": [{"id": 5, "name": "ship"}],
    }
    check_sources("boxes.json", content, {"a_": ["tank", "car"], "b_": CLASSES}, CLASSES)
    assert "boxes.json: 1 images of 'a_', in which ship is not annotated" in capsys.readouterr().out
    with pytest.raises(InputError, match="has a box of ship in an image of 'b_', which does not annotate"):
        check_sources("boxes.json", content, {"a_": CLASSES, "b_": ["tank"]}, CLASSES)


def test_an_image_says_what_its_source_annotates(tmp_path):
    write_small_detector(tmp_path, images=4)
    pipeline = [{"type": "LoadSarImage"}, {"type": "LoadAnnotations", "with_bbox": True}, {"type": "PackDetInputs"}]
    common = {"ann_file": str(tmp_path / "boxes.json"), "data_prefix": {"img": str(tmp_path)}, "pipeline": pipeline}
    names = {"classes": ("vehicle", "ship")}
    dataset = CocoByName(metainfo=names, annotated={"[01]": ["ship"], "[23]": ["ship", "vehicle"]}, **common)
    found = [dataset[i]["data_samples"].metainfo["annotated"] for i in range(4)]
    assert found == [[False, True]] * 2 + [[True, True]] * 2
    assert "annotated" not in CocoByName(metainfo=names, **common)[0]["data_samples"].metainfo
    with pytest.raises(InputError, match=r"annotated has none for 1\.png"):
        CocoByName(metainfo=names, annotated={"0": ["ship"]}, **common)


def test_a_class_is_evaluated_on_the_images_that_annotate_it(tmp_path):
    """In a.png, whose tanks are not annotated, finding one is no false alarm; by hand: a precision of 1, not 1 / 2."""
    images = [{"id": k, "file_name": f"{name}.png", "width": 64, "height": 64} for k, name in enumerate("ab")]
    box = {"bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0}
    annotations = [box | {"id": 1, "image_id": 0, "category_id": 7}, box | {"id": 2, "image_id": 1, "category_id": 3}]
    categories = [{"id": 7, "name": "ship"}, {"id": 3, "name": "tank"}]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    figures = {}
    for table in (None, {"a": ["ship"], "b": ["ship", "tank"]}):
        names = {"classes": ("tank", "ship")}
        common = {"ann_file": str(path), "data_prefix": {"img": ""}, "pipeline": []}
        dataset = CocoByName(metainfo=names, annotated=table, test_mode=True, **common)
        metric = CocoMetricByName(ann_file=str(path), metric="bbox")
        metric.dataset_meta = dataset.metainfo
        for image, labels, scores in ((0, [0, 1], [0.9, 0.8]), (1, [0], [0.7])):
            found = InstanceData(
                bboxes=torch.tensor([[0.0, 0, 10, 10]] * len(labels)),
                scores=torch.tensor(scores),
                labels=torch.tensor(labels),
            )
            metric.process({}, [{"img_id": image, "pred_instances": found, "ori_shape": (64, 64)}])
        metric.evaluate(2)
        figures[table is None] = {name: each["mAP_50"] for name, each in metric.per_class.items()}
    assert figures[True] == pytest.approx({"tank": 0.5, "ship": 1})
    assert figures[False] == pytest.approx({"tank": 1, "ship": 1})


def test_an_image_that_does_not_say_it_is_refused():
    assert missing_classes(metas(SHIPS, ALL), "cpu").tolist() == [[False, True, True], [False] * 3]
    with pytest.raises(InputError, match="a head for partial labels got an image that does not say which classes"):
        missing_classes([*metas(ALL), {"img_shape": (64, 64)}], "cpu")


def sampled(positives, negatives, labels):
    """What a sampler gives for an image: proposals on boxes, which are the boxes themselves, and others."""
    return SimpleNamespace(
        priors=torch.cat([positives, negatives]),
        pos_priors=positives,
        neg_priors=negatives,
        pos_gt_bboxes=positives,
        pos_gt_labels=torch.tensor(labels),
    )


def roi_head(kind):
    torch.manual_seed(0)
    cfg = Config.fromfile(STAGE / "configs/_hivit_/hivit_nano_simulated.py").model
    cfg.roi_head.update(type=kind, train_cfg=cfg.train_cfg.rcnn, test_cfg=cfg.test_cfg.rcnn)
    cfg.roi_head.bbox_head.update(num_classes=3, fc_out_channels=16)
    head = MODELS.build(cfg.roi_head)
    nn.init.normal_(head.bbox_head.fc_cls.weight, std=1.0)
    return head


def boxes(count):
    corners = torch.rand(count, 2) * 40
    return torch.cat([corners, corners + 4 + 16 * torch.rand(count, 2)], dim=1)


def test_negatives_say_nothing_of_the_classes_that_are_not_annotated():
    """Against the formula: minus the logarithm of a share among the classes that there are, row by row."""
    head = roi_head("PartialLabelsRoIHead")
    maps = tuple(torch.randn(2, 64, 64 // s, 64 // s) for s in (4, 8, 16, 32, 64))
    samples = [sampled(boxes(2), boxes(5), [0, 0]), sampled(boxes(3), boxes(4), [1, 2, 0])]
    logits = []

    def keep(_, __, output):
        output.retain_grad()
        logits.append(output)

    head.bbox_head.fc_cls.register_forward_hook(keep)
    head.missing = missing_classes(metas(SHIPS, ALL), "cpu")
    loss = head.bbox_loss(maps, samples)["loss_bbox"]["loss_cls"]
    loss.backward()
    rows = logits[0].double()
    kept = [[0, 1, 2, 3]] * 2 + [[0, 3]] * 5 + [[0, 1, 2, 3]] * 7  # of the first image: two on boxes, five negatives
    right = [0, 0] + [3] * 5 + [1, 2, 0] + [3] * 4
    shares = [row[label].exp() / row[each].exp().sum() for row, label, each in zip(rows, right, kept, strict=True)]
    assert loss.item() == pytest.approx(-torch.stack(shares).log().mean().item(), rel=1e-5)
    gradient = logits[0].grad
    assert not gradient[2:7, 1:3].any()
    assert gradient[:2].all() and gradient[7:].all() and gradient[2:7, [0, 3]].all()


def test_where_all_is_annotated_the_second_stage_is_the_plain_one():
    maps = tuple(torch.randn(1, 64, 64 // s, 64 // s) for s in (4, 8, 16, 32, 64))
    samples, losses = [sampled(boxes(2), boxes(3), [0, 2])], []
    for kind in ("PartialLabelsRoIHead", "StandardRoIHead"):
        head = roi_head(kind)
        head.missing = missing_classes(metas(ALL), "cpu")
        losses.append(head.bbox_loss(maps, samples)["loss_bbox"])
    assert losses[0].keys() == losses[1].keys()
    assert all(torch.equal(losses[0][name], losses[1][name]) for name in ("loss_cls", "loss_bbox"))


def gradients(head, maps, targets, said):
    """Losses of a one-stage head or an RPN, and the gradients of its scores' loss, by level."""
    maps = [[level.clone().requires_grad_() for level in kind] for kind in maps]
    losses = head.loss_by_feat(*maps, targets, said, None)
    (name,) = (name for name in losses if name.endswith("loss_cls") or name == "loss_rpn_cls")
    loss = sum(losses[name]) if isinstance(losses[name], list) else losses[name]
    loss.backward()
    return loss, [level.grad for level in maps[0]]


def test_the_first_stage_learns_nothing_from_doubtful_negatives():
    """Of the image without all classes, negatives with a score above one half have no gradient; all else has."""
    cfg = Config.fromfile(STAGE / "configs/_hivit_/hivit_nano_simulated.py").model
    cfg.train_cfg.rpn.sampler.num = 10**5  # all that there are
    cfg.train_cfg.rpn.allowed_border = 0
    strides = (4, 8, 16, 32, 64)
    torch.manual_seed(0)
    maps = [[torch.randn(2, n, 64 // s, 64 // s) for s in strides] for n in (3, 12)]
    targets = [InstanceData(bboxes=torch.tensor([[8.0, 8, 24, 24]]), labels=torch.tensor([0])) for _ in range(2)]
    found = []
    for kind in ("PartialLabelsRPNHead", "RPNHead"):
        head = MODELS.build(ConfigDict(cfg.rpn_head | {"type": kind, "train_cfg": cfg.train_cfg.rpn}))
        found.append(gradients(head, maps, targets, metas(SHIPS, ALL)))
    (less, masked), (loss, plain) = found
    assert less < loss
    dropped = 0
    for scores, one, other in zip(maps[0], masked, plain, strict=True):
        assert torch.equal(one[1], other[1])
        is_doubtful = (scores[0] > 0) & (other[0] > 0)  # a negative's loss falls with its score
        assert torch.equal(one[0], other[0].masked_fill(is_doubtful, 0))
        dropped += is_doubtful.sum()
    assert dropped > 100


def one_stage(kind):
    cfg = Config.fromfile(STAGE / "configs/_hivit_/hivit_base_SARDet_gfl.py").model
    if kind.endswith("GFLHead"):
        return MODELS.build(cfg.bbox_head | {"type": kind, "num_classes": 3, "train_cfg": cfg.train_cfg})
    return MODELS.build({"type": kind, "num_classes": 3, "in_channels": 8, "strides": (8, 16, 32, 64, 128)})


@pytest.mark.parametrize(("kind", "others"), [("GFLHead", [68]), ("FCOSHead", [4, 1])])
def test_columns_of_missing_classes_have_no_weight(kind, others):
    """Their gradients are 0, those of the others the plain head's, and the loss is less by their part of it."""
    torch.manual_seed(0)
    sides = [max(1, 64 // s) for s in (8, 16, 32, 64, 128)]
    maps = [[torch.randn(2, n, side, side) for side in sides] for n in (3, *others)]
    targets = [InstanceData(bboxes=torch.tensor([[8.0, 8, 40, 40]]), labels=torch.tensor([label])) for label in (0, 1)]
    maps[1] = [level.abs() for level in maps[1]]
    plain, partial = (
        gradients(one_stage(name), maps, targets, metas(SHIPS, ALL)) for name in (kind, f"PartialLabels{kind}")
    )
    for one, other in zip(partial[1], plain[1], strict=True):
        assert not one[0, 1:].any() and other[0, 1:].any()
        torch.testing.assert_close(one[0, 0], other[0, 0])
        torch.testing.assert_close(one[1], other[1])
    logits = torch.cat([level[0, 1:].flatten() for level in maps[0]]).double()
    share = 0.75 if kind == "FCOSHead" else 1.0  # of negatives: 1 - alpha; both have the power 2
    left_out = share * (logits.sigmoid() ** 2 * torch.log1p(logits.exp())).sum()
    first = logits[0]  # how both heads count positives: by the gradient of the first of these logits, as it is plainly
    p = first.sigmoid()
    slope = share * (2 * p**2 * (1 - p) * torch.log1p(first.exp()) + p**3)
    positives = slope / plain[1][0][0, 1, 0, 0]
    assert (plain[0] - partial[0]).item() == pytest.approx((left_out / positives).item(), rel=1e-4)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A detector for partial labels: images 0 and 1 have no vehicles annotated."""
    path = write_small_detector(tmp_path_factory.mktemp("partial"), images=4)
    text = path.read_text().replace("num_workers=1", "num_workers=0, persistent_workers=False")
    path.write_text(text.replace("max_epochs=2, val_interval=2", "max_epochs=1, val_interval=9"))
    changed = path.parent / "partial.py"
    changed.write_text(
        f'_base_ = "{path}"\n'
        'model = dict(rpn_head=dict(type="PartialLabelsRPNHead"), roi_head=dict(type="PartialLabelsRoIHead"))\n'
        'train_dataloader = dict(dataset=dict(annotated={"[01]": ["ship"], "[23]": ["ship", "vehicle"]}))\n'
    )
    return changed


def test_a_detector_is_trained_and_tested(config, tmp_path):
    words = ["--init-weights", "none", "--work-dir", tmp_path]
    done = run_here("tools/train.py", config, *words)
    assert done.returncode == 0, done.stderr
    about = read_detector(tmp_path / "epoch_1.pth")["meta"]["dataset_meta"]
    assert about["annotated"] == {"[01]": ["ship"], "[23]": ["ship", "vehicle"]}
    assert "boxes.json: 2 images of '[01]', in which vehicle is not annotated" in done.stdout + done.stderr
    # what is learnt is the plain detector's: it is tested with the plain config
    done = run_here("tools/test.py", config.parent / "small.py", tmp_path / "epoch_1.pth", "--work-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "results.json").read_text())["classes"] == ["vehicle", "ship"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('annotated={"": ["vehicle"]}', "has a box of ship in an image of '', which does not annotate that"),
        ("annotated=None", "a head for partial labels got an image that does not say which classes it annotates"),
    ],
)
def test_what_cannot_be_learnt_from_gets_one_sentence(config, tmp_path, change, said):
    other = tmp_path / "other.py"
    text = config.read_text().replace('annotated={"[01]": ["ship"], "[23]": ["ship", "vehicle"]}', change)
    other.write_text(text)
    done = run_here("tools/train.py", other, "--init-weights", "none", "--work-dir", tmp_path / "run")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert said in last
