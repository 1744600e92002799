"""The checks of COCO sets: a clean set passes, and each kind of problem is found as often as it is there."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from detection_tools import STAGE, run_and_list_imports, run_here
from PIL import Image

from coco_annotations import coco_check
from saratrx.errors import InputError


def make_set(root):
    """Three training and two test images of 60 x 40 px under the same names, two boxes an image, two categories."""
    rng = np.random.default_rng(0)
    for part, number in (("train", 3), ("test", 2)):
        (root / "images" / part).mkdir(parents=True)
        content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "ship"}, {"id": 2, "name": "car"}]}
        for n in range(number):
            Image.fromarray(rng.integers(0, 255, (40, 60), np.uint8)).save(root / f"images/{part}/{n}.png")
            content["images"].append({"id": n, "file_name": f"{n}.png", "width": 60, "height": 40})
            for id_, box in ((2 * n or 100, [0, 0, 60, 40]), (2 * n + 1, [-0.5, 30.4, 1, 10.1])):  # both just fit
                entry = {"id": id_, "image_id": n, "category_id": 1 + id_ % 2, "bbox": box, "area": 10, "iscrowd": 0}
                content["annotations"].append(entry)
        (root / "annotations").mkdir(exist_ok=True)
        (root / f"annotations/{part}.json").write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path):
    make_set(tmp_path / "set")
    return tmp_path / "set"


def change(root, function, part="train"):
    """Change an annotation file by a function of its content."""
    path = root / f"annotations/{part}.json"
    content = json.loads(path.read_text())
    function(content)
    path.write_text(json.dumps(content))


def findings(root, classes=None):
    """What is found: kind -> lines, of the test file and of the training file."""
    files, _ = coco_check.find(root)
    coco_check.check(files, classes)
    assert [file.name for file in files] == ["annotations/test.json", "annotations/train.json"]
    return [{kind: lines for kind, lines in file.findings.items() if lines} for file in files]


def run(*args):
    """The tool in this process: exit code and output."""
    done = run_here("tools/check_coco.py", *args)
    return done.returncode, done.stdout, done.stderr


def test_a_clean_set_has_no_problems(root):
    assert findings(root, {"ship", "car"}) == [{}, {}]
    assert [file.folder.as_posix() for file in coco_check.find(root)[0]] == ["images/test", "images/train"]


def entry(part, number, **values):
    return lambda content: content[part][number].update(values)


def repeat(part, number, **values):
    return lambda content: content[part].append(content[part][number] | values)


CHANGES = {  # name -> change of the training file, what is found there then
    "image id": (repeat("images", 0, file_name="./0.png"), {coco_check.IMAGE_IDS: ["id 0 stands 2 times"]}),
    "file name": (
        repeat("images", 0, id=9),
        {coco_check.FILE_NAMES: ["file_name '0.png' stands 2 times"], coco_check.WITHOUT_BOXES: ["image 9, 0.png"]},
    ),
    "annotation id 0": (
        entry("annotations", 2, id=0),
        {
            coco_check.ID_ZERO: [
                "annotation 0 of image 1, 1.png: what finds it counts as a false alarm; number boxes from 1"
            ]
        },
    ),
    "annotation id": (
        repeat("annotations", 3, bbox=[5, 5, 9, 9]),
        {coco_check.ANNOTATION_IDS: ["id 3 stands 2 times"]},
    ),
    "category id": (entry("categories", 1, id=1), None),
    "category name": (
        repeat("categories", 1, id=3),
        {coco_check.CATEGORIES: ["name 'car' stands 2 times"], coco_check.UNUSED: ["'car', id 3"]},
    ),
    "root category": (
        lambda content: content["categories"].insert(0, {"id": 0, "name": "sets-x1"}),
        {coco_check.UNUSED: ["'sets-x1', id 0"]},
    ),
    "no boxes": (
        lambda content: content["annotations"].clear(),
        {
            coco_check.WITHOUT_BOXES: [f"image {n}, {n}.png" for n in range(3)],
            coco_check.UNUSED: ["'ship', id 1", "'car', id 2"],
            coco_check.NO_BOXES: ["annotations/train.json: none of its 0 boxes can be trained on"],
        },
    ),
    "crowds alone": (
        lambda content: [box.update(iscrowd=1) for box in content["annotations"]],
        {coco_check.NO_BOXES: ["annotations/train.json: none of its 6 boxes can be trained on"]},
    ),
    "no iscrowd": (
        lambda content: content["annotations"][0].pop("iscrowd"),
        {coco_check.CROWD: ["annotation 100 of image 0, 0.png: iscrowd is 'missing'; training here takes it for 0"]},
    ),
    "null iscrowd": (
        entry("annotations", 0, iscrowd=None),
        {coco_check.CROWD: ["annotation 100 of image 0, 0.png: iscrowd is None; training here takes it for 0"]},
    ),
    "text for iscrowd": (
        entry("annotations", 0, iscrowd="True"),
        {coco_check.CROWD: ["annotation 100 of image 0, 0.png: iscrowd is 'True'; training here takes it for 1"]},
    ),
    "annotation id as text": (
        entry("annotations", 0, id="a"),
        {coco_check.BAD_IDS: ["annotations[0]: id is 'a'"]},
    ),
    "annotation id without end": (
        entry("annotations", 0, id=float("inf")),
        {coco_check.BAD_IDS: ["annotations[0]: id is inf"]},
    ),
    "annotation id that is not exact": (
        entry("annotations", 0, id=2**53),
        {coco_check.BAD_IDS: [f"annotations[0]: id is {2**53}"]},
    ),
    "large annotation id": (entry("annotations", 0, id=10**12), {}),
    "label without end": (
        entry("annotations", 2, category_id=float("inf")),
        {
            coco_check.BAD_IDS: ["annotations[2]: category_id is inf"],
            coco_check.NO_CATEGORY: ["annotation 2 of image 1, 1.png: there is no category inf"],
        },
    ),
    "large label": (
        entry("annotations", 2, category_id=10**12),
        {coco_check.NO_CATEGORY: [f"annotation 2 of image 1, 1.png: there is no category {10**12}"]},
    ),
    "other size": (
        entry("images", 1, width=40, height=60),
        {coco_check.OTHER_SIZE: ["image 1, 1.png: stated 40 x 60, it has 60 x 40"]},
    ),
    "no size": (
        lambda content: content["images"][1].pop("width"),
        {coco_check.OTHER_SIZE: ["image 1, 1.png: stated None x 40, it has 60 x 40"]},
    ),
    "box of no image": (
        repeat("annotations", 0, id=70, image_id="0"),
        {coco_check.NO_IMAGE: ["annotation 70: there is no image '0'"]},
    ),
    "box of no category": (
        entry("annotations", 2, category_id=0),
        {coco_check.NO_CATEGORY: ["annotation 2 of image 1, 1.png: there is no category 0"]},
    ),
    "outside on the right": (
        entry("annotations", 2, bbox=[10, 10, 51, 10]),
        {coco_check.OUTSIDE: ["annotation 2 of image 1, 1.png: bbox [10, 10, 51, 10] reaches 1 px out of 60 x 40"]},
    ),
    "outside at the top": (
        entry("annotations", 2, bbox=[10, -0.6, 5, 10]),
        {coco_check.OUTSIDE: ["annotation 2 of image 1, 1.png: bbox [10, -0.6, 5, 10] reaches 0.6 px out of 60 x 40"]},
    ),
    "outside and far": (
        entry("annotations", 2, bbox=[10**308, 0, 10**308, 5]),
        {coco_check.OUTSIDE: [rf"annotation 2 of image 1, 1.png: bbox [{10**308}, 0, {10**308}, 5] "
                              "reaches inf px out of 60 x 40"]},
    ),
    "without boxes": (
        lambda content: content["annotations"].__delitem__(slice(0, 2)),
        {coco_check.WITHOUT_BOXES: ["image 0, 0.png"]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_each_problem_of_the_entries_is_found(root, name):
    function, expected = CHANGES[name]
    change(root, function)
    test, train = findings(root)
    if name == "category id":  # category 2 is then unknown, too
        assert train.pop(coco_check.CATEGORIES) == ["id 1 stands 2 times"]
        assert len(train.pop(coco_check.NO_CATEGORY)) == 3
        expected = {}
    assert train == expected
    assert test == ({coco_check.CLASSES: ["'sets-x1' is missing"]} if name == "root category" else {})


@pytest.mark.parametrize(
    "values",
    [
        {"bbox": [5, 5, 0.5, 9]},
        {"bbox": [5, 5, 9, -9]},
        {"bbox": [5, 5, 9]},
        {"bbox": [5, 5, 9, "9"]},
        {"bbox": [5, 5, float("inf"), float("nan")]},
        {"bbox": [5, 5, 9, 10**400]},
        {"bbox": None},
        {"area": 0},
        {"area": None},
    ],
)
def test_boxes_without_area_are_found(root, values):
    change(root, entry("annotations", 4, **values))
    test, train = findings(root)
    assert [len(lines) for lines in train.values()] == [1]
    assert train[coco_check.NO_AREA][0].startswith("annotation 4 of image 2, 2.png: bbox ")
    assert test == {}


def test_missing_and_unreadable_images_are_found_and_boxes_still_checked(root):
    (root / "images/train/0.png").unlink()
    (root / "images/train/2.png").write_bytes(b"no image")
    change(root, entry("annotations", 0, bbox=[0, 0, 90, 40]))
    change(root, entry("images", 1, file_name="a\0b" + 300 * "c"))
    _, train = findings(root)
    assert train[coco_check.MISSING] == ["image 0, 0.png", "image 1, a\0b" + 300 * "c"]
    assert len(train[coco_check.UNREADABLE]) == 1
    assert re.match(r"image 2, 2\.png: .*2\.png cannot be read as an image", train[coco_check.UNREADABLE][0])
    assert len(train[coco_check.OUTSIDE]) == 1
    assert train[coco_check.OUTSIDE][0].endswith("bbox [0, 0, 90, 40] reaches 30 px out of 60 x 40")


def test_images_alike_are_found_by_their_pixels(root):
    with Image.open(root / "images/train/1.png") as image:
        image.save(root / "images/test/0.png", compress_level=1)
        image.convert("RGB").save(root / "images/train/2.png")
    test, train = findings(root)
    assert test == {coco_check.SHARED: ["0.png is 1.png of annotations/train.json"]}
    assert train == {
        coco_check.TWICE: ["2.png is 1.png"],
        coco_check.SHARED: [f"{n}.png is 0.png of annotations/test.json" for n in (1, 2)],
    }


def test_empty_images_and_other_shapes_are_not_alike(root):
    for path in ("train/0.png", "train/1.png", "test/0.png"):
        Image.new("L", (60, 40)).save(root / "images" / path)
    values = np.arange(2400, dtype=np.uint8)
    Image.fromarray(values.reshape(40, 60)).save(root / "images/train/2.png")
    Image.fromarray(values.reshape(60, 40)).save(root / "images/test/1.png")
    change(root, entry("images", 1, width=40, height=60), "test")
    change(root, lambda content: content["annotations"].pop(2), "test")  # it would reach outside
    assert findings(root) == [{}, {}]


def test_classes_are_compared_between_files_and_with_a_config(root):
    change(root, entry("categories", 0, name="tank"))
    test, train = findings(root)
    assert test == {coco_check.CLASSES: ["'tank' is missing"]}
    assert train == {coco_check.CLASSES: ["'ship' is missing"]}
    test, train = findings(root, {"ship", "car"})
    assert not {coco_check.CONFIG, coco_check.LEFT_OUT} & test.keys()
    assert train[coco_check.CONFIG] == ["'ship' is missing"]
    assert train[coco_check.LEFT_OUT] == ["'tank' is not in the config: its boxes, 3, are left out"]
    test, train = findings(root, {"car"})  # a config may name some
    assert coco_check.CONFIG not in test | train
    assert test[coco_check.LEFT_OUT] == ["'ship' is not in the config: its boxes, 2, are left out"]


def test_folders_of_images_are_found(root, tmp_path):
    change(root, lambda content: [image.update(file_name=f"train/{image['id']}.png") for image in content["images"]])
    (root / "annotations/train.json").rename(root / "annotations/instances_all.json")
    (root / "annotations/test.json").rename(root / "annotations/instances_Test2020.json")
    (root / "images/test").rename(root / "images/zzz")
    (root / "images/zzz").rename(root / "images/test2020")
    (root / "images/loop").symlink_to(root)
    (root / "annotations/.hidden.json").write_text("{")
    (root / "other.json").write_text("[1]")
    files, others = coco_check.find(root)
    assert [(file.name, file.folder.as_posix()) for file in files] == [
        ("annotations/instances_Test2020.json", "images/test2020"),
        ("annotations/instances_all.json", "images"),
    ]
    assert others == ["other.json"]
    (root / "annotations/instances_all.json").rename(root / "few.json")
    (file,), others = coco_check.find(root / "few.json")
    assert (file.name, file.folder.as_posix(), others) == ("few.json", "images", [])


def test_the_folder_with_the_most_images_is_taken(root):
    (root / "train").mkdir()
    (root / "train/0.png").write_bytes((root / "images/train/0.png").read_bytes())
    assert findings(root) == [{}, {}]
    for n in (1, 2):
        (root / f"train/{n}.png").touch()
    assert coco_check.find(root)[0][1].folder == Path("train")  # as many as images/train has, and higher up


def test_one_file_is_checked_from_its_own_folder(root, monkeypatch):
    monkeypatch.chdir(root / "annotations")
    (file,), _ = coco_check.find(Path("train.json"))
    coco_check.check([file])
    assert (file.name, file.folder.as_posix(), file.problems()) == ("annotations/train.json", "images/train", 0)


def test_the_table_and_examples_say_what_was_found(root):
    (root / "other.json").write_text("[1]")
    code, out, _ = run(root)
    assert code == 0
    assert "left out, as other JSON: other.json" in out
    assert re.search(r"ok\n\nproblems: none\n$", out)
    change(root, lambda content: [box.update(bbox=[0, 0, 62, 40]) for box in content["annotations"]])
    change(root, lambda content: content["annotations"].append(content["annotations"][5] | {"id": 77}))
    change(root, lambda content: content["annotations"].__delitem__(slice(0, 2)), "test")
    code, out, _ = run(root)
    assert code == 1
    rows = {line[:40].strip(): line[40:].split() for line in out.splitlines()[1:30]}
    assert rows[""] == ["annotations/test.json", "annotations/train.json"]
    assert rows["folder of the images"] == ["images/test", "images/train"]
    assert (rows["images"], rows["boxes"], rows["classes"]) == (["2", "3"], ["2", "7"], ["2", "2"])
    assert (rows[coco_check.WITHOUT_BOXES], rows[coco_check.OUTSIDE]) == (["1", "0"], ["ok", "7"])
    assert rows[coco_check.NO_AREA] == ["ok", "ok"]
    assert f"{coco_check.WITHOUT_BOXES}, annotations/test.json (for information)\n  image 0, 0.png\n" in out
    below = out.split(f"{coco_check.OUTSIDE}, annotations/train.json\n")[1].splitlines()
    assert below[0] == "  annotation 100 of image 0, 0.png: bbox [0, 0, 62, 40] reaches 2 px out of 60 x 40"
    assert below[5:] == ["  and 2 more", "", "problems: 8"]
    assert rows[coco_check.DOUBLED] == ["ok", "1"]


def test_the_tool_compares_with_a_config(root, tmp_path):
    dataset = "dict(dataset=dict(metainfo=dict(classes=('car', {}))))"
    same, other, mixed, none = (tmp_path / f"{name}.py" for name in ("same", "other", "mixed", "none"))
    for path, names in ((same, ("ship",) * 3), (other, ("tank",) * 3), (mixed, ("ship", "ship", "tank"))):
        parts = zip(("train", "val", "test"), names, strict=True)
        path.write_text("\n".join(f"{part}_dataloader = {dataset.format(repr(name))}" for part, name in parts))
    none.write_text("model = dict()")
    assert run(root, "--config", same)[0] == 0
    code, out, _ = run(root, "--config", other)
    assert (code, "'ship' is not in the config" in out, out.endswith("problems: 2\n")) == (1, True, True)
    for path, sentence in (
        (mixed, "has not the same classes for training"),
        (none, "has no classes for training, validation and test"),
    ):
        code, _, error = run(root, "--config", path)
        assert code == 2
        assert f"{path} {sentence}" in error


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"images": [', "train.json is no JSON: "),
        ("[" * 100_000, "train.json is no JSON: "),
        (f'{{"images": [{"9" * 5000}]}}', "train.json is no JSON: "),
        ('{"images": [], "annotations": null, "categories": []}', "train.json: annotations is no list"),
        ('{"images": {}, "annotations": [], "categories": []}', "train.json: images is no list"),
        ('{"images": [3], "annotations": [], "categories": []}', r"train.json: images\[0\] has no id"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', r"images\[0\] has no file_name"),
        ('{"images": [{"id": [], "file_name": "a"}], "annotations": [], "categories": []}', r"images\[0\] has no id"),
        ('{"images": [], "annotations": [{"id": 1}], "categories": []}', r"annotations\[0\] has no image_id"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": null}]}', r"categories\[0\] has no name"),
    ],
)
def test_unusable_files_get_one_sentence(root, text, sentence):
    (root / "annotations/train.json").write_text(text)
    with pytest.raises(InputError, match=sentence) as error:
        coco_check.find(root)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_files_with_a_byte_order_mark_are_read(root, encoding):
    path = root / "annotations/train.json"
    path.write_bytes(path.read_text().encode(encoding))
    assert findings(root) == [{}, {}]


def test_a_file_without_the_list_of_annotations_has_no_boxes(root):
    change(root, lambda content: content.pop("annotations"))
    _, train = findings(root)
    assert len(train[coco_check.NO_BOXES]) == 1


def test_heads_are_compared_with_the_classes(root, tmp_path):
    text = f"_base_ = {str(STAGE / 'configs/_hivit_/hivit_tiny_simulated.py')!r}\n"
    for part in ("train", "val", "test"):
        text += f"{part}_dataloader = dict(dataset=dict(metainfo=dict(classes=('car', 'ship'))))\n"
    (tmp_path / "fits.py").write_text(text)
    assert run(root, "--config", tmp_path / "fits.py")[:2][0] == 0
    (tmp_path / "one.py").write_text(f"{text}model = dict(roi_head=dict(bbox_head=dict(num_classes=1)))\n")
    code, out, _ = run(root, "--config", tmp_path / "one.py")
    assert (code, out.splitlines()[-1]) == (1, "problems: 1")
    assert "  model.roi_head.bbox_head.num_classes is 1, and the data set has 2 classes: car, ship\n" in out
    (tmp_path / "order.py").write_text(
        f"{text}test_dataloader = dict(dataset=dict(metainfo=dict(classes=('ship', 'car'))))\n"
    )
    code, _, error = run(root, "--config", tmp_path / "order.py")
    assert (code, "in the same order" in error) == (2, True)
    (tmp_path / "unknown.py").write_text(f"{text}model = dict(backbone=dict(type='NothingLikeIt'))\n")
    code, _, error = run(root, "--config", tmp_path / "unknown.py")
    assert (code, "unknown.py cannot be built: " in error, error.count("\n")) == (2, True, 1)


def test_a_wrapped_set_and_no_validation_are_compared_too(root, tmp_path):
    train = "dict(dataset=dict(type='RepeatDataset', times=2, dataset=dict(metainfo=dict(classes=('car', 'ship')))))"
    test = "dict(dataset=dict(metainfo=dict(classes=('car', 'ship'))))"
    (tmp_path / "wrapped.py").write_text(
        f"train_dataloader = {train}\nval_dataloader = None\ntest_dataloader = {test}\n"
    )
    assert run(root, "--config", tmp_path / "wrapped.py")[0] == 0


def test_a_folder_without_annotation_files_is_refused(tmp_path):
    (tmp_path / "list.json").write_text("[]")
    for path in (tmp_path, tmp_path / "list.json"):
        with pytest.raises(InputError, match="is or holds no COCO annotation file"):
            coco_check.find(path)
    code, out, error = run(tmp_path / "absent")
    assert (code, out) == (2, "")
    assert error.startswith(f"error: {tmp_path / 'absent'}: no such file or folder; give ")


def test_the_command_needs_no_pytorch(root, tmp_path):
    change(root, entry("images", 0, file_name="\ud800.png"))  # a name that cannot be printed
    done, imported = run_and_list_imports("tools/check_coco.py", "set", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert {"coco_annotations", "saratrx", "numpy"} <= imported
    assert not imported & {"torch", "torchvision", "timm", "mmengine", "mmcv", "mmdet", "hivit_det"}
    assert r"image 0, \ud800.png" in done.stdout
    assert done.stdout.endswith("problems: 1\n")
