"""Pascal VOC to COCO: boxes by hand-made numbers, and one sentence for files that cannot be converted."""

import json

import numpy as np
import pytest
from detection_tools import run_and_list_imports, run_here
from PIL import Image

import hivit_det
from coco_annotations import coco_check, voc
from saratrx.errors import InputError

SIZE = "<size><width>60</width><height>40</height><depth>1</depth></size>"


def box(name, corners, difficult=0):
    edges = "".join(
        f"<{edge}>{value}</{edge}>" for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    )
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{edges}</bndbox></object>"


def write_xml(folder, stem, *objects, filename=None, size=SIZE):
    folder.mkdir(exist_ok=True)
    filename = f"{stem}.png" if filename is None else filename
    text = f"<annotation><filename>{filename}</filename>{size}{''.join(objects)}</annotation>"
    (folder / f"{stem}.xml").write_text(text)


def make_images(folder, *names):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for name in names:
        Image.fromarray(rng.integers(0, 255, (40, 60), np.uint8)).save(folder / name)


def convert(folder, **options):
    return voc.convert(voc.xml_files(folder, options.pop("list_file", None)), **options)


def test_pixels_counted_from_one_become_edges(tmp_path):
    write_xml(tmp_path, "b", box("ship", (1, 1, 60, 40)), box("car", (11, 21, 11, 30), difficult=1))
    write_xml(tmp_path, "a", box("ship", (10.5, 1, 20, 2.25)))
    write_xml(tmp_path, "._a", filename="macOS.png")
    assert convert(tmp_path) == {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 60, "height": 40},
            {"id": 2, "file_name": "b.png", "width": 60, "height": 40},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 2, "bbox": [9.5, 0, 10.5, 2.25], "area": 23.625, "iscrowd": 0},
            {"id": 2, "image_id": 2, "category_id": 2, "bbox": [0, 0, 60, 40], "area": 2400, "iscrowd": 0},
            {"id": 3, "image_id": 2, "category_id": 1, "bbox": [10, 20, 1, 10], "area": 10, "iscrowd": 1},
        ],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "ship"}],
    }


def test_edges_counted_from_zero_stay(tmp_path):
    write_xml(tmp_path, "a", box("ship", (0, 0, 60, 40)), box("ship", (10, 20.5, 11, 30)))
    boxes = [annotation["bbox"] for annotation in convert(tmp_path, from_zero=True)["annotations"]]
    assert boxes == [[0, 0, 60, 40], [10, 20.5, 1, 9.5]]
    with pytest.raises(InputError, match=r"a\.xml has a box that begins at 0, .* give --from-zero$"):
        convert(tmp_path)


def test_a_list_chooses_images_and_classes_fix_the_ids(tmp_path):
    for stem in "abcdef":
        write_xml(tmp_path / "xml", stem, box("ship", (1, 1, 5, 5)))
    chosen = tmp_path / "train.txt"
    chosen.write_text("f\nd 1\nc -1\n\na 1\ne\nc\n")
    content = convert(tmp_path / "xml", list_file=chosen, classes=["tank", "ship"])
    assert [image["file_name"] for image in content["images"]] == [f"{stem}.png" for stem in "acdef"]
    assert [annotation["category_id"] for annotation in content["annotations"]] == [2] * 5
    assert content["categories"] == [{"id": 1, "name": "tank"}, {"id": 2, "name": "ship"}]
    for text, sentence in (("a\nx\n", r"x\.xml: no such file, though .*train\.txt has x"), ("\n", "no XML file")):
        chosen.write_text(text)
        with pytest.raises(InputError, match=sentence):
            convert(tmp_path / "xml", list_file=chosen)


def test_names_and_sizes_come_from_the_images_where_the_xml_lacks_them(tmp_path):
    images, folder = tmp_path / "images", tmp_path / "xml"
    make_images(images, "a.png", "b.PNG", "c.bmp", "d.png", "x.png")
    write_xml(folder, "a", filename="x.png", size="")
    write_xml(folder, "b", filename="b", size=SIZE.replace("40", "0"))
    write_xml(folder, "c", filename="", size="<size><width/><height/></size>")
    write_xml(folder, "d", filename="renamed_since.jpg")
    content = convert(folder, images=images)
    assert [image["file_name"] for image in content["images"]] == ["x.png", "b.PNG", "c.bmp", "d.png"]
    assert {(image["width"], image["height"]) for image in content["images"]} == {(60, 40)}
    make_images(images, "c.png")
    with pytest.raises(InputError, match=r"has 2 images called c for .*c\.xml"):
        convert(folder, images=images)
    for stem in "bc":
        with pytest.raises(InputError, match=rf"{stem}\.xml has no <filename> .* give --images FOLDER$"):
            voc.convert([folder / f"{stem}.xml"])
    with pytest.raises(InputError, match=r"a\.xml does not say the size of its image; give --images FOLDER$"):
        convert(folder)
    with pytest.raises(InputError, match="no such folder; give --images"):
        convert(folder, images=tmp_path / "absent")


BOMB = """<?xml version="1.0"?><!DOCTYPE bomb [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><filename>&b;.png</filename></annotation>"""
POLYGON = "<annotation><filename>a.png</filename>{}<objects><object><name>ship</name>{}</object></objects></annotation>"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (BOMB, "cannot be read as XML: it has a document type"),
        (BOMB.replace('version="1.0"', 'version="1.0" encoding="UTF-16"').encode("utf-16"), "it has a document type"),
        ("", "cannot be read as XML: no element found"),
        ("<annotation>", "cannot be read as XML: no element found"),
        ('<?xml version="1.0" encoding="GBK"?><annotation/>', "cannot be read as XML: "),
        ('<?xml version="1.0" encoding="none"?><annotation/>', "cannot be read as XML: "),
        ("<html/>", "is no Pascal VOC annotation: it begins with <html>"),
        (POLYGON.format(SIZE, "<points><point>1,2</point></points>"), "has an object without <bndbox>; polygons"),
        (POLYGON.format(SIZE, "<bndbox><xmin>1</xmin></bndbox>"), "<ymin> is '', not a number"),
        (POLYGON.format(SIZE.replace("60", "wide"), ""), "<size/width> is 'wide', not a number"),
    ],
)
def test_unusable_files_get_one_sentence(tmp_path, text, sentence):
    (tmp_path / "a.xml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=sentence) as error:
        convert(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'a.xml'}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("corners", "sentence"),
    [
        ((5, 5, 4, 9), "a box with no area, of the edges 4 4 4 9"),
        ((5, "nan", 9, 9), "<ymin> is 'nan', not a number"),
        ((5, 5, "", 9), "<xmax> is '', not a number"),
        ((5, -1, 9, 9), "a box that begins at -1"),
    ],
)
def test_unusable_boxes_get_one_sentence(tmp_path, corners, sentence):
    write_xml(tmp_path, "a", box("ship", corners))
    with pytest.raises(InputError, match=sentence):
        convert(tmp_path)


def test_what_does_not_fit_together_is_refused(tmp_path):
    with pytest.raises(InputError, match="names no XML file"):
        convert(tmp_path)
    with pytest.raises(InputError, match="absent: no such folder"):
        convert(tmp_path / "absent")
    write_xml(tmp_path, "a", box("ship", (1, 1, 5, 5)))
    with pytest.raises(InputError, match=r"a\.xml has an object called 'ship'; .* --classes$"):
        convert(tmp_path, classes=["tank"])
    with pytest.raises(InputError, match="--classes ship ship: a name stands twice"):
        convert(tmp_path, classes=["ship", "ship"])
    write_xml(tmp_path, "b", filename="a.png")
    with pytest.raises(InputError, match=r"b\.xml and .*a\.xml are both about a\.png"):
        convert(tmp_path)
    (tmp_path / "b.xml").unlink()
    (tmp_path / "file").touch()
    done = run_here("tools/voc2coco.py", tmp_path, tmp_path / "file/out.json")
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path}/file/out.json cannot be written: File exists\n"


def test_the_command_needs_no_pytorch_and_writes_a_set_that_passes_the_checks_and_loads(tmp_path):
    make_images(tmp_path / "images", "a.png", "b.png")
    write_xml(tmp_path / "xml", "a", box("ship", (1, 2, 30, 40)), box("car", (2, 2, 4, 4), difficult=1))
    write_xml(tmp_path / "xml", "b", box("ship", (5, 5, 60, 40)))
    done, imported = run_and_list_imports("tools/voc2coco.py", "xml", "coco/all.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"coco_annotations", "saratrx", "defusedxml"} <= imported
    assert not imported & {"torch", "torchvision", "timm", "mmengine", "mmcv", "mmdet", "hivit_det"}
    assert done.stdout.splitlines()[-3:] == [
        "coco/all.json: 2 images, 3 boxes, 1 of them difficult",
        "       1 car",
        "       2 ship",
    ]
    output = tmp_path / "coco/all.json"
    done = run_here("tools/voc2coco.py", tmp_path / "xml", output, "--classes", "tank")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}/xml/a.xml has an object called 'ship'")
    assert list(output.parent.iterdir()) == [output]
    assert json.loads(output.read_text()) == convert(tmp_path / "xml")

    (file,), _ = coco_check.find(tmp_path)
    coco_check.check([file], {"car", "ship"})
    assert (file.folder.as_posix(), file.problems()) == ("images", 0)

    data = hivit_det.CocoByName(
        ann_file=str(output), data_prefix={"img": str(tmp_path / "images")}, metainfo={"classes": ("ship", "car")},
        pipeline=[],
    )  # fmt: skip
    first, second = data[0], data[1]
    assert (first["img_path"], first["width"], first["height"]) == (str(tmp_path / "images/a.png"), 60, 40)
    found = [(box["bbox"], box["bbox_label"], box["ignore_flag"]) for box in first["instances"]]
    assert found == [([0, 1, 30, 40], 0, 0), ([1, 1, 4, 4], 1, 1)]
    assert [box["bbox"] for box in second["instances"]] == [[4, 4, 60, 40]]
